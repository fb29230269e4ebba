"""H.264 from RTP (RFC 6184): access units out of single NAL units, STAP and FU packets, with losses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from protocols.payloads import Frame
from protocols.payloads.bit_reader import BitReader, EndOfBits, rbsp
from protocols.payloads.h264 import START_CODE, NalType, join_byte_stream, split_byte_stream
from protocols.payloads.h264_sps import MalformedParameterSet, parameter_set_id

MAX_ACCESS_UNIT = 8 * 1024 * 1024
_MAX_PARAMETER_SET = 4096
_START_CODES = (b"\x00\x00\x01", START_CODE)
_BEFORE_PICTURES = frozenset({NalType.SPS, NalType.PPS, NalType.SEI, NalType.ACCESS_UNIT_DELIMITER})
_MAX_WAITING = 64
"""NAL units other than slices kept for an access unit that has not begun."""


@dataclass(slots=True)
class _AccessUnit:
    """What has come of the access unit under way; `doubtful_start`: its first packets may be missing."""

    nals: list[bytes] = field(default_factory=list)
    size: int = 0
    slices: int = 0
    keyframe: bool = False
    has_sps: bool = False
    damaged: bool = False
    doubtful_start: bool = False
    recovery_point: int | None = None


class H264Depacketizer:
    """Gathers access units by marker and by change of timestamp.

    Broken NAL units are dropped and their access unit is `damaged`. An IDR picture that comes without
    parameter sets gets the latest ones (seeded from sprop-parameter-sets) put before it; without any known it
    counts as damaged. A picture at which decoding may start as well (recovery point, no frames to wait for:
    the I picture of an open group) gets them too. Senders that set the marker on every slice are found out
    and then cut by timestamp.
    """

    def __init__(self, parameter_sets: Iterable[bytes] = (), max_size: int = MAX_ACCESS_UNIT) -> None:
        self.malformed = 0
        self._max_size = max_size
        self._sps: dict[int, bytes] = {}
        self._pps: dict[int, bytes] = {}
        self._sets_come_in_band = False
        self._markers_come = False
        self._marker_lies = False
        self._timestamp: int | None = None
        self._ended_by_marker = False
        self._fragment: bytearray | None = None
        self._unit = _AccessUnit()
        for nal in parameter_sets:
            self._keep_parameter_set(nal)

    @property
    def needs_keyframes(self) -> bool:
        return True

    @property
    def parameter_sets(self) -> tuple[bytes, ...]:
        """The latest SPS and PPS NAL units, by rising id."""
        return tuple(self._sps[n] for n in sorted(self._sps)) + tuple(self._pps[n] for n in sorted(self._pps))

    def push(self, payload: bytes, timestamp: int, marker: bool, after_loss: bool = False) -> list[Frame]:
        frames: list[Frame] = []
        if after_loss:
            self._drop_fragment()
        if timestamp != self._timestamp:
            # Whether what was lost belonged to the old picture or the new one is not known: doubt both.
            self._unit.damaged |= after_loss
            frames = self._finish()
            self._timestamp = timestamp
            self._ended_by_marker = False
            self._unit.doubtful_start = after_loss
        elif after_loss:
            if self._unit.slices or self._unit.damaged:
                self._unit.damaged = True
            else:
                self._unit.doubtful_start = True
        if payload:
            self._take(payload)
        if marker and not self._marker_lies:
            self._drop_fragment()
            whole = self._finish()
            self._ended_by_marker |= bool(whole)
            self._markers_come |= bool(whole)
            frames.extend(whole)
        return frames

    def flush(self) -> list[Frame]:
        # Of a sender that marks the ends of its pictures, one without its end is not whole.
        self._unit.damaged |= self._markers_come and not self._marker_lies
        frames = self._finish()
        self._timestamp = None
        self._unit = _AccessUnit()
        return frames

    def _take(self, payload: bytes) -> None:
        kind = payload[0] & 0x1F
        if kind not in (NalType.FU_A, NalType.FU_B):
            self._drop_fragment()  # its end never came
        if payload.startswith(_START_CODES):
            self._add_all(payload)
        elif 1 <= kind <= 23:
            self._add(payload)
        elif kind in (NalType.STAP_A, NalType.STAP_B):
            self._take_aggregate(payload, 1 if kind == NalType.STAP_A else 3)
        elif kind in (NalType.FU_A, NalType.FU_B):
            self._take_fragment(payload, 2)
        else:
            self._break()

    def _take_aggregate(self, payload: bytes, at: int) -> None:
        """RFC 6184 5.7.1; a STAP-B has a decoding order number of two bytes before its units."""
        if len(payload) < at + 2:
            self._break()
        while at + 2 <= len(payload):
            size = int.from_bytes(payload[at : at + 2], "big")
            nal = payload[at + 2 : at + 2 + size]
            at += 2 + size
            if not nal or len(nal) < size:
                self._break()
                return
            self._add(nal)

    def _take_fragment(self, payload: bytes, at: int) -> None:
        """RFC 6184 5.8; only the first fragment may be an FU-B, with a decoding order number."""
        if payload[0] & 0x1F == NalType.FU_B:
            at += 2
        if len(payload) <= at:
            self._break()
            return
        header = payload[1]
        if header & 0x80:
            self._drop_fragment()
            self._fragment = bytearray([payload[0] & 0xE0 | header & 0x1F])
        if self._fragment is None:
            self._unit.damaged = True  # its beginning never came
            return
        self._fragment += payload[at:]
        if self._unit.size + len(self._fragment) > self._max_size:
            self._drop_fragment()
            self._break()
        elif header & 0x40:
            nal = bytes(self._fragment)
            self._fragment = None
            self._add(nal)

    def _add_all(self, byte_stream: bytes) -> None:
        """Some cameras send the byte stream itself, start codes and all, in place of a NAL unit."""
        for nal in split_byte_stream(byte_stream):
            self._add(nal)

    def _add(self, nal: bytes) -> None:
        kind = nal[0] & 0x1F
        if kind in _BEFORE_PICTURES and _START_CODES[0] in nal:  # in no NAL unit (H.264 7.4.1)
            self._add_all(START_CODE + nal)
            return
        if nal[0] & 0x80 or self._unit.size + len(nal) > self._max_size:
            self._break()
            return
        if 1 <= kind <= 5:
            self._note_slice(nal, kind)
        elif kind in (NalType.SPS, NalType.PPS):
            self._unit.has_sps |= kind == NalType.SPS
            self._keep_parameter_set(nal)
        elif kind == NalType.SEI:
            count = _recovery_frame_count(nal)
            self._unit.recovery_point = count if count is not None else self._unit.recovery_point
        self._unit.nals.append(nal)
        self._unit.size += len(nal)
        if not self._unit.slices and len(self._unit.nals) > _MAX_WAITING:
            self._unit.size -= len(self._unit.nals.pop(0))

    def _note_slice(self, nal: bytes, kind: int) -> None:
        if not self._unit.slices and kind in (NalType.SLICE, NalType.PARTITION_A, NalType.IDR_SLICE):
            begins_picture = len(nal) > 1 and nal[1] & 0x80  # first_mb_in_slice is 0
            if not begins_picture and self._ended_by_marker:
                self._marker_lies = True
            self._unit.damaged |= not begins_picture and (self._unit.doubtful_start or self._ended_by_marker)
        self._unit.slices += 1
        self._unit.keyframe |= kind == NalType.IDR_SLICE

    def _keep_parameter_set(self, nal: bytes) -> None:
        try:
            number = parameter_set_id(nal[:_MAX_PARAMETER_SET])
        except MalformedParameterSet:
            self.malformed += 1
            return
        if len(nal) <= _MAX_PARAMETER_SET:
            (self._sps if nal[0] & 0x1F == NalType.SPS else self._pps)[number] = nal

    def _break(self) -> None:
        self.malformed += 1
        self._unit.damaged = True

    def _drop_fragment(self) -> None:
        if self._fragment is not None:
            self._fragment = None
            self._unit.damaged = True

    def _finish(self) -> list[Frame]:
        """The access unit, if it has slices; parameter sets and SEI alone wait for the one they precede."""
        self._drop_fragment()
        if not self._unit.slices:
            # Nothing of the picture came. What was lost with it is the receiver's to count.
            self._unit.damaged = False
            return []
        assert self._timestamp is not None, "an access unit has the timestamp it was pushed with"
        damaged = self._unit.damaged
        if self._unit.keyframe:
            damaged |= self._complete_parameter_sets()
        elif self._unit.recovery_point == 0 and not damaged:
            self._insert_parameter_sets()
        frame = Frame(
            join_byte_stream(self._unit.nals),
            self._timestamp,
            self._unit.keyframe,
            damaged,
            self._unit.recovery_point,
        )
        self._unit = _AccessUnit()
        return [frame]

    def _complete_parameter_sets(self) -> bool:
        """Puts missing parameter sets before an IDR picture; whether it cannot be trusted all the same."""
        lost_sets = self._unit.doubtful_start and self._sets_come_in_band and not self._unit.has_sps
        if not self._unit.doubtful_start:
            self._sets_come_in_band = self._unit.has_sps
        self._insert_parameter_sets()
        return lost_sets or not self._sps or not self._pps

    def _insert_parameter_sets(self) -> None:
        kinds = [nal[0] & 0x1F for nal in self._unit.nals]
        if NalType.SPS in kinds:
            at = kinds.index(NalType.SPS) + 1
        else:
            at = 1 if kinds[0] == NalType.ACCESS_UNIT_DELIMITER else 0
            self._unit.nals[at:at] = [self._sps[number] for number in sorted(self._sps)]
            at += len(self._sps)
        if NalType.PPS not in kinds:
            self._unit.nals[at:at] = [self._pps[number] for number in sorted(self._pps)]


def _recovery_frame_count(nal: bytes) -> int | None:
    """recovery_frame_cnt of a recovery point SEI message (H.264 D.1.8), or None."""
    data = rbsp(nal)
    at = 0
    while at + 2 <= len(data) and data[at:] != b"\x80":
        kind = size = 0
        while at < len(data) and data[at] == 0xFF:
            kind, at = kind + 255, at + 1
        kind, at = kind + (data[at] if at < len(data) else 0), at + 1
        while at < len(data) and data[at] == 0xFF:
            size, at = size + 255, at + 1
        size, at = size + (data[at] if at < len(data) else 0), at + 1
        if kind == 6:
            try:
                return BitReader(data[at : at + size]).ue()
            except EndOfBits:
                return None
        at += size
    return None
