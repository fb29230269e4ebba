"""What a site's own picture is, learnt from its frames: size, profile, rate, order. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mcu_bridge.picture_plan import PictureSource
from mcu_bridge.rates import PAYLOAD
from media.packet import Packet
from protocols.payloads import h261
from protocols.payloads.bit_reader import BitReader, EndOfBits, rbsp
from protocols.payloads.h263_picture import MalformedPicture, PictureHeader
from protocols.payloads.h264 import NalType, split_byte_stream
from protocols.payloads.h264_sps import MalformedParameterSet, SequenceParameterSet
from protocols.payloads.vp8 import keyframe_size

_SMOOTHING = 0.3
_NOTEWORTHY = 0.15
"""A measured rate is reported anew only when it moved by this share,"""
_LOWER_AFTER = 5.0
"""and a lower one only after so many seconds: who just fits a receiver is not to and fro between its own
stream and an encoder."""

_BASELINE = 66
_PROOF_FRAMES = 30
"""Frames in order that prove a stream to be so whose parameter sets are silent about it."""
_LARGEST_STEP_BACK = 90_000
"""Ticks by which B-frames may step back; a longer step is another time line."""
_B_SLICE = 1
_VCL = frozenset({1, 2, 5})


@dataclass(slots=True)
class FrameOrder:
    """Whether H.264 pictures are shown in another order than they come in; None while not known.

    Once found to be so it stays so. Parameter sets decide where they speak (max_num_reorder_frames of VUI,
    pic_order_cnt_type 2, a baseline profile); else B slices, or time stamps that step back.
    """

    reordered: bool | None = None
    _said: bool = False
    _latest: int | None = None
    _in_order: int = 0

    def described(self, sps: SequenceParameterSet) -> None:
        says = sps.max_num_reorder_frames
        if says is None and (sps.profile_idc == _BASELINE or sps.pic_order_cnt_type == 2):
            says = 0
        self._said = says is not None
        if says is not None and not self.reordered:
            self.reordered = says > 0

    def observe(self, pts: int, data: bytes) -> None:
        """The next whole frame, in the order it came."""
        if self.reordered:
            return
        latest = self._latest
        self._latest = pts
        steps_back = latest is not None and 0 < latest - pts <= _LARGEST_STEP_BACK
        if steps_back or (not self._said and _has_b_slice(data)):
            self.reordered = True
        elif self.reordered is None:
            self._in_order += 1
            if self._in_order >= _PROOF_FRAMES:
                self.reordered = False


def _has_b_slice(data: bytes) -> bool:
    """By the slice_type (ITU-T H.264 7.4.3) of the first slice."""
    for nal in split_byte_stream(data):
        if nal and nal[0] & 0x1F in _VCL:
            reader = BitReader(rbsp(nal[:16]))
            try:
                reader.ue()  # first_mb_in_slice
                return reader.ue() % 5 == _B_SLICE
            except EndOfBits:
                return False
    return False


class MeasuredSource:
    """`source` is None until a key frame came, and again after `forget`. `changed` is called when the plan
    may have to change."""

    def __init__(self, codec: str, changed: Callable[[], None]) -> None:
        self.source: PictureSource | None = None
        self._codec = codec
        self._changed = changed
        self._order = FrameOrder()
        self._rate = 0.0
        self._lower_since = 0.0

    def take(self, packet: Packet) -> None:
        """A frame came; before the first key frame nothing is learnt."""
        before = self.source
        if packet.keyframe:
            self._learn(packet.data)
        source = self.source
        if source is None or self._codec != "H264":
            return
        if not packet.damaged:
            self._order.observe(packet.pts, packet.data)
        largest = source.largest_nal
        if packet.keyframe or len(packet.data) > max(PAYLOAD, largest):
            largest = max(largest, *map(len, split_byte_stream(packet.data)))
        if largest != source.largest_nal or self._order.reordered is not source.reordered:
            self.source = replace(source, largest_nal=largest, reordered=self._order.reordered)
        if before is None or _essence(before) != _essence(self.source):
            self._changed()

    def _learn(self, data: bytes) -> None:
        known = self.source or PictureSource(self._codec, 0)
        if self._codec != "H264":
            before, self.source = self.source, self._described(known, data)
            if _essence(before) != _essence(self.source):
                self._changed()
            return
        self.source = known
        for nal in split_byte_stream(data):
            if nal and nal[0] & 0x1F == NalType.SPS:
                try:
                    sps = SequenceParameterSet.parse(nal)
                except MalformedParameterSet:
                    continue
                self._order.described(sps)
                self.source = replace(
                    known,
                    width=sps.width,
                    height=sps.height,
                    profile=sps.profile_idc,
                    reordered=self._order.reordered,
                )

    def _described(self, known: PictureSource, data: bytes) -> PictureSource:
        """What a key frame of another codec than H.264 says of itself."""
        if self._codec in ("H263", "H263-1998"):
            try:
                header = PictureHeader.parse(data)
            except MalformedPicture:
                return known
            # A baseline picture goes to receivers of either payload format, others to none.
            baseline = not header.extended and not header.options
            codec = "H263" if baseline else "H263-1998"
            return replace(known, codec=codec, width=header.width, height=header.height)
        size = h261.picture_size(data) if self._codec == "H261" else keyframe_size(data)
        return known if size is None else replace(known, width=size[0], height=size[1])

    def follow(self, bitrate: float, now: float, frame_rate: float | None = None) -> None:
        """The measured rate, bit/s, and frames a second where they are known; a few times a second."""
        source = self.source
        if source is None:
            self._rate = 0.0
            return
        self._rate += (bitrate - self._rate) * (_SMOOTHING if self._rate else 1.0)
        reported = source.bitrate_bps
        change = self._rate - reported
        if change > -_NOTEWORTHY * reported:
            self._lower_since = now
        if change > _NOTEWORTHY * max(reported, 50_000) or now - self._lower_since > _LOWER_AFTER:
            source = replace(source, bitrate_bps=int(self._rate))
            self._lower_since = now
        if frame_rate is not None and abs(frame_rate - source.frame_rate) > _NOTEWORTHY * source.frame_rate:
            source = replace(source, frame_rate=round(frame_rate, 1))
        self.source = source

    def forget(self) -> None:
        """The picture stopped; it is a source again with its next key frame."""
        self.source = None


def _essence(source: PictureSource | None) -> tuple[object, ...]:
    """What the plan turns on at once."""
    if source is None:
        return ()
    return source.codec, source.width, source.height, source.profile, source.reordered
