"""Pulling cameras: ours, gst-rtsp-server's, and ones that refuse, stall, lie or change."""

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from foundation.tasks import Backoff
from media.packet import Packet
from stream_relay.camera_source import CameraFault, CameraSettings, CameraSource, CameraState, Cause
from stream_relay.rtsp_server import RtspServer
from tests.media.coded_pictures import RED as RED_YCC
from tests.media.coded_pictures import coded
from tests.peers.gst_camera import gst_camera, pipeline
from tests.peers.picture import BLUE, RED, shows
from tests.peers.ports import PortBlock
from tests.peers.requirement import requires
from tests.peers.waiting import until_true
from tests.stream_relay.cameras import (
    H264_SDP,
    Camera,
    ScriptedCamera,
    Shelf,
    collect,
    coloured_pictures,
    decoded,
    playing,
)

HOST = "127.0.0.1"


@asynccontextmanager
async def pulling(url: str, *, udp: bool = False, **settings: float) -> AsyncIterator[CameraSource]:
    """A source with short times; `settings` are those of CameraSettings."""
    source = CameraSource(
        "test",
        CameraSettings(url, udp=udp, **settings),  # type: ignore[arg-type]  # only floats are passed here
        idle_after=0.1,
        backoff=Backoff(first=0.05, limit=0.2),
    )
    try:
        yield source
    finally:
        await source.aclose()
        assert source.state is CameraState.IDLE


@requires("gst-rtsp-server")
@pytest.mark.parametrize(
    ("udp", "login", "sound"),
    [(False, "digest", "AAC"), (True, "basic", "PCMA"), (True, "digest", "PCMU"), (False, "basic", None)],
)
async def test_a_camera_of_another_make(tmp_path: Path, udp: bool, login: str, sound: str | None) -> None:
    launch = pipeline(0xC82828, sound=sound)
    with PortBlock() as ports:
        port = ports.take()
        async with gst_camera(tmp_path, port, launch, login, "admin", "secret"):
            async with pulling(f"rtsp://admin:secret@{HOST}:{port}/camera", udp=udp) as source, source.hold():
                video = await source.video(10)
                packets = await collect(video, 30)
                assert all(shows(picture, RED) for picture in decoded(packets)[:20])
                heard = await source.sound(5)
                assert (heard is None) is (sound is None)
                if heard is not None:
                    sounds = await collect(heard, 15)
                    assert (
                        np.abs(_samples(heard.format.codec, heard.format.parameters, sounds)) > 0.1
                    ).mean() > 0.3
                    passed = sounds[-1].arrival - sounds[0].arrival
                    counted = (sounds[-1].pts - sounds[0].pts) / heard.format.clock_rate
                    assert counted == pytest.approx(passed, abs=0.3)
            async with pulling(f"rtsp://admin:wrong@{HOST}:{port}/camera", udp=udp) as source, source.hold():
                with pytest.raises(CameraFault) as raised:
                    await source.video(10)
                assert raised.value.cause is Cause.WRONG_PASSWORD


def _samples(codec: str, parameters: dict[str, str], packets: list[Packet]) -> np.ndarray:
    name = {"MPEG4-GENERIC": "aac", "PCMA": "pcm_alaw", "PCMU": "pcm_mulaw"}[codec]
    decoder = av.CodecContext.create(name, "r")
    assert isinstance(decoder, av.AudioCodecContext)
    if name == "aac":
        decoder.extradata = bytes.fromhex(parameters["config"])
    else:
        decoder.sample_rate, decoder.layout = 8000, "mono"
    resampler = av.AudioResampler("fltp", "mono", 48_000)
    frames = [frame for one in packets for frame in decoder.decode(av.Packet(one.data))]
    return np.concatenate([part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)])


async def test_one_pull_serves_all_and_ends_when_nobody_watches() -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    shelf = Shelf(red=[camera.stream])
    server = RtspServer(shelf)
    await server.start(HOST, 0)
    async with playing(camera), pulling(f"rtsp://{HOST}:{server.port}/red") as source:
        assert source.state is CameraState.IDLE
        async with source.hold(), source.hold():
            first, second = await asyncio.gather(source.video(5), source.video(5))
            assert first is second
            await asyncio.gather(*(collect(first, 30) for _ in range(5)))
            assert (server.connections, source.counts.connections) == (1, 1)
        async with source.hold():
            assert await source.video(5) is first, "a viewer that comes back soon finds the same stream"
        await until_true(lambda: first.closed, "the idle time", 10)
        await until_true(lambda: server.connections == 0, "the camera to be let go", 10)
        async with source.hold():
            again = await source.video(5)
            assert again is not first
            await collect(again, 3)
    await server.aclose()


