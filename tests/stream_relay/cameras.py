"""A camera made here: coloured H.264 with sound, published as Streams at its real pace."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from media.packet import Packet
from media.stream import Stream
from media.stream_source import NoSuchStream
from protocols.payloads.h264 import H264Packetizer
from stream_relay.track_formats import CodedPicture

Coded = list[tuple[bytes, int, bool]]
RATE = 25


def coloured_pictures(
    colour: tuple[int, int, int], seconds: int = 2, size: tuple[int, int] = (320, 240), b_frames: int = 0
) -> Coded:
    """(access unit, pts at 90 kHz, key frame) in the order of decoding; a key frame each second."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(RATE), Fraction(1, 90_000)
    encoder.options = {
        "preset": "ultrafast",
        "bf": str(b_frames),
        "g": str(RATE),
        "keyint_min": str(RATE),
        "sc_threshold": "0",
        "threads": "1",
    }
    picture = np.full((size[1], size[0], 3), colour, np.uint8)
    coded: Coded = []
    frames: list[av.VideoFrame | None] = []
    for number in range(seconds * RATE):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number * 3600, Fraction(1, 90_000)
        frames.append(frame)
    for one in [*frames, None]:
        for packet in encoder.encode(one):
            assert packet.pts is not None
            coded.append((bytes(packet), packet.pts, packet.is_keyframe))
    return coded


@dataclass
class Camera:
    """`play` publishes the coded pictures over and over, `seconds` long each round."""

    coded: Coded
    stream: Stream = field(init=False)
    start: int = 0

    def __post_init__(self) -> None:
        picture = CodedPicture.of(self.coded[0][0])
        assert picture is not None
        self.stream = Stream("camera", picture.format)

    async def play(self, speed: float = 1.0) -> None:
        length = len(self.coded) * 3600
        began, sent = time.monotonic(), 0
        while True:
            for data, pts, keyframe in self.coded:
                now = time.monotonic()
                lap = sent // len(self.coded)
                self.stream.publish(Packet(data, self.start + lap * length + pts, now, keyframe))
                sent += 1
                await asyncio.sleep(max(0.0, began + sent / RATE / speed - time.monotonic()))


HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
H264_SDP = HEAD + "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:1\r\n"
H265_SDP = HEAD + "m=video 0 RTP/AVP 98\r\na=rtpmap:98 H265/90000\r\na=control:1\r\n"
H265_PAYLOADS = [
    bytes.fromhex("4001") + bytes(20),
    bytes.fromhex("4201") + bytes(30),
    bytes.fromhex("4401") + bytes(8),
    *(bytes.fromhex("620193") + bytes(900) for _ in range(20)),
]
"""Headers as in RFC 7798: parameter sets, then a key frame in fragments."""


@dataclass
class ScriptedCamera:
    """An RTSP camera over TCP that says what it is told to: `sdp` to DESCRIBE, `rtp` after PLAY."""

    sdp: str
    rtp: list[bytes]
    sequence: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                cseq = next(line for line in head.split("\r\n") if line.startswith("CSeq"))
                body = self.sdp if head.startswith("DESCRIBE") else ""
                lines = f"RTSP/1.0 200 OK\r\n{cseq}\r\nSession: 1\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write((lines + body).encode())
                if head.startswith("PLAY"):
                    for packet in self.rtp:
                        writer.write(b"$\0" + len(packet).to_bytes(2, "big") + packet)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def picture(self, data: bytes, timestamp: int, payload_type: int = 96) -> None:
        """Adds a coded H.264 picture to what is sent."""
        self.payloads(H264Packetizer(1, 1200).packetize(data), timestamp, payload_type)

    def payloads(self, payloads: Sequence[bytes], timestamp: int, payload_type: int = 96) -> None:
        for number, payload in enumerate(payloads, 1):
            marker = 0x80 * (number == len(payloads))
            header = struct.pack("!BBHII", 0x80, marker | payload_type, self.sequence, timestamp, 7)
            self.rtp.append(header + payload)
            self.sequence += 1


class Shelf:
    """A catalogue of streams that are simply there."""

    def __init__(self, **paths: Sequence[Stream]) -> None:
        self.paths = dict(paths)
        self.opened = 0

    @asynccontextmanager
    async def open(self, path: str, user: str | None) -> AsyncIterator[Sequence[Stream]]:
        if path not in self.paths:
            raise NoSuchStream(path)
        self.opened += 1
        try:
            yield self.paths[path]
        finally:
            self.opened -= 1


@asynccontextmanager
async def playing(camera: Camera, speed: float = 1.0) -> AsyncIterator[Camera]:
    task = asyncio.create_task(camera.play(speed))
    try:
        yield camera
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def collect(stream: Stream, count: int, timeout: float = 10.0) -> list[Packet]:
    """The next packets of a stream; AssertionError when it ends before."""
    packets: list[Packet] = []
    async with asyncio.timeout(timeout), stream.reader() as reader:
        async for packet in reader:
            packets.append(packet)
            if len(packets) == count:
                return packets
    raise AssertionError(f"the stream ended after {len(packets)} packets")


def decoded(packets: Sequence[Packet]) -> list[np.ndarray]:
    """The pictures as RGB, in the order of presentation."""
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    pictures = []
    for data in [*(packet.data for packet in packets), None]:
        for frame in decoder.decode(av.Packet(data) if data else None):
            pictures.append(frame.to_ndarray(format="rgb24"))
    return pictures
