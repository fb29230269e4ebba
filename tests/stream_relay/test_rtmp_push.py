"""A broadcast pushed to nginx-rtmp: picture and tone arrive; a server that goes, refuses or sticks."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from media.codec_worker import CodecPool
from stream_relay import rtmp_push
from stream_relay.broadcast_sound import as_aac
from stream_relay.rtmp_push import RtmpPush
from tests.media.coded_pictures import GREEN, RED
from tests.peers.ffmpeg import run_ffmpeg
from tests.peers.nginx_rtmp import nginx_rtmp
from tests.peers.picture import Region, load, shows
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.sound import hears, read_wav
from tests.peers.waiting import until
from tests.stream_relay.programme import Programme, playing

LOWER = Region(0.2, 0.4, 0.8, 0.9)


@pytest.fixture
def port() -> Any:
    with PortBlock() as block:
        yield block.take()


async def _state(push: RtmpPush) -> str:
    return push.state


async def pushing(push: RtmpPush, timeout: float = 10) -> None:
    await until(lambda: _state(push), lambda state: state == "pushing", "the push to be taken", timeout)


async def _look(folder: Path, port: int, colour: tuple[int, int, int]) -> None:
    """What a viewer of the platform sees and hears for two seconds."""
    picture, tone = folder / "seen.png", folder / "heard.wav"
    source = f"rtmp://127.0.0.1:{port}/live/s3cret"
    await run_ffmpeg(
        folder, "-y", "-i", source, "-t", "2", "-map", "0:v", "-update", "1", str(picture), "-t", "2",
        "-map", "0:a", "-ac", "1", "-c:a", "pcm_s16le", str(tone), timeout=20,
    )  # fmt: skip
    assert shows(load(picture), colour, LOWER, 40)
    heard = read_wav(tone)
    assert heard.seconds > 1
    assert hears(heard.last(1), 440)


@requires("nginx-rtmp", "ffmpeg")
async def test_picture_and_tone_arrive_and_again_after_the_server_was_gone(tmp_path: Path, port: int) -> None:
    programme, pool = Programme("programme:c1", RED), CodecPool(1)
    push = RtmpPush(f"rtmp://127.0.0.1:{port}/live/s3cret")
    async with playing(programme):
        assert programme.video is not None
        assert programme.sound is not None
        async with as_aac(programme.sound, pool) as sound:
            running = asyncio.create_task(push.run(programme.video, sound))
            async with nginx_rtmp(tmp_path / "first", port):
                await pushing(push)
                await _look(tmp_path, port, (255, 25, 0))
            await until(lambda: _state(push), lambda state: state == "waiting", "the push to wait", 5)
            assert push.detail
            assert "s3cret" not in push.detail
            async with nginx_rtmp(tmp_path / "second", port):
                await pushing(push)
                assert (push.detail, push.connections) == ("", 2)
                await _look(tmp_path, port, (255, 25, 0))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    await pool.aclose()
    assert push.dropped == 0


@requires("nginx-rtmp", "ffmpeg")
async def test_b_frames_keep_their_order(tmp_path: Path, port: int) -> None:
    from media.packet import Format
    from media.stream import Stream
    from tests.media.coded_pictures import coded

    video = Stream("camera:1", Format("H264", 90_000))
    packets = coded([RED] * 25 + [GREEN] * 100, b_frames=2)
    push = RtmpPush(f"rtmp://127.0.0.1:{port}/live/s3cret")
    async with nginx_rtmp(tmp_path / "nginx", port):
        running = asyncio.create_task(push.run(video, None))
        await pushing(push)
        source = f"rtmp://127.0.0.1:{port}/live/s3cret"
        out = tmp_path / "times.txt"
        looking = asyncio.create_task(
            run_ffmpeg(
                tmp_path,
                "-y",
                "-i",
                source,
                "-frames:v",
                "40",
                "-fps_mode",
                "passthrough",
                "-f",
                "framecrc",
                str(out),
                timeout=20,
            )
        )
        for round_number in range(4):
            for packet in packets:
                video.publish(
                    type(packet)(
                        packet.data, packet.pts + round_number * 125 * 3600, packet.arrival, packet.keyframe
                    )
                )
                await asyncio.sleep(0.02)
                if looking.done():
                    break
        await looking
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    times = [int(line.split(",")[2]) for line in out.read_text().splitlines() if not line.startswith("#")]
    assert len(times) == 40
    assert times == sorted(times)
    assert len(set(times)) == 40


@requires("nginx-rtmp")
async def test_a_server_that_refuses_is_told_in_its_words(tmp_path: Path, port: int) -> None:
    programme = Programme("programme:c1", RED)
    push = RtmpPush(f"rtmp://127.0.0.1:{port}/nowhere/s3cret")
    async with nginx_rtmp(tmp_path / "nginx", port), playing(programme):
        assert programme.video is not None
        running = asyncio.create_task(push.run(programme.video, None))
        await until(lambda: _detail(push), bool, "the refusal", 8)
        assert push.detail.startswith("the server ")
        assert "s3cret" not in push.detail
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_host_that_is_no_name_is_said_and_tried_again() -> None:
    programme = Programme("programme:c1", RED)
    push = RtmpPush("rtmp://live..example/live/s3cret")
    async with playing(programme):
        assert programme.video is not None
        running = asyncio.create_task(push.run(programme.video, None))
        await until(lambda: _detail(push), bool, "the failure", 5)
        assert push.detail == "the platform's host is no name that can be looked up"
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _detail(push: RtmpPush) -> str:
    return push.detail


async def test_a_server_that_reads_nothing_is_left_and_ends_with_us_at_once(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It agrees to everything, and then takes no byte more."""
    monkeypatch.setattr(rtmp_push, "STUCK_SECONDS", 0.5)
    monkeypatch.setattr(rtmp_push, "CONNECT_SECONDS", 0.5)
    held = asyncio.Event()

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    server = await asyncio.start_server(stuck, "127.0.0.1", port)
    programme = Programme("programme:c1", RED)
    push = RtmpPush(f"rtmp://127.0.0.1:{port}/live/s3cret")
    async with playing(programme):
        assert programme.video is not None
        running = asyncio.create_task(push.run(programme.video, None))
        await until(lambda: _detail(push), bool, "the push to give up", 5)
        assert push.detail == "the server did not agree within 0.5 s"
        await until(lambda: _state(push), lambda state: state == "connecting", "the next try", 5)
        running.cancel()
        async with asyncio.timeout(0.5):
            await asyncio.gather(running, return_exceptions=True)
    held.set()
    server.close()
