"""SUBSCRIBE and NOTIFY of the conference event package over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from xml.etree import ElementTree

import pytest

from foundation.clock import FakeClock
from foundation.passwords import Passwords
from protocols.sip.message import Request, Response
from signaling.conference_events import MOST_OF_ONE, PAUSE
from signaling.conference_info import CONFERENCE_INFO, NAMESPACE
from signaling.sip_service import SipService
from tests.peers.waiting import until
from tests.signaling.house import House
from tests.signaling.sip_raw import OFFER, RawPeer, inside
from tests.signaling.switchboard import SignedPeer, loopback_is, switchboard
from tests.signaling.test_conference_info import entities, parsed

pytestmark = pytest.mark.asyncio
MEETING = {"To": "<sip:8001@127.0.0.1>", "uri": "sip:8001@127.0.0.1"}


@pytest.fixture
async def service(house: House, clock: FakeClock, passwords: Passwords) -> AsyncIterator[SipService]:
    await loopback_is(house, "nanning")
    async with switchboard(house, clock, passwords) as service:
        yield service


class Subscriber(RawPeer):
    """Subscribes to meeting 8001, and reads what comes."""

    def __init__(self, service: SipService) -> None:
        super().__init__(service.endpoint)
        self.number = 0
        self.accepted: Response

    async def subscribe(self, **changes: str) -> Response:
        self.number += 1
        fields = {"To": "<sip:8001@127.0.0.1>", "Event": "conference", "CSeq": f"{self.number} SUBSCRIBE"}
        fields |= {"Call_ID": f"s-{self.port}", **changes}
        self.send(self.compose("SUBSCRIBE", b"", branch=f"z9hG4bKs{self.port}{self.number}", **fields))
        self.accepted = await self.response()
        return self.accepted

    def again(self, **fields: str) -> None:
        self.number += 1
        call = {"Call_ID": f"s-{self.port}", "Event": "conference", **fields}
        self.send(inside(self, self.accepted, "SUBSCRIBE", self.number, b"", **call))

    async def notified(self, status: int = 200) -> tuple[str, Request]:
        """The next NOTIFY, answered: its state."""
        notify = await self.request("NOTIFY")
        self.reply(notify, status)
        assert notify.headers.get("Event") == "conference"
        return notify.headers.get("Subscription-State") or "", notify


def document(notify: Request) -> ElementTree.Element:
    assert notify.headers.get("Content-Type") == CONFERENCE_INFO
    return parsed(notify.body)


def version(notify: Request) -> tuple[str, int]:
    root = document(notify)
    return root.attrib["state"], int(root.attrib["version"])


async def test_a_roster_is_told_whole_and_then_as_it_changes(service: SipService, house: House) -> None:
    member = await house.join("first")
    async with Subscriber(service) as peer:
        accepted = await peer.subscribe(Expires="600")
        assert (accepted.status, accepted.headers.get("Expires")) == (200, "600")
        assert "isfocus" in (accepted.headers.get("Contact") or "")
        state, notify = await peer.notified()
        assert state == "active;expires=600"
        assert version(notify) == ("full", 1)
        assert list(entities(document(notify))) == ["sip:first@192.0.2.1"]
        began = asyncio.get_running_loop().time()
        second = await house.join("second", "guangxi")
        await house.meetings.leave(member.participant_id, "left")
        _, notify = await peer.notified()
        assert asyncio.get_running_loop().time() - began > PAUSE / 2, "once a second at most"
        assert version(notify) == ("partial", 2)
        assert entities(document(notify)) == {
            "sip:second@192.0.2.1": "full",
            "sip:first@192.0.2.1": "deleted",
        }
        peer.again(Expires="1200")
        assert (await peer.response(200)).headers.get("Expires") == "1200"
        state, notify = await peer.notified()
        assert state == "active;expires=1200"
        assert version(notify) == ("full", 3), "a refresh brings all of it"
        await house.meetings.end(house.meeting.conference_id, "over")
        state, notify = await peer.notified()
        assert state == "terminated;reason=noresource"
        assert document(notify).find(f".//{{{NAMESPACE}}}active").text == "false"  # type: ignore[union-attr]  # there
        assert second.participant_id
        await nobody_watches(service)


async def nobody_watches(service: SipService) -> None:
    async def watching() -> int:
        return len(service.events)

    await until(watching, lambda count: count == 0, "the subscription to be over", 6.0, interval=0.02)
    assert not service.endpoint._core.dialogs


async def test_a_fetch_and_an_unsubscription(service: SipService) -> None:
    async with Subscriber(service) as peer:
        assert (await peer.subscribe(Expires="0")).status == 200
        state, notify = await peer.notified()
        assert state == "terminated;reason=timeout"
        assert version(notify) == ("full", 1)
        await nobody_watches(service)
    async with Subscriber(service) as peer:
        await peer.subscribe()
        assert (await peer.notified())[0] == "active;expires=3600"
        peer.again(Expires="0")
        await peer.response(200)
        assert (await peer.notified())[0] == "terminated;reason=timeout"
        await nobody_watches(service)
        peer.again(Expires="600")
        assert (await peer.response()).status == 481


@pytest.mark.parametrize("status", [481, 500])
async def test_a_subscriber_who_does_not_know_of_it_is_forgotten(service: SipService, status: int) -> None:
    async with Subscriber(service) as peer:
        await peer.subscribe()
        await peer.notified(status)
        await nobody_watches(service)


async def test_a_subscriber_who_does_not_answer_is_forgotten(service: SipService) -> None:
    async with Subscriber(service) as peer:
        await peer.subscribe()
        await nobody_watches(service)  # after 64*T1 of repetitions


@pytest.mark.parametrize(
    ("fields", "status", "header"),
    [
        ({"Event": "presence"}, 489, ("Allow-Events", "conference")),
        ({"Event": ""}, 400, None),
        ({"Accept": "text/plain"}, 406, ("Accept", CONFERENCE_INFO)),
        ({"Expires": "30"}, 423, ("Min-Expires", "60")),
        ({"Expires": "soon"}, 400, None),
        ({"uri": "sip:9999@127.0.0.1"}, 404, None),
        ({"To": "<sip:8001@127.0.0.1>;tag=gone"}, 481, None),
    ],
)
async def test_what_cannot_be_subscribed_to(
    service: SipService, fields: dict[str, str], status: int, header: tuple[str, str] | None
) -> None:
    async with Subscriber(service) as peer:
        response = await peer.subscribe(**fields)
        assert response.status == status
        if header is not None:
            assert response.headers.get(header[0]) == header[1]
        assert len(service.events) == 0


async def test_strangers_are_told_nothing(house: House, clock: FakeClock, passwords: Passwords) -> None:
    house.meeting.pin_hash = await passwords.hash("4711")
    async with switchboard(house, clock, passwords) as service:
        async with Subscriber(service) as stranger:
            assert (await stranger.subscribe()).status == 403
        async with Subscriber(service) as guest:
            assert (await guest.subscribe(uri="sip:8001*4711@127.0.0.1")).status == 200
            await guest.notified()
        async with SignedPeer(service) as signed:
            asked = await signed.ask("SUBSCRIBE", b"", Event="conference", **MEETING)
            assert asked.status == 200


async def test_subscriptions_are_bounded(service: SipService) -> None:
    async with Subscriber(service) as peer:
        for number in range(MOST_OF_ONE):
            assert (await peer.subscribe(Call_ID=f"c{number}")).status == 200
            await peer.notified()
        full = await peer.subscribe(Call_ID="one-more")
        assert (full.status, full.headers.get("Retry-After")) == (503, "30")


async def test_a_stop_sends_subscribers_to_the_next_process(service: SipService) -> None:
    async with Subscriber(service) as peer:
        await peer.subscribe()
        await peer.notified()
        closing = asyncio.create_task(service.events.aclose())
        assert (await peer.notified())[0] == "terminated;reason=deactivated"
        await closing


async def test_callers_are_told_that_they_are_in_a_conference(service: SipService) -> None:
    async with SignedPeer(service) as peer:
        answer = await peer.ask("INVITE", OFFER, **MEETING)
        assert answer.contact is not None
        assert "isfocus" in answer.contact.parameters
        assert "conference" in answer.headers.tokens("Allow-Events")
