"""Sites, callers' identities, conferences and participants, on both databases."""

import hashlib
from dataclasses import dataclass, replace

import msgspec
import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.repositories.conferences import (
    Conference,
    ConferenceRepository,
    ConferenceState,
    NumberTaken,
    Participant,
    ParticipantState,
)
from foundation.repositories.sites import (
    Link,
    Site,
    SiteAddress,
    SiteRepository,
    SiteValueError,
    sip_account,
)
from foundation.schema import new_id
from foundation.site_tree import SiteTreeError


async def test_sites_make_a_tree(database: Database) -> None:
    async with database.transaction() as tx:
        sites = SiteRepository(tx)
        await sites.save(Site("wuming", "武鸣", "administration", "nanning", 2_000_000, 10_000_000))
        assert (await sites.tree()).ancestors("wuming") == ("nanning", "guangxi", "nation")
    async with database.reading() as tx:
        sites = SiteRepository(tx)
        assert await sites.get("wuming") == Site(
            "wuming", "武鸣", "administration", "nanning", 2_000_000, 10_000_000
        )
        assert await sites.get("atlantis") is None
        assert [site.id for site in await sites.all()] == ["guangxi", "nanning", "nation", "wuming"]


async def test_saving_again_replaces(database: Database) -> None:
    async with database.transaction() as tx:
        sites = SiteRepository(tx)
        nanning = await sites.get("nanning")
        assert nanning is not None
        await sites.save(replace(nanning, conference_budget_bps=1_500_000))
    async with database.reading() as tx:
        assert await SiteRepository(tx).get("nanning") == replace(nanning, conference_budget_bps=1_500_000)


@pytest.mark.parametrize(
    ("site", "error", "words"),
    [
        (Site("Nan Ning", "x", "city"), SiteValueError, "'Nan Ning' is not lower-case"),
        (Site("x", "x", "city", "atlantis"), SiteTreeError, "'atlantis', which is no site"),
        (Site("nation", "x", "nation", "nanning"), SiteTreeError, "circle"),
        (Site("x", "x", "city", "nation", -1), SiteValueError, "not negative"),
    ],
)
async def test_what_is_no_site_is_refused(
    database: Database, site: Site, error: type[Exception], words: str
) -> None:
    async with database.transaction() as tx:
        with pytest.raises(error, match=words):
            await SiteRepository(tx).save(site)


async def test_removing_a_site(database: Database) -> None:
    async with database.transaction() as tx:
        sites = SiteRepository(tx)
        with pytest.raises(SiteValueError, match="still has sites below"):
            await sites.remove("guangxi")
        assert await sites.remove("nanning")
        assert not await sites.remove("nanning")


async def test_links_join_neighbours(database: Database) -> None:
    up = Link("guangxi-up", "nation", "guangxi", 200_000_000)
    async with database.transaction() as tx:
        sites = SiteRepository(tx)
        await sites.save_link(up)
        await sites.save_link(replace(up, capacity_bps=100_000_000))
        with pytest.raises(SiteValueError, match="nation is not directly above nanning"):
            await sites.save_link(Link("skip", "nation", "nanning", 1))
        with pytest.raises(SiteValueError, match="capacity is positive"):
            await sites.save_link(replace(up, capacity_bps=0))
        assert await sites.links() == (replace(up, capacity_bps=100_000_000),)
        assert await sites.remove_link("guangxi-up")
        assert await sites.links() == ()


async def test_the_longest_prefix_says_who_calls(database: Database) -> None:
    async with database.transaction() as tx:
        sites = SiteRepository(tx)
        for prefix, site in (("10.0.0.0/8", "nation"), ("10.1.0.0/16", "guangxi"), ("10.1.2.3", "nanning")):
            await sites.save_address(SiteAddress("extranet", prefix, site))
        await sites.save_address(SiteAddress("extranet", "2001:db8::/32", "guangxi"))
        assert await sites.site_at("extranet", "10.1.2.3") == "nanning"
        assert await sites.site_at("extranet", "::ffff:10.1.2.3") == "nanning"
        assert await sites.site_at("extranet", "10.1.2.4") == "guangxi"
        assert await sites.site_at("extranet", "10.9.9.9") == "nation"
        assert await sites.site_at("extranet", "2001:db8:1::5") == "guangxi"
        assert await sites.site_at("extranet", "192.0.2.1") is None
        assert await sites.site_at("internet", "10.1.2.3") is None
        with pytest.raises(SiteValueError, match="neither an IP address nor a prefix"):
            await sites.save_address(SiteAddress("extranet", "10.0.0.1/8", "nation"))
        assert await sites.remove_address("extranet", "10.1.2.3/32")
        assert await sites.site_at("extranet", "10.1.2.3") == "guangxi"
        assert len(await sites.addresses()) == 3


async def test_sip_accounts_keep_no_password(database: Database) -> None:
    account = sip_account("room1", "anshi.example", "secret", "nanning")
    assert account.ha1_md5 == hashlib.md5(b"room1:anshi.example:secret").hexdigest()
    assert account.ha1_sha256 == hashlib.sha256(b"room1:anshi.example:secret").hexdigest()
    async with database.transaction() as tx:
        sites = SiteRepository(tx)
        await sites.save_sip_account(account)
        assert await sites.sip_account("room1", "anshi.example") == account
        assert await sites.sip_account("room1", "elsewhere") is None
        assert await sites.sip_accounts() == (account,)
        await sites.remove("nanning")
        assert await sites.sip_accounts() == ()