async def test_readers_live_through_a_camera_that_restarts_and_time_goes_on() -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    server = RtspServer(Shelf(red=[camera.stream]))
    await server.start(HOST, 0)
    port = server.port
    async with playing(camera), pulling(f"rtsp://{HOST}:{port}/red") as source, source.hold():
        stream = await source.video(5)
        packets: list[Packet] = []
        async with asyncio.timeout(20), stream.reader() as reader:
            async for packet in reader:
                packets.append(packet)
                if len(packets) == 20:
                    await server.aclose()
                    await until_true(
                        lambda: source.state is CameraState.WAITING, "the loss to be noticed", 10
                    )
                    camera.start += 10_000_000
                    server = RtspServer(Shelf(red=[camera.stream]))
                    await server.start(HOST, port)
                if len(packets) == 70:
                    break
        assert await source.video() is stream
    await server.aclose()
    assert source.counts.connections == 2
    assert source.counts.failures >= 1
    passed = packets[-1].arrival - packets[0].arrival
    assert (packets[-1].pts - packets[0].pts) / 90_000 == pytest.approx(passed, abs=1.2)
    assert all(b.pts > a.pts for a, b in itertools.pairwise(packets))
    assert all(shows(picture, RED) for picture in decoded(packets))


async def test_another_resolution_is_another_stream_that_begins_with_its_key_frame() -> None:
    camera = Camera(coloured_pictures(RED, seconds=1))
    server = RtspServer(Shelf(red=[camera.stream]))
    await server.start(HOST, 0)
    async with playing(camera), pulling(f"rtsp://{HOST}:{server.port}/red") as source, source.hold():
        first = await source.video(5)
        small: list[Packet] = []
        async with asyncio.timeout(20), first.reader() as reader:
            async for packet in reader:
                small.append(packet)
                if len(small) == 5:
                    camera.coded[:] = coloured_pictures(BLUE, seconds=1, size=(640, 360))
        second = await source.video(5)
        assert second is not first
        large = await collect(second, 10)
        assert source.counts.format_changes == 1
        assert source.counts.connections == 1
    await server.aclose()
    assert {picture.shape for picture in decoded(small)} == {(240, 320, 3)}
    assert large[0].keyframe
    pictures = decoded(large)
    assert {picture.shape for picture in pictures} == {(360, 640, 3)}
    assert shows(pictures[0], BLUE)


@requires("gst-rtsp-server")
async def test_a_camera_that_comes_back_as_another_one(tmp_path: Path) -> None:
    with PortBlock() as ports:
        port = ports.take()
        async with pulling(f"rtsp://{HOST}:{port}/camera") as source, source.hold():
            async with gst_camera(tmp_path, port, pipeline(0xC82828, sound="PCMA"), name="before"):
                await until_true(lambda: source.state is CameraState.PLAYING, "the camera", 10)
                video = await source.video(10)
                sound = await source.sound(5)
                assert sound is not None
                packets = await collect(video, 5)
            await until_true(lambda: source.state is CameraState.WAITING, "the loss to be noticed", 10)
            assert not video.closed
            launch = pipeline(0x283CC8, width=640, height=360, sound="PCMU")
            async with gst_camera(tmp_path, port, launch, name="after"):
                await until_true(lambda: video.closed and sound.closed, "the change to be told", 10)
                now_video, now_sound = await source.video(10), await source.sound(5)
                assert now_sound is not None
                assert (sound.format.codec, now_sound.format.codec) == ("PCMA", "PCMU")
                later = await collect(now_video, 5)
    assert shows(decoded(packets)[0], RED)
    assert decoded(later)[0].shape == (360, 640, 3)
    assert shows(decoded(later)[0], BLUE)
    passed = later[0].arrival - packets[0].arrival
    assert (later[0].pts - packets[0].pts) / 90_000 == pytest.approx(passed, abs=1.2)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


