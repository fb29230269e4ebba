"""A real provider (Kamailio) and a telephone behind it (baresip): called, calling, keying in a number."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.journeys.scene import FULL_TILE, NANNING, WUMING, sees_all
from tests.peers.baresip import Baresip, Room
from tests.peers.kamailio import Kamailio
from tests.peers.media import write_tone
from tests.peers.node import NOBODY, MeetingHandle, Node
from tests.peers.requirement import requires
from tests.peers.waiting import until

pytestmark = [requires("baresip", "kamailio"), pytest.mark.asyncio(loop_scope="module")]

PASSWORD = "a-providers-secret"
OURS, THEIRS = "07715861234", "13800138000"
NUMBER_TONE, PIN_TONE = 520.0, 1320.0
"""What the files say that ask for a meeting's number and PIN."""
TELEPHONE = Room(
    user=THEIRS,
    password=PASSWORD,
    tone=660.0,
    audio_codecs=("PCMA/8000/1",),
    video_codecs=(),
    address="127.0.0.21",
)


def telephone(folder: Path, provider: Kamailio) -> Baresip:
    return Baresip(folder, replace(TELEPHONE, registrar=f"{provider.address}:{provider.port}"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kamailio]:
    async with Kamailio(tmp_path_factory.mktemp("provider"), password=PASSWORD) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory, provider: Kamailio) -> AsyncIterator[Node]:
    trunk = {
        "name": "telecom",
        "server": provider.address,
        "port": provider.port,
        "domain": provider.domain,
        "username": OURS,
        "password": PASSWORD,
        "expires": 60,
        "prefixes": ["1", "0"],
    }
    sounds = tmp_path_factory.mktemp("sounds")
    for name, hertz in (("lobby-number", NUMBER_TONE), ("lobby-pin", PIN_TONE)):
        write_tone(sounds / f"{name}.wav", hertz)
    meetings = {"lobby_number": "8000", "announcements": str(sounds)}
    settings: dict[str, Any] = {"trunks": [trunk], "meetings": meetings}
    async with Node(tmp_path_factory.mktemp("node"), settings=settings) as running:
        await until(lambda: trunk_of(running), lambda row: row["state"] == "registered", "the trunk", 10.0)
        yield running
    await provider.said(f"took REGISTER .* expires 0 from {OURS}")


async def trunk_of(node: Node) -> dict[str, Any]:
    (row,) = await (await node.user()).get("/sip-trunks")
    found: dict[str, Any] = row
    return found


async def test_a_telephone_is_called_over_the_trunk(
    node: Node, provider: Kamailio, meeting: MeetingHandle, tmp_path: Path
) -> None:
    async with (
        Baresip(tmp_path / "room", NANNING) as room,
        telephone(tmp_path / "telephone", provider) as called,
    ):
        await room.dial(meeting.uri)
        await meeting.joined(NANNING.user)
        await provider.said(f"registered {THEIRS} as", 20.0)
        row = await meeting.api.post(f"{meeting.path}/participants", {"address": f"tel:{THEIRS}"})
        await called.established(30.0)
        joined = await meeting.in_state(THEIRS, "connected", timeout=30.0)
        assert (joined["id"], joined["site_id"]) == (row["id"], None)
        await called.hears(NANNING.tone)
        await room.hears(TELEPHONE.tone)
        legs = [leg for leg in (await meeting.report())["legs"] if leg["participant_id"] == row["id"]]
        assert {leg["kind"] for leg in legs} == {"audio"}
        await provider.said(f"call of {OURS} to {THEIRS}, asserted <sip:{OURS}@{provider.domain}>")
        assert (await trunk_of(node))["calls_now"] == 1
        await meeting.api.delete(f"{meeting.path}/participants/{row['id']}")
        await called.closed()
    await until(lambda: trunk_of(node), lambda trunk: trunk["calls_now"] == 0, "the trunk to be free", 5.0)


async def test_a_telephone_calls_and_keys_in_the_meeting_and_its_pin(
    node: Node, provider: Kamailio, tmp_path: Path
) -> None:
    meeting = await node.meeting(pin="4711", number="8123")
    async with (
        Baresip(tmp_path / "room", WUMING) as room,
        telephone(tmp_path / "telephone", provider) as caller,
    ):
        await room.dial(meeting.uri)
        await meeting.joined(WUMING.user)
        await caller.dial(f"sip:{OURS}@{provider.address}:{provider.port}")
        await caller.established(30.0)
        await caller.hears(NUMBER_TONE)
        for key in "8123#":
            await caller.command("sndcode", key)
        await caller.hears(PIN_TONE)
        for key in "4711#":
            await caller.command("sndcode", key)
        joined = await meeting.in_state(THEIRS, "connected", timeout=30.0)
        assert (joined["name"], joined["site_id"]) == (THEIRS, None)
        await caller.hears(WUMING.tone)
        await room.hears(TELEPHONE.tone)
        await caller.hang_up()
        await meeting.left(THEIRS)
    await meeting.command("end")


async def test_a_number_that_nobody_has_says_so(meeting: MeetingHandle) -> None:
    row = await meeting.api.post(f"{meeting.path}/participants", {"address": "0771 000 0000"})
    left = await meeting.left("07710000000")
    assert (left["id"], left["reason"]) == (row["id"], "404 No such subscriber")


async def test_a_room_is_shown_what_to_key_in(node: Node, tmp_path: Path) -> None:
    """Its keys come as telephone events, too: baresip sends them so where they were agreed."""
    meeting = await node.meeting(pin="4711", number="8124")
    async with Baresip(tmp_path / "room", replace(NANNING, address=NOBODY)) as room:
        await room.dial(node.sip_uri("8000"))
        await room.established(30.0)

        async def letters() -> int:
            try:
                picture = await room.picture()
            except AssertionError:
                return 0
            return int((picture.min(axis=2) > 180).sum())

        await until(letters, lambda found: found > 200, "the room to be shown a text", 30.0)
        for key in "8124#4711#":
            await room.command("sndcode", key)
        joined = await meeting.in_state("sip:nanning-room", "connected", timeout=30.0)
        assert joined["site_id"] is None
        await sees_all(room, (FULL_TILE,), NANNING.colour, timeout=30.0)
    await meeting.command("end")


async def test_a_telephone_stays_when_main_is_killed(
    node: Node, provider: Kamailio, meeting: MeetingHandle, tmp_path: Path
) -> None:
    """Its server knows the binding from before, and the call is hung up by the next process."""
    async with (
        Baresip(tmp_path / "room", NANNING) as room,
        telephone(tmp_path / "telephone", provider) as called,
    ):
        await room.dial(meeting.uri)
        await meeting.joined(NANNING.user)
        await provider.said(f"registered {THEIRS} as (.|\\n)*{called.sip_port}", 20.0)
        row = await meeting.api.post(f"{meeting.path}/participants", {"address": THEIRS})
        await called.established(30.0)
        await meeting.in_state(THEIRS, "connected", timeout=30.0)
        await called.hears(NANNING.tone)
        await node.kill("main")
        await until(node.health, lambda health: health is not None and health["status"] == "ok", "main", 60.0)
        assert (await meeting.in_state(THEIRS, "connected"))["id"] == row["id"]
        await called.hears(NANNING.tone)
        await meeting.api.delete(f"{meeting.path}/participants/{row['id']}")
        await called.closed()
