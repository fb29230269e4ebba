"""What a meeting shows the outside: its colours and tones, one format whatever is shown, sound in time."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from foundation.desks import Budget, View, ViewMode
from media.codecs import VideoCodec, VideoDecoder
from media.fragments import Began, StreamFragments
from media.link import LinkClient, LinkServer
from media.packet import Format, Packet
from media.picture import Picture
from media.sound_codecs import SoundCodec, sound_decoder
from media.stream import Stream
from media.stream_source import NoSuchStream
from protocols.isobmff.fragmenter import MediaFragment
from protocols.payloads.h264 import NalType, split_byte_stream
from tests.mcu_bridge.cameras import Camera, pictures, sound
from tests.mcu_bridge.conftest import MEETING, Stage
from tests.mcu_bridge.rtp_peer import BLUE, GREEN, NEAR, RED, YELLOW, RtpPeer, Yuv
from tests.peers.sound import Sound, hears
from tests.peers.waiting import until, until_true

PICTURES, SOUND = f"programme:{MEETING}", f"programme:{MEETING}/sound"
OPUS = Format("OPUS", 48_000, 2)
DARK: Yuv = (30, 128, 128)
WHITE: Yuv = (225, 128, 128)


class Watcher:
    """Holds a programme and decodes all of it."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.heard: list[Packet] = []
        self.latest: Picture | None = None
        self.stream: Stream | None = None
        self._samples: list[NDArray[np.int16]] = []

    async def watch(self, stream: Stream) -> None:
        decoder = VideoDecoder(VideoCodec.H264)
        async with stream.reader() as reader:
            async for packet in reader:
                self.packets.append(packet)
                for picture in decoder.decode(packet):
                    self.latest = picture

    async def listen(self, stream: Stream) -> None:
        decoder = sound_decoder(SoundCodec.OPUS)
        async with stream.reader() as reader:
            async for packet in reader:
                self.heard.append(packet)
                self._samples.append(decoder.decode(packet.data))

    def shows(self, colour: Yuv, column: int = 0, columns: int = 1) -> bool:
        picture = self.latest
        if picture is None:
            return False
        for plane, value in zip(picture.planes, colour, strict=True):
            height, width = plane.shape[0], plane.shape[1] // columns
            left, right = width * column + width // 3, width * (column + 1) - width // 3
            part = plane[height * 2 // 5 : height * 3 // 5, left:right]
            if abs(float(part.mean()) - value) > NEAR:
                return False
        return True

    async def sees(self, colour: Yuv, column: int = 0, columns: int = 1) -> None:
        await until_true(lambda: self.shows(colour, column, columns), f"{colour} in {column}", 8.0)

    async def hears(self, *hertz: float) -> None:
        def all_there() -> bool:
            samples = np.concatenate([np.zeros(1, np.int16), *self._samples[-30:]]) / 32768
            return all(hears(Sound(samples.astype(np.float32), 48_000), tone) for tone in hertz)

        await until_true(all_there, f"{hertz} Hz", 6.0)


@contextlib.asynccontextmanager
async def watching(stage: Stage) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    async with (
        stage.bridge.streams.open(PICTURES) as shown,
        stage.bridge.streams.open(SOUND) as heard,
        asyncio.TaskGroup() as group,
    ):
        watcher.stream = shown
        tasks = [group.create_task(watcher.watch(shown)), group.create_task(watcher.listen(heard))]
        yield watcher
        for task in tasks:
            task.cancel()


def parameter_sets(packets: list[Packet]) -> set[bytes]:
    kinds = (NalType.SPS, NalType.PPS)
    return {nal for p in packets if p.keyframe for nal in split_byte_stream(p.data) if nal[0] & 0x1F in kinds}


async def test_it_shows_what_the_view_says_in_one_format_and_everybody_is_heard(stage: Stage) -> None:
    await stage.bring("red", Camera(pictures(RED), sound(440.0, "PCMA")))
    await stage.bring("blue", Camera(pictures(BLUE), sound(900.0, "OPUS")))
    async with watching(stage) as watcher:
        await watcher.sees(RED, 0, 2)
        await watcher.sees(BLUE, 1, 2)
        await watcher.hears(440.0, 900.0)
        for name, colour in (("blue", BLUE), ("red", RED)):
            await stage.bridge.set_view(MEETING, View(ViewMode.FULL_SCREEN, name))
            await watcher.sees(colour)
            await watcher.hears(440.0, 900.0)
        await stage.bridge.set_view(MEETING, View())
        await watcher.sees(BLUE, 1, 2)
        times = [packet.pts for packet in watcher.packets]
        assert times == sorted(set(times)), "time goes on over switches"
        assert max(np.diff(times)) <= 0.5 * 90_000
        assert len(parameter_sets(watcher.packets)) == 2, "one SPS and one PPS"
        assert watcher.latest is not None
        assert (watcher.latest.width, watcher.latest.height) == (640, 360)
        steps = np.diff([packet.pts for packet in watcher.heard])
        assert set(steps.tolist()) == {960}
        assert watcher.stream is not None
        assert watcher.stream.format.parameters["profile-level-id"].startswith("42e0")


async def test_one_encode_is_shared_and_ends_with_the_last_holder(stage: Stage) -> None:
    await stage.bring("red", Camera(pictures(RED), sound(440.0, "PCMA")))
    conference = stage.bridge._conferences[MEETING]
    async with RtpPeer(GREEN, 900.0, stage.peer_ports, viewing=True) as viewer:
        await stage.join("viewer", viewer, Budget(900_000, 900_000))
        await viewer.more_pictures()
        async with watching(stage) as first:
            await first.sees(RED)
            async with watching(stage) as second:
                await second.sees(RED)
                assert second.stream is first.stream
                (encoder,) = (await stage.bridge.report(MEETING)).encoders
                assert encoder.receivers == 2, "a viewer and the programme"
            seen = len(first.packets)
            await until_true(lambda: len(first.packets) > seen + 5, "it to go on for the first", 3.0)
        assert first.stream is not None
        assert first.stream.closed
        await stage.bridge.drop("viewer")
        await until(stage.encoders, lambda keys: not keys, "no encoder", 4.0)
        assert not conference.sound._listening
        async with watching(stage) as third:
            await third.sees(RED)
            assert third.stream is not first.stream


async def test_another_process_holds_it_by_its_link(stage: Stage, tmp_path: Path) -> None:
    await stage.bring("red", Camera(pictures(RED), sound(440.0, "PCMA")))
    async with LinkServer(tmp_path / "link", stage.bridge.streams):
        watcher, far = Watcher(), LinkClient(tmp_path / "link")
        async with far.open(PICTURES) as shown, far.open(SOUND) as heard, asyncio.TaskGroup() as group:
            tasks = [group.create_task(watcher.watch(shown)), group.create_task(watcher.listen(heard))]
            await watcher.sees(RED)
            await watcher.hears(440.0)
            keys = sum(packet.keyframe for packet in watcher.packets)
            shown.request_keyframe()
            await until_true(lambda: sum(p.keyframe for p in watcher.packets) > keys, "a key frame", 3.0)
            assert all(packet.ntp is not None for packet in (*watcher.packets, *watcher.heard))
            for task in tasks:
                task.cancel()
        await until(stage.encoders, lambda encoders: not encoders, "no encoder", 4.0)
        assert not stage.bridge._conferences[MEETING].sound._listening


async def test_key_frames_come_when_asked_for_and_not_more_often_than_twice_a_second(stage: Stage) -> None:
    async with watching(stage) as watcher:
        await until_true(lambda: len(watcher.packets) > 5, "pictures", 4.0)
        assert watcher.stream is not None
        began = len(watcher.packets)
        for _ in range(30):
            watcher.stream.request_keyframe()
            await asyncio.sleep(0.04)
        keys = sum(packet.keyframe for packet in watcher.packets[began:])
        assert 1 <= keys <= 4


async def test_a_meeting_of_nobody_has_a_programme(stage: Stage) -> None:
    async with watching(stage) as watcher:
        await until_true(lambda: len(watcher.packets) > 10, "pictures", 4.0)
        await until_true(lambda: len(watcher.heard) > 10, "sound", 4.0)
        assert watcher.packets[0].keyframe
        assert watcher.latest is not None
        await stage.bring("red", Camera(pictures(RED)))
        await watcher.sees(RED)
        await stage.bridge.drop("red")
        await until_true(lambda: not watcher.shows(RED), "the card again", 4.0)


async def test_who_closes_the_meeting_ends_its_programme(stage: Stage) -> None:
    with pytest.raises(NoSuchStream):
        async with stage.bridge.streams.open("programme:nobody"):
            pass
    async with RtpPeer(YELLOW, 600.0, stage.peer_ports) as peer:
        await stage.join("yellow", peer)
        async with stage.bridge.streams.open("picture:yellow") as own:
            assert own.id == "picture:yellow"
    with pytest.raises(NoSuchStream):
        async with stage.bridge.streams.open("picture:nobody"):
            pass
    async with stage.bridge.streams.open(PICTURES) as shown, stage.bridge.streams.open(SOUND) as heard:
        await stage.bridge.close(MEETING)
        assert shown.closed
        assert heard.closed
    with pytest.raises(NoSuchStream):
        async with stage.bridge.streams.open(PICTURES):
            pass


async def test_a_flash_and_its_beep_are_one_moment_in_a_file(stage: Stage) -> None:
    camera = Camera(pictures(DARK, flash=WHITE), sound(1000.0, "PCMA", beep=True))
    await stage.bring("studio", camera)
    await stage.bridge.set_view(MEETING, View(ViewMode.FULL_SCREEN, "studio"))
    await asyncio.sleep(0.5)
    async with watching(stage) as watcher:
        await asyncio.sleep(5.5)
        assert watcher.stream is not None
        fragments = StreamFragments(watcher.stream.format, OPUS, fragment_seconds=0.5)
    written = _written(fragments, watcher.packets, watcher.heard)
    flashes, beeps = _flashes(written), _beeps(written)
    apart = [min((beep - flash for beep in beeps), key=abs) for flash in flashes[1:-1]]
    assert len(apart) >= 3
    assert all(abs(each) < 0.08 for each in apart), apart


def _written(fragments: StreamFragments, shown: list[Packet], heard: list[Packet]) -> bytes:
    """The file that a recorder makes of both, as they came."""
    made: list[Began | MediaFragment] = []
    pictures = {id(packet) for packet in shown}
    for packet in sorted((*shown, *heard), key=lambda packet: packet.arrival):
        if id(packet) in pictures:
            made += fragments.take(packet)
        else:
            fragments.take_sound(packet)
    made += fragments.end()
    assert sum(isinstance(one, Began) for one in made) == 1
    return b"".join(one.init if isinstance(one, Began) else one.data for one in made)


def _flashes(written: bytes) -> list[float]:
    """When it becomes bright, in seconds of the file."""
    found, bright = [], True
    with av.open(io.BytesIO(written), "r") as file:
        for frame in file.decode(video=0):
            luma = float(frame.to_ndarray()[: frame.height // 2].mean())
            if luma > 130 and not bright:
                found.append(float(frame.time or 0.0))
            bright = luma > 130
    return found


def _beeps(written: bytes) -> list[float]:
    """When a tone begins after silence."""
    found, quiet = [], 0.0
    with av.open(io.BytesIO(written), "r") as file:
        for frame in file.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(np.float32).reshape(len(frame.planes), -1)[0])
            loud = np.flatnonzero(samples > 0.05)
            if len(loud) and quiet > 0.3:
                found.append(float(frame.time or 0.0) + float(loud[0]) / frame.sample_rate)
            quiet = 0.0 if len(loud) else quiet + len(samples) / frame.sample_rate
    return found
