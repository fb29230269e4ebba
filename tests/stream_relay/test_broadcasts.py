"""A plan made so: streams opened and opened again, delay, sound that every player takes, push, the end."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from foundation.desks import BroadcastPlan, BroadcastSpec, BroadcastStatus
from foundation.tasks import Backoff
from media.packet import Format
from media.stream import Stream
from stream_relay import broadcast_feed
from stream_relay.broadcasts import Broadcasts
from tests.media.coded_pictures import GREEN, RED
from tests.stream_relay.programme import Programme, playing

SPEC = BroadcastSpec("meeting", "安全生产例会", "programme:c1")


def plan(*specs: BroadcastSpec) -> BroadcastPlan:
    return BroadcastPlan(specs)


async def status(broadcasts: Broadcasts) -> BroadcastStatus:
    (one,) = await broadcasts.report()
    return one


async def until(
    look: Callable[[], Awaitable[BroadcastStatus]],
    holds: Callable[[BroadcastStatus], bool],
    seconds: float = 8,
) -> BroadcastStatus:
    async with asyncio.timeout(seconds):
        while not holds(found := await look()):  # noqa: ASYNC110 - a report has no event
            await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def live(programme: Programme, spec: BroadcastSpec = SPEC) -> AsyncIterator[Broadcasts]:
    async with Broadcasts(programme) as broadcasts:
        await broadcasts.set_plan(plan(spec))
        yield broadcasts


def playlist(broadcasts: Broadcasts) -> str:
    channel = broadcasts.channel("meeting")
    assert channel is not None
    return channel.live.playlist.render()


async def test_it_waits_in_words_goes_live_and_goes_on_when_its_stream_comes_back() -> None:
    programme = Programme("programme:c1", RED)
    async with live(programme) as broadcasts:
        waiting = await until(lambda: status(broadcasts), lambda one: bool(one.detail))
        assert (waiting.state, waiting.detail) == ("waiting", "the programme rests")
        async with playing(programme):
            told = await until(lambda: status(broadcasts), lambda one: one.state == "live")
            assert told.detail == ""
            assert 0 < told.latency < 1.5
            channel = broadcasts.channel("meeting")
            assert channel is not None
            assert channel.live.codecs.endswith("mp4a.40.2")
        await until(lambda: status(broadcasts), lambda one: one.state == "waiting")
        assert programme.holders == 0
        before = channel.live.playlist.next_part
        assert "ENDLIST" not in playlist(broadcasts)
        async with playing(programme):
            await until(lambda: status(broadcasts), lambda one: one.state == "live")
            async with asyncio.timeout(5):
                await channel.live.wait_for(before[0], 0)
            text = playlist(broadcasts)
            assert "#EXT-X-DISCONTINUITY\n" in text
            numbers = [int(found) for found in re.findall(r"part-(\d+)\.\d+\.m4s", text)]
            assert numbers == sorted(numbers)
    assert programme.holders == 0


async def test_a_stream_that_played_a_moment_ago_is_asked_for_again_and_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A killed media worker is back within a second or two: nobody is to wait for a long pause's end then."""
    waits: list[float] = []

    class Impatient(Backoff):
        def next_delay(self) -> float:
            waits.append(super().next_delay())
            return 0.01

    monkeypatch.setattr(broadcast_feed, "Backoff", Impatient)
    programme = Programme("programme:c1", RED)
    async with live(programme) as broadcasts:
        async with playing(programme):
            await until(lambda: status(broadcasts), lambda one: one.state == "live")
        waits.clear()
        while len(waits) < 20:  # noqa: ASYNC110 - nobody is told of a try
            await asyncio.sleep(0.01)
        assert max(waits) <= broadcast_feed.SOON
        monkeypatch.setattr(broadcast_feed, "SOON_FOR", 0.0)
        waits.clear()
        while len(waits) < 10:  # noqa: ASYNC110 - nobody is told of a try
            await asyncio.sleep(0.01)
        assert max(waits) > 2 * broadcast_feed.SOON, "a source that rests is asked seldom"


async def test_what_the_plan_drops_ends_at_once_and_lets_its_stream_go() -> None:
    programme = Programme("programme:c1", RED)
    async with live(programme) as broadcasts, playing(programme):
        await until(lambda: status(broadcasts), lambda one: one.state == "live")
        channel = broadcasts.channel("meeting")
        assert channel is not None
        await broadcasts.set_plan(plan())
        assert channel.stopped
        assert channel.live.playlist.render().endswith("#EXT-X-ENDLIST\n")
        assert await broadcasts.report() == ()
        await programme.wants(0)
        assert broadcasts.channel("meeting") is channel
        assert broadcasts.channel("other") is None


async def test_a_plan_given_twice_changes_nothing_and_a_title_disturbs_nobody() -> None:
    programme = Programme("programme:c1", RED)
    async with live(programme) as broadcasts, playing(programme):
        await until(lambda: status(broadcasts), lambda one: one.state == "live")
        opened = programme.opened
        await broadcasts.set_plan(plan(SPEC))
        await broadcasts.set_plan(plan(BroadcastSpec("meeting", "另一个标题", "programme:c1")))
        channel = broadcasts.channel("meeting")
        assert channel is not None
        assert channel.title == "另一个标题"
        assert programme.opened == opened


