"""Picture codecs: coded frames to `Picture`s and back. Synchronous; each object belongs to one codec lane.

    VideoDecoder(codec, *, skip_loop_filter=False)
        .decode(packet) -> list[Picture]                     pts in 1/90000 s; never raises on bad data
        .needs_keyframe, .counts, .skip_loop_filter (settable; taken up at the next key frame)
    VideoTarget(codec, width, height, fps, bitrate, profile_level_id, max_slice_bytes, preset, vbv_frames)
    VideoEncoder(target)
        .encode(picture) -> list[Packet]                     in the encoder's thread
        .request_key_frame(), .set_bitrate(bits_per_second)  any thread; taken up with the next picture
        .counts, .bitrate

H.264 goes in and out as Annex B (start codes; parameter sets repeated with every key frame); VP8, H.263 and
H.261 as whole frames of the codec, without payload headers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType

import av
import av.error
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from media.packet import FINDS_ITS_PLACE, Packet, is_shown
from media.picture import Picture, Plane

CLOCK = 90_000
"""Media time of pictures, ticks a second (RFC 6184 8.2.1, RFC 7741 6.1)."""

_CIF_ASPECT = 12 / 11
"""H.261 knows no other (3.1); its decoder does not say so."""

MAX_PIXELS = 4096 * 2304
"""A larger picture than this is refused before memory is taken for it."""


class VideoCodec(StrEnum):
    """Picture codecs we decode and encode, by RTP encoding name."""

    H264 = "H264"
    VP8 = "VP8"
    H263 = "H263"
    H263P = "H263-1998"
    H261 = "H261"


@dataclass(slots=True)
class DecoderCounts:
    frames: int = 0
    pictures: int = 0
    errors: int = 0
    withheld: int = 0
    mended: int = 0


class VideoDecoder:
    """Decodes one source.

    At its start it withholds pictures until a key frame comes, at most `FIRST_PATIENCE` of them, and after an
    error at most `PATIENCE`: a source that never sends one (gradual refresh) must not stay unseen or frozen.
    Of codecs that find their place again, `packet.is_shown` says which damaged pictures are shown, mended.
    """

    PATIENCE = 25
    FIRST_PATIENCE = 75

    def __init__(self, codec: VideoCodec, *, skip_loop_filter: bool = False) -> None:
        self.codec = codec
        self.skip_loop_filter = skip_loop_filter
        self.counts = DecoderCounts()
        self._opened_with = skip_loop_filter
        self._context = self._open()
        self._faulty = True  # what refers to pictures that never came is grey
        self._shown = False
        self._mends = False
        """What comes now is damaged, and goes on from pictures that were shown."""
        self._held = self.PATIENCE - self.FIRST_PATIENCE

    @property
    def needs_keyframe(self) -> bool:
        """Nothing was decoded yet, or something was lost since the last key frame: ask the source for one."""
        return self._faulty or self._mends

    def decode(self, packet: Packet) -> list[Picture]:
        """The pictures that become ready with this coded frame: none, one, or after reordering several."""
        if packet.keyframe and self._opened_with != self.skip_loop_filter:
            self._opened_with = self.skip_loop_filter
            self._context = self._open()
        self.counts.frames += 1
        self._mends = packet.damaged and self._shown and self.codec in FINDS_ITS_PLACE
        if self._mends:
            self.counts.errors += packet.missing > 0
        elif packet.damaged:
            self._fault()
        elif packet.keyframe and self.codec is VideoCodec.H261:
            self._faulty = False  # libav does not say of its pictures which one is a key frame
        if not packet.data:
            return []  # to libav it would be the end of the stream, and nothing could follow
        coded = av.Packet(packet.data)
        coded.pts = coded.dts = packet.pts
        try:
            frames = self._context.decode(coded)
        except (av.error.FFmpegError, ValueError):
            if not self._mends:
                self._fault()
            return []
        return [self._picture(frame, packet.arrival) for frame in frames if self._presentable(frame, packet)]

    def _open(self) -> VideoCodecContext:
        context = av.CodecContext.create(_DECODERS[self.codec], "r")
        if not isinstance(context, VideoCodecContext):
            raise TypeError(f"{self.codec} is not a picture codec")
        context.thread_count = 1  # frame threads would delay every picture by their number
        context.options = {"max_pixels": str(MAX_PIXELS)}
        if self._opened_with:
            context.options = {**context.options, "skip_loop_filter": "all"}
        return context

    def _fault(self) -> None:
        self.counts.errors += 1
        self._faulty = True
        self._held = 0

    def _presentable(self, frame: av.VideoFrame, packet: Packet) -> bool:
        if self._mends:
            shown = is_shown(self.codec, packet)
            self.counts.mended += shown
            self.counts.pictures += shown
            self.counts.withheld += not shown
            return shown
        if frame.is_corrupt:
            self._fault()
        elif frame.key_frame or self._held >= self.PATIENCE:
            self._faulty = False
        if self._faulty:
            self._held += 1
            self.counts.withheld += 1
            return False
        self.counts.pictures += 1
        self._shown = True
        return True

    def _picture(self, frame: av.VideoFrame, arrival: float) -> Picture:
        full_range = frame.format.name == "yuvj420p" or frame.color_range == ColorRange.JPEG
        if full_range or frame.format.name != "yuv420p":
            pts = frame.pts
            frame = frame.reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
                dst_color_range=ColorRange.MPEG,
            )
            frame.pts = pts
        half = ((frame.height + 1) // 2, (frame.width + 1) // 2)
        aspect = self._context.sample_aspect_ratio
        return Picture(
            _view(frame, 0, frame.height, frame.width),
            _view(frame, 1, *half),
            _view(frame, 2, *half),
            frame.pts or 0,
            _CIF_ASPECT if self.codec is VideoCodec.H261 else float(aspect) if aspect else 1.0,
            arrival=arrival,
        )


def _view(frame: av.VideoFrame, index: int, height: int, width: int) -> Plane:
    """A plane of the decoder's own memory, which lives as long as the array does."""
    plane = frame.planes[index]
    rows: Plane = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]  # a Plane has the buffer protocol, its stub does not say so
    return rows[:height, :width]


