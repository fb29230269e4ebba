"""H.263 over RTP as RFC 4629 has it (encoding names H263-1998 and H263-2000), versions 1 and 2 alike."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.payloads.bit_string import BitSpan
from protocols.payloads.h263_picture import MalformedPicture, PictureHeader, is_keyframe, start_codes
from protocols.payloads.picture_parts import Part, PictureDepacketizer

DEFAULT_MAX_PAYLOAD = 1200
_HEADER = 2


class MalformedH263Plus(ValueError):
    """The peer's payload has no header of RFC 4629 5.1."""


@dataclass(frozen=True, slots=True)
class H263PlusHeader:
    """RFC 4629 5.1. `start_code` (P): the two zero bytes of a start code were left out. `redundant` is the
    extra picture header (without its first two bytes), of which the last `redundant_ebit` bits do not count;
    `channel` the byte of video redundancy coding (5.2). `size` bytes were read."""

    start_code: bool
    channel: int | None = None
    redundant: bytes = b""
    redundant_ebit: int = 0
    size: int = _HEADER

    @classmethod
    def parse(cls, payload: bytes) -> H263PlusHeader:
        """Raises MalformedH263Plus also when nothing follows the header."""
        if len(payload) < _HEADER:
            raise MalformedH263Plus(f"an H.263+ payload of {len(payload)} bytes")
        word = int.from_bytes(payload[:2], "big")
        at = _HEADER
        channel = None
        if word & 0x200:
            channel = payload[at] if at < len(payload) else 0
            at += 1
        length = word >> 3 & 0x3F
        redundant = payload[at : at + length]
        at += length
        if len(payload) <= at:
            raise MalformedH263Plus("an H.263+ payload that ends with its header")
        return cls(bool(word & 0x400), channel, redundant, word & 7, at)

    def __bytes__(self) -> bytes:
        word = (0x400 if self.start_code else 0) | len(self.redundant) << 3 | self.redundant_ebit
        if self.channel is None:
            return word.to_bytes(2, "big") + self.redundant
        return (word | 0x200).to_bytes(2, "big") + bytes([self.channel]) + self.redundant


class H263PlusPacketizer:
    """Splits pictures before a start code where one lies in the second half of a packet, else at any byte."""

    def __init__(self, max_payload: int = DEFAULT_MAX_PAYLOAD) -> None:
        if max_payload < 16:
            raise ValueError(f"no room for H.263 data in {max_payload} bytes")
        self._room = max_payload - _HEADER

    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises ValueError (MalformedPicture) for what is no H.263 picture."""
        PictureHeader.parse(frame)
        codes = set(start_codes(frame))
        payloads: list[bytes] = []
        at = 0
        while at < len(frame):
            begins = at in codes
            most = at + self._room + (2 if begins else 0)
            end = len(frame)
            if end > most:
                end = max((code for code in codes if at + self._room // 2 < code <= most), default=most)
            header = bytes(H263PlusHeader(begins))
            payloads.append(header + frame[at + (2 if begins else 0) : end])
            at = end
        return payloads


class H263PlusDepacketizer(PictureDepacketizer):
    """Gathers pictures. One whose first packet was lost is begun with a redundant header, if there is one."""

    def _read(self, payload: bytes) -> Part | None:
        try:
            header = H263PlusHeader.parse(payload)
        except MalformedH263Plus:
            return None
        data = payload[header.size :]
        if not header.start_code:
            return Part(BitSpan(data), resumes=False, begins=False)
        begins = data[0] & 0xFC == 0x80
        if header.redundant and not begins and not self._parts:
            rebuilt = self._rebuilt(header)
            if rebuilt is not None:
                self._damaged = True
                return Part(BitSpan(rebuilt + b"\0\0" + data), resumes=True, begins=True)
        return Part(BitSpan(b"\0\0" + data), resumes=True, begins=begins)

    def _rebuilt(self, header: H263PlusHeader) -> bytes | None:
        """A picture header as it stands at a picture's beginning; the bits that do not count are zeros, as
        stuffing before the next start code is."""
        spare = header.redundant_ebit
        last = header.redundant[-1] >> spare << spare
        rebuilt = b"\0\0" + header.redundant[:-1] + bytes([last])
        try:
            PictureHeader.parse(rebuilt)
        except MalformedPicture:
            return None
        return rebuilt

    def _is_keyframe(self, picture: bytes) -> bool:
        return is_keyframe(picture)
