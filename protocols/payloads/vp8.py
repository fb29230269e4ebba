"""VP8 over RTP (RFC 7741): payload descriptor with a 15-bit picture id; key frames and their size."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocols.payloads import Frame

DEFAULT_MAX_PAYLOAD = 1200
MAX_FRAME = 8 * 1024 * 1024
_PICTURE_ID_MASK = 0x7FFF


class MalformedVp8(ValueError):
    """The peer's bytes do not follow RFC 7741 4.2."""


@dataclass(frozen=True, slots=True)
class PayloadDescriptor:
    """RFC 7741 4.2. `picture_id` has 7 or 15 bits; printed always with 15. `size` bytes were read."""

    start_of_partition: bool
    partition: int = 0
    non_reference: bool = False
    picture_id: int | None = None
    tl0_picture_index: int | None = None
    temporal_layer: int | None = None
    size: int = 1

    @classmethod
    def parse(cls, payload: bytes) -> PayloadDescriptor:
        """Raises MalformedVp8 when the descriptor is cut off or nothing follows it."""
        try:
            return _parse_descriptor(payload)
        except IndexError:
            raise MalformedVp8("a VP8 payload without its descriptor or data") from None

    def __bytes__(self) -> bytes:
        first = (
            (0x20 if self.non_reference else 0) | (0x10 if self.start_of_partition else 0) | self.partition
        )
        extended = 0
        fields = b""
        if self.picture_id is not None:
            extended |= 0x80
            fields += (0x8000 | self.picture_id).to_bytes(2, "big")
        if self.tl0_picture_index is not None:
            extended |= 0x40
            fields += bytes([self.tl0_picture_index])
        if self.temporal_layer is not None:
            extended |= 0x20
            fields += bytes([self.temporal_layer << 6])
        return bytes([first | 0x80, extended]) + fields if extended else bytes([first])


def _parse_descriptor(payload: bytes) -> PayloadDescriptor:
    first, at = payload[0], 1
    picture_id = index = layer = None
    if first & 0x80:
        extended, at = payload[1], 2
        if extended & 0x80:
            picture_id, at = payload[at] & 0x7F, at + 1
            if payload[at - 1] & 0x80:
                picture_id, at = picture_id << 8 | payload[at], at + 1
        if extended & 0x40:
            index, at = payload[at], at + 1
        if extended & 0x30:
            layer, at = payload[at] >> 6 if extended & 0x20 else None, at + 1
    payload[at]  # the descriptor is followed by at least one byte
    return PayloadDescriptor(
        bool(first & 0x10), first & 0x0F, bool(first & 0x20), picture_id, index, layer, at
    )


def is_keyframe(frame: bytes) -> bool:
    """Whether a frame is a key frame: the inverse of its first bit (RFC 6386 9.1)."""
    return len(frame) > 0 and not frame[0] & 1


def keyframe_size(frame: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels of a key frame with its start code whole, else None (RFC 6386 9.1)."""
    if not is_keyframe(frame) or len(frame) < 10 or frame[3:6] != b"\x9d\x01\x2a":
        return None
    return int.from_bytes(frame[6:8], "little") & 0x3FFF, int.from_bytes(frame[8:10], "little") & 0x3FFF


class Vp8Packetizer:
    """Splits frames into payloads of `max_payload` bytes, the last shorter; numbers the pictures."""

    def __init__(self, picture_id: int = 0, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        if max_payload < 5:
            raise ValueError(f"no room for VP8 data in {max_payload} bytes")
        self._picture_id = picture_id & _PICTURE_ID_MASK
        self._max_payload = max_payload

    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises ValueError when the frame is empty."""
        if not frame:
            raise ValueError("an empty VP8 frame")
        first = bytes(PayloadDescriptor(True, picture_id=self._picture_id))
        later = bytes(PayloadDescriptor(False, picture_id=self._picture_id))
        self._picture_id = self._picture_id + 1 & _PICTURE_ID_MASK
        step = self._max_payload - len(first)
        return [(later if at else first) + frame[at : at + step] for at in range(0, len(frame), step)]


@dataclass(slots=True)
class _PartialFrame:
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    damaged: bool = False


class Vp8Depacketizer:
    """Gathers frames by marker and by change of timestamp; a frame without its beginning is not given."""

    def __init__(self, max_size: int = MAX_FRAME) -> None:
        self.malformed = 0
        self._max_size = max_size
        self._markers_come = False
        self._timestamp: int | None = None
        self._frame = _PartialFrame()

    @property
    def needs_keyframes(self) -> bool:
        return True

    def push(self, payload: bytes, timestamp: int, marker: bool, after_loss: bool = False) -> list[Frame]:
        frames: list[Frame] = []
        if timestamp != self._timestamp:
            self._frame.damaged |= after_loss
            frames = self._finish()
            self._timestamp = timestamp
        elif after_loss:
            self._frame.damaged = True
        if payload:
            self._take(payload)
        if marker:
            self._markers_come = True
            frames.extend(self._finish())
        return frames

    def flush(self) -> list[Frame]:
        # Of a sender that marks the ends of its frames, one without its end is not whole.
        self._frame.damaged |= self._markers_come
        frames = self._finish()
        self._timestamp = None
        return frames

    def _take(self, payload: bytes) -> None:
        try:
            descriptor = PayloadDescriptor.parse(payload)
        except MalformedVp8:
            self.malformed += 1
            self._frame.damaged = True
            return
        if not self._frame.parts and not (descriptor.start_of_partition and descriptor.partition == 0):
            self._frame.damaged = True
            return
        if self._frame.size + len(payload) > self._max_size:
            self.malformed += 1
            self._frame.damaged = True
            return
        if not self._frame.parts:
            self._frame.damaged = False  # what was lost with this timestamp came before the frame's beginning
        self._frame.parts.append(payload[descriptor.size :])
        self._frame.size += len(payload)

    def _finish(self) -> list[Frame]:
        frame, self._frame = self._frame, _PartialFrame()
        data = b"".join(frame.parts)
        if not data:
            return []
        assert self._timestamp is not None, "a frame has the timestamp it was pushed with"
        return [Frame(data, self._timestamp, is_keyframe(data), frame.damaged)]