@dataclass(frozen=True, slots=True)
class VideoTarget:
    """What an encoder makes.

    `bitrate` in bits a second is the ceiling of the coded frames, without packet headers. `vbv_frames` is how
    much of it, in frame times, one frame may take: at 1 a key frame at the full rate is on the wire no longer
    than any other. `profile_level_id` (RFC 6184 8.1) bounds H.264 profile and level; `max_slice_bytes` limits
    its slices for receivers of packetization mode 0. `min_key_gap` is the least distance of key frames in
    seconds: requests in between are answered together at its end.
    """

    codec: VideoCodec
    width: int
    height: int
    fps: int
    bitrate: int
    profile_level_id: str = "42e01f"
    max_slice_bytes: int = 0
    preset: str = "ultrafast"
    vbv_frames: float = 1.0
    min_key_gap: float = 0.5

    def __post_init__(self) -> None:
        if self.width % 2 or self.height % 2 or self.width < 16 or self.height < 16:
            raise ValueError(
                f"a picture of {self.width}x{self.height} cannot be encoded: sizes must be even, 16 up"
            )
        if not 1 <= self.fps <= 60 or self.bitrate < 8_000:
            raise ValueError(f"{self.fps} pictures a second at {self.bitrate} bit/s cannot be encoded")
        sizes = FIXED_SIZES.get(self.codec)
        if sizes and (self.width, self.height) not in sizes:
            raise ValueError(f"{self.codec} has no size {self.width}x{self.height}")


CIF_SIZES = frozenset({(128, 96), (176, 144), (352, 288), (704, 576), (1408, 1152)})
FIXED_SIZES: Mapping[VideoCodec, frozenset[tuple[int, int]]] = MappingProxyType(
    {
        VideoCodec.H263: CIF_SIZES,
        VideoCodec.H263P: CIF_SIZES,
        VideoCodec.H261: frozenset({(176, 144), (352, 288)}),
    }
)
"""Source formats of ITU-T H.263 table 1 and H.261 3.1; their samples are 12:11."""