async def test_a_delay_holds_everything_back_and_may_change_while_it_runs() -> None:
    programme = Programme("programme:c1", RED)
    late = BroadcastSpec("meeting", "t", "programme:c1", delay=2.0)
    loop = asyncio.get_running_loop()
    async with playing(programme), live(programme, late) as broadcasts:
        began = loop.time()
        told = await until(lambda: status(broadcasts), lambda one: one.state == "live")
        assert loop.time() - began >= 2.0
        assert 2.0 <= told.latency < 3.5
        channel = broadcasts.channel("meeting")
        assert channel is not None
        assert channel.delay == 2.0
        await broadcasts.set_plan(plan(SPEC))
        told = await until(lambda: status(broadcasts), lambda one: 0 < one.latency < 1.5)
        assert "#EXT-X-DISCONTINUITY\n" in playlist(broadcasts)


async def test_a_plan_given_up_half_way_leaves_no_broadcast_behind() -> None:
    """Main was killed, or waited too long for the answer."""
    programme = Programme("programme:c1", RED)
    late = BroadcastSpec("meeting", "t", "programme:c1", delay=0.1)
    async with playing(programme), live(programme) as broadcasts:
        await until(lambda: status(broadcasts), lambda one: one.state == "live")
        opened = programme.opened
        giving = asyncio.create_task(broadcasts.set_plan(plan(late)))
        await asyncio.sleep(0)
        giving.cancel()
        await asyncio.gather(giving, return_exceptions=True)
        await broadcasts.set_plan(plan(late))
        async with asyncio.timeout(5):
            while programme.opened == opened:  # noqa: ASYNC110 - the double has no event
                await asyncio.sleep(0.01)
        await until(lambda: status(broadcasts), lambda one: one.state == "live")


async def test_what_a_delay_may_hold_is_bounded_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcast_feed.DelayLine.__init__, "__defaults__", (4_000,))
    programme = Programme("programme:c1", RED)
    late = BroadcastSpec("meeting", "t", "programme:c1", delay=60.0)
    async with playing(programme), live(programme, late) as broadcasts:
        told = await until(lambda: status(broadcasts), lambda one: one.state == "live")
        assert "the delay is shorter than set" in told.detail


async def test_a_camera_with_g711_is_heard_as_aac_and_a_silent_one_is_shown() -> None:
    camera = Programme("camera:1", GREEN, sound_format=Format("PCMA", 8_000))
    async with playing(camera), live(camera, BroadcastSpec("meeting", "t", "camera:1")) as broadcasts:
        await until(lambda: status(broadcasts), lambda one: one.state == "live")
        channel = broadcasts.channel("meeting")
        assert channel is not None
        assert channel.live.codecs.endswith(",mp4a.40.2")
    silent = Programme("camera:1", GREEN, silent=True)
    async with playing(silent), live(silent, BroadcastSpec("meeting", "t", "camera:1")) as broadcasts:
        told = await until(lambda: status(broadcasts), lambda one: one.state == "live")
        assert told.detail == ""
        channel = broadcasts.channel("meeting")
        assert channel is not None
        assert "mp4a" not in channel.live.codecs


async def test_sound_that_comes_back_in_another_format_is_heard_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And sound that goes for good is not announced any more: browsers would wait for it."""
    monkeypatch.setattr(broadcast_feed, "SOUND_AGAIN", 1.0)
    camera = Programme("camera:1", GREEN, sound_format=Format("PCMA", 8_000))
    async with playing(camera), live(camera, BroadcastSpec("meeting", "t", "camera:1")) as broadcasts:
        await until(lambda: status(broadcasts), lambda one: one.state == "live")
        channel = broadcasts.channel("meeting")
        assert channel is not None
        assert channel.live.codecs.endswith(",mp4a.40.2")
        before, camera.sound = camera.sound, None
        assert before is not None
        before.close()
        async with asyncio.timeout(8):
            while "mp4a" in channel.live.codecs:  # noqa: ASYNC110 - codecs have no event
                await asyncio.sleep(0.02)
        camera.sound = Stream("camera:1/sound", Format("PCMA", 8_000))
        async with asyncio.timeout(8):
            while "mp4a" not in channel.live.codecs:  # noqa: ASYNC110 - codecs have no event
                await asyncio.sleep(0.02)


async def test_sound_that_cannot_be_had_is_left_out_with_words() -> None:
    odd = Programme("camera:1", GREEN, sound_format=Format("G726-32", 8_000))
    async with playing(odd), live(odd, BroadcastSpec("meeting", "t", "camera:1")) as broadcasts:
        told = await until(lambda: status(broadcasts), lambda one: one.state == "live")
        assert told.detail == "without sound: G726-32 sound is not decoded here"


async def test_a_picture_that_cannot_be_broadcast_fails_in_words() -> None:
    programme = Programme("camera:1", GREEN)
    async with playing(programme):
        assert programme.video is not None
        programme.video.format = Format("H265", 90_000)
        async with live(programme, BroadcastSpec("meeting", "t", "camera:1")) as broadcasts:
            told = await until(lambda: status(broadcasts), lambda one: one.state == "failed")
            assert told.detail == "H265 pictures cannot be put in MP4 as they are; H264 can"


async def test_a_push_address_that_is_none_is_said_and_not_repeated() -> None:
    programme = Programme("programme:c1", RED)
    spec = BroadcastSpec("meeting", "t", "programme:c1", push_url="http://platform.example/s3cret")
    async with playing(programme), live(programme, spec) as broadcasts:
        told = await until(lambda: status(broadcasts), lambda one: one.state == "live")
        assert told.push_state == "waiting"
        assert told.push_detail == "an RTMP address looks like rtmp://host/application/stream"