def conference(clock: FakeClock, number: str = "8001", site: str = "guangxi") -> Conference:
    return Conference(new_id(), number, "安全例会", site, clock.now(), layout={"mode": "mosaic"})


def participant(clock: FakeClock, meeting: Conference, name: str = "南宁") -> Participant:
    return Participant(new_id(), meeting.id, name, "sip:room@10.1.2.3", clock.now(), site_id="nanning")


async def test_conference_lives_once_and_its_number_again(database: Database, clock: FakeClock) -> None:
    first = conference(clock)
    async with database.transaction() as tx:
        conferences = ConferenceRepository(tx)
        await conferences.add(first)
        assert await conferences.get(first.id) == first
        with pytest.raises(NumberTaken, match="8001"):
            await conferences.add(conference(clock))
        started = clock.now()
        assert await conferences.set_state(first.id, ConferenceState.RUNNING, started)
        assert not await conferences.set_state(first.id, ConferenceState.RUNNING, started)
        clock.advance(60)
        assert await conferences.set_state(first.id, ConferenceState.ENDED, clock.now())
        for state in ConferenceState:
            assert not await conferences.set_state(first.id, state, clock.now())
        ended = replace(first, state=ConferenceState.ENDED, started_at=started, ended_at=clock.now())
        assert await conferences.get(first.id) == ended
        assert await conferences.by_number("8001") is None
        second = conference(clock)
        await conferences.add(second)
        assert await conferences.by_number("8001") == second
        assert await conferences.set_layout(second.id, {"mode": "full", "site": "nanning"})
        assert await conferences.rename(second.id, "应急会商")
    async with database.reading() as tx:
        found = await ConferenceRepository(tx).by_number("8001")
    assert found == replace(second, title="应急会商", layout={"mode": "full", "site": "nanning"})


async def test_conferences_are_listed_by_state_and_site(database: Database, clock: FakeClock) -> None:
    made = []
    async with database.transaction() as tx:
        conferences = ConferenceRepository(tx)
        for number, site in (("1", "nation"), ("2", "guangxi"), ("3", "nanning")):
            clock.advance(1)
            made.append(conference(clock, number, site))
            await conferences.add(made[-1])
        await conferences.set_state(made[1].id, ConferenceState.RUNNING, clock.now())

        async def listed(**wanted: object) -> list[str]:
            return [each.number for each in await conferences.all(**wanted)]  # type: ignore[arg-type]  # both kinds

        assert await listed() == ["3", "2", "1"]
        assert await listed(states=[ConferenceState.SCHEDULED]) == ["3", "1"]
        assert await listed(sites={"guangxi", "nanning"}) == ["3", "2"]
        assert await listed(sites=frozenset()) == []
        assert await listed(limit=1) == ["3"]


@dataclass(frozen=True)
class Dialog:
    call_id: str
    sequence: int
    payload_types: dict[int, str]


async def test_participant_comes_goes_and_can_be_picked_up_again(
    database: Database, clock: FakeClock
) -> None:
    meeting = conference(clock)
    who = participant(clock, meeting)
    dialog = Dialog("a@b", 7, {96: "H264"})
    async with database.transaction() as tx:
        conferences = ConferenceRepository(tx)
        await conferences.add(meeting)
        await conferences.add_participant(who)
        guest = replace(participant(clock, meeting, "访客"), site_id=None)
        await conferences.add_participant(guest)
        assert await conferences.set_participant_state(who.id, ParticipantState.CALLING, clock.now())
        joined = clock.now()
        assert await conferences.set_participant_state(who.id, ParticipantState.JOINED, joined)
        assert await conferences.describe(who.id, msgspec.to_builtins(dialog, str_keys=True))
    async with database.reading() as tx:
        stored = await ConferenceRepository(tx).participant(who.id)
    assert stored is not None
    assert (stored.state, stored.joined_at, stored.left_at) == (ParticipantState.JOINED, joined, None)
    assert msgspec.convert(stored.description, Dialog, strict=False) == dialog
    clock.advance(5)
    async with database.transaction() as tx:
        conferences = ConferenceRepository(tx)
        assert await conferences.set_participant_state(who.id, ParticipantState.LEFT, clock.now())
        assert not await conferences.set_participant_state(who.id, ParticipantState.JOINED, clock.now())
        await conferences.log(who.id, "muted", clock.now(), {"by": "liu"})
        assert [each.id for each in await conferences.participants(meeting.id, present=True)] == [guest.id]
        assert len(await conferences.participants(meeting.id)) == 2
        log = await conferences.log_of(who.id)
        assert await conferences.reasons(meeting.id) == {}
        for reason in ("busy", "hung up"):
            await conferences.log(who.id, "reason", clock.now(), {"reason": reason})
        assert await conferences.reasons(meeting.id) == {who.id: "hung up"}
        assert await conferences.reasons(meeting.id, guest.id) == {}
        assert await conferences.reasons("another") == {}
        assert [each.event for each in log] == ["calling", "joined", "left", "muted"]
        assert log[-1].detail == {"by": "liu"}
        assert log[-1].at == clock.now()
        assert await conferences.remove(meeting.id)
        assert await conferences.participant(who.id) is None
        assert await conferences.log_of(who.id) == ()