H264_PROFILES: Mapping[int, str] = MappingProxyType(
    {0x42: "baseline", 0x4D: "main", 0x58: "baseline", 0x64: "high"}
)
"""profile_idc -> the encoder's profile; extended receivers take constrained baseline."""


@dataclass(slots=True)
class EncoderCounts:
    pictures: int = 0
    keys: int = 0
    bytes: int = 0
    reopened: int = 0


class VideoEncoder:
    """Encodes pictures of one size for one class of receivers.

    Key frames come first and on request only. A new bit rate is taken up in the running stream where the
    codec can (H.264); the size of its rate buffer follows with the next key frame. Other codecs start anew.
    """

    def __init__(self, target: VideoTarget) -> None:
        self.target = target
        self.counts = EncoderCounts()
        self._bitrate = target.bitrate
        self._wanted_bitrate = target.bitrate
        self._key_wanted = True
        self._since_key = 0  # how far the next picture is from the last key frame
        self._index = 0
        self._opened_bitrate = target.bitrate
        self._context = self._open()

    @property
    def bitrate(self) -> int:
        return self._wanted_bitrate

    def request_key_frame(self) -> None:
        """The next picture is a key frame, or the first one after `min_key_gap`."""
        self._key_wanted = True

    def set_bitrate(self, bitrate: int) -> None:
        """The ceiling from the next picture on, bits a second."""
        if bitrate < 8_000:
            raise ValueError(f"an encoder cannot be held to {bitrate} bit/s")
        self._wanted_bitrate = bitrate

    def encode(self, picture: Picture) -> list[Packet]:
        """The encoded frame of this picture. Raises ValueError when its size is not the target's."""
        if (picture.width, picture.height) != (self.target.width, self.target.height):
            raise ValueError(
                f"a {picture.width}x{picture.height} picture came to an encoder of "
                f"{self.target.width}x{self.target.height}"
            )
        key = self._key_due()
        self._follow_bitrate(key)
        frame = av.VideoFrame.from_numpy_buffer(_contiguous(picture), "yuv420p")
        frame.pts = self._next_pts()
        frame.time_base = self._context.time_base
        if key:
            frame.pict_type = PictureType.I
        arrival = picture.arrival or time.monotonic()
        encoded = [
            Packet(bytes(packet), picture.time, arrival, keyframe=packet.is_keyframe)
            for packet in self._context.encode(frame)
        ]
        self._count(encoded)
        return encoded

    def _key_due(self) -> bool:
        gap = self.target.min_key_gap * self.target.fps
        if not self._key_wanted or (self.counts.pictures and self._since_key < gap):
            return False
        self._key_wanted = False
        return True

    def _count(self, encoded: list[Packet]) -> None:
        self._since_key += 1
        for one in encoded:
            self.counts.pictures += 1
            self.counts.bytes += len(one.data)
            if one.keyframe:
                self.counts.keys += 1
                self._since_key = 1

    def _follow_bitrate(self, key: bool) -> None:
        wanted = self._wanted_bitrate
        changed, self._bitrate = wanted != self._bitrate, wanted
        if self.target.codec is VideoCodec.H264:
            if changed:
                # taken as it runs; having started at a constant rate, libx264 moves the ceiling with it
                self._context.bit_rate = wanted
            reopen = key and abs(wanted - self._opened_bitrate) > self._opened_bitrate // 4
        else:
            reopen = changed
        if reopen:
            self._context = self._open()
            self.counts.reopened += 1

    def _next_pts(self) -> int:
        self._index += 1
        return round(self._index / (self.target.fps * self._time_base))

    @property
    def _time_base(self) -> Fraction:
        if self.target.codec in FIXED_SIZES:
            return Fraction(1001, 30_000)  # the only clock of H.261 and of H.263 version 1
        return Fraction(1, self.target.fps)

    def _open(self) -> VideoCodecContext:
        target = self.target
        context = av.CodecContext.create(_ENCODERS[target.codec], "w")
        if not isinstance(context, VideoCodecContext):
            raise TypeError(f"{target.codec} is not a picture codec")
        context.width, context.height, context.pix_fmt = target.width, target.height, "yuv420p"
        context.time_base = self._time_base
        context.framerate = 1 / self._time_base
        context.bit_rate = self._opened_bitrate = self._bitrate
        context.thread_count = (
            1  # zerolatency would slice every picture over threads: dearer, and no faster here
        )
        if target.codec in FIXED_SIZES:
            context.sample_aspect_ratio = Fraction(12, 11)
        buffer = max(int(self._bitrate / target.fps * target.vbv_frames), 1)
        rate = {"maxrate": str(self._bitrate), "bufsize": str(buffer)}
        context.options = rate | (
            _x264_options(target) if target.codec is VideoCodec.H264 else _OTHER_OPTIONS[target.codec]
        )
        if target.codec is VideoCodec.VP8:
            context.options = {**context.options, "minrate": str(self._bitrate)}
        context.open()
        return context