def _describes(sdp: str, then: str = "") -> Answer:
    """A camera with this description, that takes every other request and sends `then` behind PLAY."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            cseq = next(line for line in head.split("\r\n") if line.startswith("CSeq"))
            body = sdp if head.startswith("DESCRIBE") else ""
            lines = f"RTSP/1.0 200 OK\r\n{cseq}\r\nSession: 1\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((lines + body + (then if head.startswith("PLAY") else "")).encode("latin-1"))

    return serve


def _says(data: bytes) -> Answer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(data)

    return serve


def _closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


_HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
_H264 = _HEAD + "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:1\r\n"
_H265 = _HEAD + "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:1\r\n"


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (_says(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"), Cause.NOT_RTSP, "HTTP/1.1"),
        (_says(b"\x00\x01garbage" * 100), Cause.NOT_RTSP, "neither"),
        (_says(b""), Cause.TIMED_OUT, "OPTIONS"),
        (
            _says(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\nRTSP/1.0 500 Oops\r\nCSeq: 2\r\n\r\n"),
            Cause.REFUSED,
            "500",
        ),
        (_closes, Cause.ENDED, "closed"),
        (_describes("no description"), Cause.GARBAGE, "description"),
        (_describes(_H265), Cause.NO_USABLE_TRACK, "video H265"),
    ],
)
async def test_who_erred_is_said(answer: Answer, cause: Cause, words: str) -> None:
    async with await asyncio.start_server(answer, HOST, 0) as server:  # type: ignore[arg-type]  # either kind
        port = server.sockets[0].getsockname()[1]
        async with pulling(f"rtsp://{HOST}:{port}/x", response_timeout=0.3) as source, source.hold():
            with pytest.raises(CameraFault, match=words) as raised:
                await source.video(5)
            assert raised.value.cause is cause
            assert source.state in (CameraState.WAITING, CameraState.CONNECTING)


@pytest.mark.parametrize(("then", "cause"), [("", Cause.SILENT), ("\x00\x01\x02", Cause.GARBAGE)])
async def test_a_camera_that_plays_and_sends_nothing_or_rubbish(then: str, cause: Cause) -> None:
    # a test camera is any coroutine of two streams, which the stub spells otherwise
    async with await asyncio.start_server(_describes(_H264, then), HOST, 0) as server:  # type: ignore[arg-type]
        port = server.sockets[0].getsockname()[1]
        async with pulling(f"rtsp://{HOST}:{port}/x", silence=0.3) as source, source.hold():
            with pytest.raises(CameraFault) as raised:
                await source.video(5)
            assert raised.value.cause is cause


class Muted(ScriptedCamera):
    """Sends its pictures once, and sound for ever."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking = asyncio.create_task(self._talk(writer))
        try:
            await super().serve(reader, writer)
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _talk(self, writer: asyncio.StreamWriter) -> None:
        for number in itertools.count():
            await asyncio.sleep(0.02)
            packet = struct.pack("!BBHII", 0x80, 8, number & 0xFFFF, number * 160, 9) + bytes(160)
            writer.write(b"$\2" + len(packet).to_bytes(2, "big") + packet)


async def test_a_camera_with_open_groups_can_be_joined_at_each_of_them() -> None:
    """It sends one IDR picture; later ones have a recovery point with nothing to wait for (H.264 D.2.8)."""
    camera = ScriptedCamera(H264_SDP, [])
    pictures = coded([RED_YCC] * 60, gop=24, b_frames=2, more=":open-gop=1")
    for packet in pictures:
        camera.picture(packet.data, packet.pts)
    async with await asyncio.start_server(camera.serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with pulling(f"rtsp://{HOST}:{port}/x") as source, source.hold():
            stream = await source.video(5)
            await until_true(lambda: stream.published == 60, "all pictures", 10)
            packets = await collect(stream, 8)
    first = packets[0]
    assert first.keyframe
    assert b"\0\0\1\x65" not in first.data
    assert min(packet.pts for packet in packets) == first.pts, "what leads it cannot be decoded"
    seen = decoded(packets)
    assert len(seen) == len(packets)
    assert all(shows(picture, (254, 0, 0)) for picture in seen)


async def test_pictures_that_stopped_are_asked_for_again_though_sound_goes_on() -> None:
    sound = "m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=control:2\r\n"
    camera = Muted(H264_SDP + sound, [])
    for data, pts, _ in coloured_pictures(RED)[:10]:
        camera.picture(data, pts)
    async with await asyncio.start_server(camera.serve, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with pulling(f"rtsp://{HOST}:{port}/x", silence=0.4) as source, source.hold():
            await source.video(5)
            await until_true(lambda: source.counts.failures > 0, "a fault", 5)
            assert source.fault is not None
            assert str(source.fault) == "silent: sound, but no picture for 0.4 s"
            await until_true(lambda: source.counts.connections > 1, "another pull", 5)


async def test_nothing_there_and_a_wrong_address() -> None:
    with PortBlock() as ports:
        port = ports.take()
    async with pulling(f"rtsp://{HOST}:{port}/x") as source, source.hold():
        with pytest.raises(CameraFault, match="nothing listens") as raised:
            await source.video(5)
        assert raised.value.cause is Cause.CONNECTION_REFUSED
        await until_true(lambda: source.counts.failures > 2, "it to try again by itself", 10)
    with pytest.raises(ValueError, match="rtsp://host"):
        CameraSource("x", CameraSettings("http://example.org/"))
