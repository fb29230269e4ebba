"""Reads bits and Exp-Golomb numbers of a raw byte sequence payload (ITU-T H.264 7.2, 9.1)."""

from __future__ import annotations


class EndOfBits(ValueError):
    """The peer's bit string ends before its syntax does."""


class BitReader:
    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def u(self, count: int) -> int:
        """The next `count` bits as an unsigned number. Raises EndOfBits."""
        if count > self._left:
            raise EndOfBits(f"{count} bits asked and {self._left} left")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def ue(self) -> int:
        """Unsigned Exp-Golomb (9.1), at most 32 bits. Raises EndOfBits."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise EndOfBits("an Exp-Golomb number of more than 32 bits")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Signed Exp-Golomb (9.1.1). Raises EndOfBits."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def rbsp(nal_unit: bytes, header_size: int = 1) -> bytes:
    """The payload of a NAL unit without its header and emulation prevention bytes (H.264 7.3.1)."""
    return nal_unit[header_size:].replace(b"\x00\x00\x03", b"\x00\x00")
