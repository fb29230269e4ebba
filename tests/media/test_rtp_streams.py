"""Real codecs through packetizer, a bad network, receiver and decoder; real ffmpeg as the sender."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from media.receiver_reports import ReceiverFeedback
from media.rtp_receiver import ReceiverSettings, RtpReceiver
from media.rtp_sender import KeyframeRequested, RetransmissionsDue, RtpSender, SenderSettings
from protocols.payloads import Depacketizer, Frame, Packetizer
from protocols.payloads.g711 import G711Depacketizer
from protocols.payloads.h264 import H264Packetizer, join_byte_stream, split_byte_stream
from protocols.payloads.h264_depacketizer import H264Depacketizer
from protocols.payloads.h264_fmtp import H264Format
from protocols.payloads.h264_sps import SequenceParameterSet
from protocols.payloads.opus import OpusDepacketizer, OpusPacketizer, packet_duration
from protocols.payloads.vp8 import Vp8Depacketizer, Vp8Packetizer, keyframe_size
from protocols.rtp.rtcp import is_rtcp, parse_compound

SENDER, RECEIVER = 0x11111111, 0x22222222
FPS = 25
WIDTH, HEIGHT = 320, 192


def colour(number: int) -> tuple[int, int, int]:
    """Y, U, V of picture `number`: told apart from its neighbours after any codec."""
    return 40 + number * 3 % 160, 60 + number * 7 % 140, 190 - number * 5 % 140


def picture(number: int) -> VideoFrame:
    """A colour with noise on top, so that a frame needs several packets."""
    y, u, v = colour(number)
    planes = np.empty((HEIGHT * 3 // 2, WIDTH), np.uint8)
    noise = np.random.default_rng(number).integers(-20, 21, (HEIGHT, WIDTH))
    planes[:HEIGHT] = np.clip(y + noise, 0, 255)
    planes[HEIGHT : HEIGHT * 5 // 4] = u
    planes[HEIGHT * 5 // 4 :] = v
    frame = VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.pts = number
    return frame


def mean_colour(frame: VideoFrame) -> tuple[float, float, float]:
    planes = frame.to_ndarray(format="yuv420p")
    width, height = frame.width, frame.height
    chroma = planes[height:].reshape(2, -1)
    return float(planes[:height, :width].mean()), float(chroma[0].mean()), float(chroma[1].mean())


def video_encoder(codec: str) -> av.VideoCodecContext:
    encoder = av.CodecContext.create("libx264" if codec == "h264" else "libvpx", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, FPS), Fraction(FPS)
    encoder.bit_rate = 1_500_000
    encoder.thread_count = 1
    if codec == "h264":
        encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "1000"}
    else:
        encoder.options = {"deadline": "realtime", "cpu-used": "16", "lag-in-frames": "0", "g": "1000"}
    return encoder


def normal(access_unit: bytes) -> bytes:
    """With four-byte start codes throughout, as depacketizers give them."""
    return join_byte_stream(split_byte_stream(access_unit))


class Network:
    """Delays each datagram by 20 to 25 ms, so that they mix, and loses some, between `start` and `end`:
    a loss at the very end is not to be seen from what comes after it."""

    def __init__(self, seed: int, loss: float, start: float, end: float) -> None:
        self._random = random.Random(seed)
        self._loss = loss
        self._start, self._end = start, end
        self._under_way: list[tuple[float, int, bytes]] = []
        self.sent = self.lost = 0

    def send(self, data: bytes, now: float) -> None:
        self.sent += 1
        if self._start < now < self._end and self._random.random() < self._loss:
            self.lost += 1
            return
        spread = 0.005 if self._start < now < self._end else 0.0
        self._under_way.append((now + 0.02 + self._random.uniform(0, spread), self.sent, data))

    def arrivals(self, now: float) -> Iterator[bytes]:
        self._under_way.sort()
        while self._under_way and self._under_way[0][0] <= now:
            yield self._under_way.pop(0)[2]


def run(
    coded: Callable[[int, bool], list[bytes]],
    packetizer: Packetizer,
    depacketizer: Depacketizer,
    clock_rate: int,
    rate: int,
    count: int,
    *,
    nack: bool,
    loss: float,
    rtx: bool = False,
) -> tuple[list[Frame], RtpReceiver, RtpSender, Network]:
    """`count` frames at `rate` a second through sender, network and receiver, in steps of 1 ms."""
    start, step = 50.0, 1000 // rate
    lossy = (start + 0.03, start + count / rate - 0.2)
    there, back = Network(5, loss, *lossy), Network(6, loss, *lossy)
    sender = RtpSender(
        SenderSettings(
            SENDER,
            "a",
            96,
            clock_rate,
            nack,
            0x33333333 if rtx else None,
            97 if rtx else None,
            reduced_size=True,
        ),
        random.Random(1),
    )
    receiver = RtpReceiver(
        ReceiverSettings(
            RECEIVER,
            "b",
            clock_rate,
            {96: depacketizer},
            {97: 96} if rtx else {},
            ReceiverFeedback(nack=nack, pli=depacketizer.needs_keyframes, reduced_size=True),
            hold=0.3,
        ),
        random.Random(2),
    )
    receiver.note_round_trip(0.05)  # as the leg's own sender towards this peer would have measured
    frames: list[Frame] = []
    keyframe = False
    for millisecond in range(count * step + 600):
        now = start + millisecond / 1000
        number, rest = divmod(millisecond, step)
        if not rest and number < count:
            for data in coded(number, keyframe):
                stamp = number * clock_rate // rate
                for packet in sender.packets(packetizer.packetize(data), stamp, now):
                    there.send(packet, now)
            keyframe = False
        for data in there.arrivals(now):
            if is_rtcp(data):
                receiver.receive_rtcp(parse_compound(data), now)
            else:
                frames += receiver.receive_rtp(data, now)
        frames += receiver.release(now)
        for data in receiver.poll(now):
            back.send(data, now)
        for data in back.arrivals(now):
            for event in sender.receive_rtcp(parse_compound(data), now):
                if isinstance(event, RetransmissionsDue):
                    for packet in event.packets:
                        there.send(packet, now)
                keyframe |= isinstance(event, KeyframeRequested)
        for data in sender.poll(now, 1_000_000 + now):
            there.send(data, now)
    frames += receiver.close()
    return frames, receiver, sender, there


def video_run(
    codec: str, *, nack: bool, loss: float, rtx: bool = False, mode: int = 1
) -> tuple[list[Frame], list[bytes], RtpReceiver, RtpSender, Network]:
    encoder = video_encoder(codec)
    originals: list[bytes] = []

    def coded(number: int, keyframe: bool) -> list[bytes]:
        frame = picture(number)
        if keyframe:
            frame.pict_type = av.video.frame.PictureType.I
        data = b"".join(bytes(packet) for packet in encoder.encode(frame))
        originals.append(normal(data) if codec == "h264" else data)
        return [data]

    packetizer: Packetizer = H264Packetizer(mode, 1200 if mode else 65000)
    depacketizer: Depacketizer = H264Depacketizer()
    if codec == "vp8":
        packetizer, depacketizer = Vp8Packetizer(77), Vp8Depacketizer()
    frames, receiver, sender, network = run(
        coded, packetizer, depacketizer, 90000, FPS, 75, nack=nack, loss=loss, rtx=rtx
    )
    return frames, originals, receiver, sender, network


def check_colours(codec: str, frames: list[Frame], first: int) -> int:
    """Decodes what is not damaged and compares each picture's colour with the one sent; how many did."""
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    checked = 0
    for frame in frames:
        if frame.damaged:
            continue
        packet = av.Packet(frame.data)
        packet.pts = (frame.timestamp - first) * FPS // 90000
        for decoded in decoder.decode(packet):
            assert decoded.pts is not None
            assert mean_colour(decoded) == pytest.approx(colour(decoded.pts), abs=6), decoded.pts
            checked += 1
    return checked


