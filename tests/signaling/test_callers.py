"""Who is calling: account or certificate, else address, else PIN, else nobody; From proves nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from foundation.clock import FakeClock
from foundation.database import Database
from foundation.passwords import Passwords
from foundation.repositories.audit import AuditRepository
from foundation.repositories.sites import SiteAddress, SiteRepository, sip_account
from foundation.throttle import AttemptThrottle
from protocols.sip.digest import HashedPassword, Outcome, Verdict
from signaling.callers import LONGEST_NAME, CallerDirectory, Claim, Unidentified
from signaling.meeting import Meeting

REALM = "county"
ABSENT = Verdict(Outcome.ABSENT, "")
CLAIM = Claim(
    network="lan",
    address="sip:liu@192.0.2.7",
    source="192.0.2.7",
    verdict=ABSENT,
    certified=None,
    claimed="liu",
    display_name="刘 \x07经理",
    pin=None,
)
FREE = 3


@pytest.fixture
async def directory(database: Database, clock: FakeClock, passwords: Passwords) -> CallerDirectory:
    async with database.transaction() as tx:
        sites = SiteRepository(tx)
        await sites.save_sip_account(sip_account("nanning-room", REALM, "secret", "nanning"))
        await sites.save_sip_account(sip_account("guangxi-room", REALM, "secret", "guangxi"))
        await sites.save_address(SiteAddress("lan", "198.51.100.0/24", "guangxi"))
    return CallerDirectory(database, clock, passwords, REALM, AttemptThrottle(clock, free=FREE))


@pytest.fixture
async def meeting(passwords: Passwords) -> Meeting:
    return Meeting("m", "8001", "演练", "nation", await passwords.hash("4711"))


def verified(username: str) -> Verdict:
    return Verdict(Outcome.VERIFIED, username)


async def refused(directory: CallerDirectory, claim: Claim, meeting: Meeting) -> Unidentified:
    with pytest.raises(Unidentified) as caught:
        await directory.resolve(claim, meeting)
    return caught.value


async def audited(database: Database) -> list[tuple[str, str, str]]:
    async with database.reading() as tx:
        rows = await AuditRepository(tx).after(0, 100)
    return [(row.actor, row.outcome, str(json.loads(row.detail)["wrong"])) for row in rows]


async def test_the_account_is_the_site_whatever_the_from_header_says(
    directory: CallerDirectory, meeting: Meeting
) -> None:
    claim = replace(CLAIM, verdict=verified("nanning-room"), claimed="guangxi-room", source="198.51.100.9")
    caller = await directory.resolve(claim, meeting)
    assert (caller.site_id, caller.name, caller.network) == ("nanning", "南宁", "lan")
    assert caller.address == CLAIM.address


async def test_a_certificate_and_an_address_are_identities_too(
    directory: CallerDirectory, meeting: Meeting
) -> None:
    certified = await directory.resolve(replace(CLAIM, certified="nanning-room"), meeting)
    assert certified.site_id == "nanning"
    addressed = await directory.resolve(replace(CLAIM, source="198.51.100.9"), meeting)
    assert addressed.site_id == "guangxi"
    elsewhere = replace(CLAIM, source="198.51.100.9", network="internet")
    assert (await refused(directory, elsewhere, meeting)).status == 403


async def test_the_pin_makes_a_guest_with_a_name_that_can_be_shown(
    directory: CallerDirectory, meeting: Meeting
) -> None:
    guest = await directory.resolve(replace(CLAIM, pin="4711"), meeting)
    assert (guest.site_id, guest.name) == (None, "刘 经理")
    long = await directory.resolve(replace(CLAIM, pin="4711", display_name="长" * 500), meeting)
    assert len(long.name) == LONGEST_NAME
    nameless = await directory.resolve(replace(CLAIM, pin="4711", display_name="\x00"), meeting)
    assert nameless.name == CLAIM.source


async def test_without_any_identity(directory: CallerDirectory, meeting: Meeting) -> None:
    stranger = await refused(directory, CLAIM, meeting)
    assert (stranger.status, stranger.challenge) == (403, False)
    ours = await refused(directory, replace(CLAIM, claimed="nanning-room"), meeting)
    assert (ours.status, ours.challenge) == (401, True)
    meeting.pin_hash = None
    assert (await refused(directory, replace(CLAIM, pin="4711"), meeting)).status == 403


async def test_an_old_nonce_is_asked_for_again_and_counts_as_nothing(
    directory: CallerDirectory, meeting: Meeting, database: Database
) -> None:
    stale = replace(CLAIM, verdict=Verdict(Outcome.STALE, "nanning-room"))
    for _ in range(3 * FREE):
        assert (await refused(directory, stale, meeting)).challenge
    assert await audited(database) == []


@pytest.mark.parametrize("how", ["digest", "pin"])
async def test_wrong_ones_are_audited_slowed_and_forgiven_in_time(
    directory: CallerDirectory, meeting: Meeting, database: Database, clock: FakeClock, how: str
) -> None:
    wrong = (
        replace(CLAIM, verdict=Verdict(Outcome.WRONG, "nanning-room"))
        if how == "digest"
        else replace(CLAIM, pin="0000")
    )
    for _ in range(FREE + 1):
        assert (await refused(directory, wrong, meeting)).status == 403
    what = "account nanning-room" if how == "digest" else "PIN"
    assert await audited(database) == [("liu", "refused", what)] * (FREE + 1)
    right = replace(CLAIM, pin="4711")
    slowed = await refused(directory, right, meeting)
    assert (slowed.status, slowed.reason) == (503, "Too many wrong credentials")
    elsewhere = await directory.resolve(replace(right, source="192.0.2.8"), meeting)
    assert elsewhere.site_id is None
    clock.advance(120.0)
    assert (await directory.resolve(right, meeting)).site_id is None
    assert (await refused(directory, wrong, meeting)).status == 403, "a right PIN starts the count anew"


async def test_secrets_of_accounts(directory: CallerDirectory) -> None:
    assert isinstance(await directory.lookup("nanning-room", REALM), HashedPassword)
    assert await directory.lookup("nanning-room", "elsewhere") is None
    assert await directory.lookup("nobody", REALM) is None