_ENCODERS: Mapping[VideoCodec, str] = MappingProxyType(
    {
        VideoCodec.H264: "libx264",
        VideoCodec.VP8: "libvpx",
        VideoCodec.H263: "h263",
        VideoCodec.H263P: "h263",  # baseline pictures are valid RFC 4629 ones, and every receiver takes them
        VideoCodec.H261: "h261",
    }
)
_DECODERS: Mapping[VideoCodec, str] = MappingProxyType(
    {
        VideoCodec.H264: "h264",
        VideoCodec.VP8: "vp8",
        VideoCodec.H263: "h263",
        VideoCodec.H263P: "h263",
        VideoCodec.H261: "h261",
    }
)

_OTHER_OPTIONS: Mapping[VideoCodec, dict[str, str]] = MappingProxyType(
    {
        VideoCodec.VP8: {
            "deadline": "realtime",
            "cpu-used": "8",
            "lag-in-frames": "0",
            "g": "100000",
            "auto-alt-ref": "0",
            "max-intra-rate": "300",
            "undershoot-pct": "95",
        },
        # A header before each row that begins behind so many bytes: packets can be cut there (RFC 2190).
        VideoCodec.H263: {"g": "300", "ps": "900"},
        VideoCodec.H263P: {"g": "300", "ps": "900"},
        VideoCodec.H261: {"g": "300"},
    }
)


def _x264_options(target: VideoTarget) -> dict[str, str]:
    profile, level = h264_profile_level(target.profile_level_id)
    parameters = ["threads=1", "sliced-threads=0", "scenecut=0", "force-cfr=1", f"level={level}"]
    if target.max_slice_bytes:
        parameters.append(f"slice-max-size={target.max_slice_bytes}")
    return {
        "preset": target.preset,
        "tune": "zerolatency",
        "profile": profile,
        "forced-idr": "1",
        "g": "100000",
        "x264-params": ":".join(parameters),
    }


def h264_profile_level(profile_level_id: str) -> tuple[str, str]:
    """Profile and level an encoder may use for a receiver's profile-level-id (RFC 6184 8.1), as libx264 names
    them: "42e01f" -> ("baseline", "3.1"). Raises ValueError for a malformed or unknown one."""
    try:
        profile_idc, constraints, level_idc = bytes.fromhex(profile_level_id)
    except ValueError:
        raise ValueError(f"profile-level-id {profile_level_id!r} is not six hexadecimal digits") from None
    profile = H264_PROFILES.get(profile_idc)
    if profile is None:
        raise ValueError(f"profile-level-id {profile_level_id!r} names an H.264 profile we do not encode")
    if level_idc == 11 and profile != "high" and constraints & 0x10:
        return profile, "1b"  # ITU-T H.264 A.3.1: level_idc 11 with constraint_set3_flag
    return profile, f"{level_idc // 10}.{level_idc % 10}"


def _contiguous(picture: Picture) -> Plane:
    """The picture as one I420 array, copied only when it is not laid out as one already."""
    if picture.buffer is not None:
        return picture.buffer
    joined = Picture.over(np.empty((picture.height * 3 // 2, picture.width), np.uint8))
    for target, source in zip(joined.planes, picture.planes, strict=True):
        np.copyto(target, source)
    assert joined.buffer is not None
    return joined.buffer