@pytest.mark.parametrize(("codec", "rtx"), [("h264", False), ("h264", True), ("vp8", False)])
def test_pictures_survive_loss_with_nack(codec: str, rtx: bool) -> None:
    frames, originals, receiver, sender, network = video_run(codec, nack=True, loss=0.05, rtx=rtx)
    assert network.lost >= 10
    assert not any(frame.damaged for frame in frames)
    assert len(frames) == 75
    first = frames[0].timestamp
    assert [frame.timestamp - first for frame in frames] == [n * 3600 for n in range(75)]
    assert [frame.data for frame in frames] == originals
    assert check_colours(codec, frames, first) == 75
    stats, sent = receiver.stats(53.5), sender.stats(53.5)
    assert stats.given_up == 0
    assert stats.repaired > 0
    assert sent.repeated >= stats.repaired
    assert stats.frames == 75
    assert sent.rtt is not None
    assert 0.038 <= sent.rtt <= 0.06
    wall = receiver.ntp_at(frames[50].timestamp)
    assert wall is not None
    # Captured 2 s after the start; the sender's Unix clock then showed 1000052.
    assert wall - 2_208_988_800 == pytest.approx(1_000_052, abs=0.002)


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_pictures_recover_by_key_frames_without_nack(codec: str) -> None:
    frames, _, receiver, _, network = video_run(codec, nack=False, loss=0.01)
    assert network.lost >= 2
    stats = receiver.stats(53.5)
    assert stats.damaged == sum(frame.damaged for frame in frames) > 0
    assert stats.keyframes >= 2
    assert stats.plis_sent >= 1
    assert (
        check_colours(codec, frames, frames[0].timestamp) == sum(not frame.damaged for frame in frames) > 30
    )


def test_single_nal_mode_carries_whole_pictures() -> None:
    frames, originals, *_ = video_run("h264", nack=False, loss=0.0, mode=0)
    assert [frame.data for frame in frames] == originals


def test_sound_survives_loss_with_nack() -> None:
    encoder = av.CodecContext.create("libopus", "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = 48000, "mono", "s16"  # type: ignore[assignment]  # takes names
    encoder.options = {"frame_duration": "20", "application": "voip"}
    originals: list[bytes] = []

    def coded(number: int, keyframe: bool) -> list[bytes]:
        times = np.arange(number * 960, (number + 1) * 960) / 48000
        samples = (8000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
        frame = AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, number * 960
        packets = [bytes(packet) for packet in encoder.encode(frame)]
        originals.extend(packets)
        return packets

    frames, receiver, _, network = run(
        coded, OpusPacketizer(), OpusDepacketizer(), 48000, 50, 100, nack=True, loss=0.05
    )
    assert network.lost >= 4
    assert [frame.data for frame in frames] == originals
    assert receiver.stats(52.5).repaired >= 3
    decoder = av.CodecContext.create("libopus", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate = 48000
    decoded = [part for frame in frames for part in decoder.decode(av.Packet(frame.data))]
    samples = np.concatenate([part.to_ndarray().astype(np.float64).ravel() for part in decoded])
    samples = samples[9600 : 9600 + 48000 * len(decoded[0].layout.channels)]
    spectrum = np.abs(np.fft.rfft(samples))
    peak = int(spectrum[1:].argmax()) + 1
    assert peak * 48000 * len(decoded[0].layout.channels) / len(samples) == pytest.approx(440, abs=2)


# -- ffmpeg as the sender


class _Taker(asyncio.DatagramProtocol):
    def __init__(self, receiver: RtpReceiver) -> None:
        self.receiver = receiver
        self.frames: list[Frame] = []
        self.enough = asyncio.Event()
        self.wanted = 0

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        now = time.monotonic()
        if is_rtcp(data):
            self.receiver.receive_rtcp(parse_compound(data), now)
        else:
            self.frames += self.receiver.receive_rtp(data, now)
        if len(self.frames) >= self.wanted and self.receiver.ntp_at(0) is not None:
            self.enough.set()


async def from_ffmpeg(
    arguments: list[str],
    make: Callable[[str], Depacketizer],
    clock_rate: int,
    payload_type: int,
    wanted: int,
    last_line: str = "m=",
) -> tuple[list[Frame], RtpReceiver, str]:
    """Runs ffmpeg's RTP muxer towards us until `wanted` frames and a sender report came.

    `make` gets the description up to its `last_line`.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    url = f"rtp://127.0.0.1:{port}?rtcpport={port}&pkt_size=1200"
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", *arguments, "-f", "rtp"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "-payload_type",
        str(payload_type),
        "-sdp_file",
        "pipe:1",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            lines: list[str] = []
            while not lines or not lines[-1].startswith(last_line):
                lines.append((await process.stdout.readline()).decode())
                assert lines[-1], "ffmpeg ended before its description"
            sdp = "".join(lines)
            receiver = RtpReceiver(
                ReceiverSettings(RECEIVER, "us", clock_rate, {payload_type: make(sdp)}), random.Random(1)
            )
            taker = _Taker(receiver)
            taker.wanted = wanted
            transport, _ = await loop.create_datagram_endpoint(lambda: taker, sock=sock)
            try:
                await taker.enough.wait()
            finally:
                transport.close()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
    return taker.frames, receiver, sdp


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
RED = ["-f", "lavfi", "-i", "color=red:size=640x360:rate=25,noise=alls=20:allf=t"]


@needs_ffmpeg
@pytest.mark.parametrize("mode", [1, 0])
async def test_h264_from_ffmpeg(mode: int) -> None:
    encode = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "25",
        "-pix_fmt",
        "yuv420p",
    ]
    if mode == 0:
        encode += ["-x264-params", "slice-max-size=1100", "-rtpflags", "h264_mode0"]
    frames, receiver, _ = await from_ffmpeg(RED + encode, lambda sdp: H264Depacketizer(), 90000, 96, 40)
    whole = [frame for frame in frames if not frame.damaged]
    assert len(whole) >= 35
    assert whole[0].keyframe
    assert frames[1].timestamp - frames[0].timestamp == 3600
    keyframe = whole[0].data.split(b"\x00\x00\x00\x01")
    sps = SequenceParameterSet.parse(next(nal for nal in keyframe if nal and nal[0] & 0x1F == 7))
    assert (sps.width, sps.height) == (640, 360)
    assert red_pictures("h264", whole) >= 35
    assert receiver.stats(time.monotonic()).lost == 0


@needs_ffmpeg
async def test_h264_from_ffmpeg_with_parameter_sets_in_sdp_only() -> None:
    encode = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        "10",
        "-pix_fmt",
        "yuv420p",
    ]
    encode += ["-flags", "+global_header"]

    def make(sdp: str) -> Depacketizer:
        found = re.search(r"a=fmtp:96 (.*)", sdp)
        assert found, sdp
        return H264Depacketizer(H264Format.parse(found[1]).parameter_sets)

    frames, _, _ = await from_ffmpeg(RED + encode, make, 90000, 96, 40, last_line="a=fmtp")
    assert red_pictures("h264", [frame for frame in frames if not frame.damaged]) >= 30


@needs_ffmpeg
async def test_vp8_from_ffmpeg() -> None:
    encode = ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "16", "-g", "25", "-b:v", "1M"]
    frames, receiver, _ = await from_ffmpeg(RED + encode, lambda sdp: Vp8Depacketizer(), 90000, 96, 40)
    whole = [frame for frame in frames if not frame.damaged]
    assert len(whole) >= 35
    assert keyframe_size(whole[0].data) == (640, 360)
    assert red_pictures("vp8", whole) >= 35
    assert receiver.stats(time.monotonic()).lost == 0


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["libopus", "pcm_alaw"])
async def test_sound_from_ffmpeg(codec: str) -> None:
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-c:a", codec]
    if codec == "libopus":
        frames, _, _ = await from_ffmpeg(tone, lambda sdp: OpusDepacketizer(), 48000, 97, 60)
        assert {packet_duration(frame.data) for frame in frames} == {960}
        assert {b.timestamp - a.timestamp for a, b in pairwise(frames)} == {960}
        return
    frames, _, _ = await from_ffmpeg(
        [*tone, "-ar", "8000", "-ac", "1"], lambda sdp: G711Depacketizer(), 8000, 8, 60
    )
    for one, other in pairwise(frames):
        assert other.timestamp - one.timestamp == len(one.data)


def red_pictures(codec: str, frames: list[Frame]) -> int:
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    count = 0
    for frame in frames:
        for decoded in decoder.decode(av.Packet(frame.data)):
            y, u, v = mean_colour(decoded)
            assert (y, u, v) == pytest.approx((81, 90, 240), abs=8)
            count += 1
    return count
