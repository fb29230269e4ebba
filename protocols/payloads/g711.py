"""G.711 over RTP (RFC 3551 4.5.14): PCMU (payload type 0) and PCMA (8), a byte a sample at 8000 Hz."""

from __future__ import annotations

from enum import Enum

from protocols.payloads import Frame

CLOCK_RATE = 8000
MAX_PAYLOAD = 8 * 200
"""200 ms (RFC 3551 4.2); what is longer is no telephone's sound."""


class Law(Enum):
    """value: (encoding name in SDP, static payload type, the byte of silence)."""

    MU = ("PCMU", 0, 0xFF)
    A = ("PCMA", 8, 0xD5)

    @property
    def encoding_name(self) -> str:
        return self.value[0]

    @property
    def payload_type(self) -> int:
        return self.value[1]

    def silence(self, samples: int) -> bytes:
        return bytes([self.value[2]]) * samples


class G711Framer:
    """Cuts a run of samples into Frames of `ptime` milliseconds; a rest waits for the next samples."""

    def __init__(self, ptime: int = 20) -> None:
        if not 1 <= ptime <= 200:
            raise ValueError(f"a G.711 packet lasts 1 to 200 ms, not {ptime}")
        self._size = ptime * CLOCK_RATE // 1000
        self._rest = b""
        self._timestamp = 0

    def push(self, samples: bytes, timestamp: int) -> list[Frame]:
        """`timestamp` is that of the first of `samples`. After a jump the rest is dropped, not stretched."""
        if self._rest and timestamp == self._timestamp + len(self._rest):
            samples, timestamp = self._rest + samples, self._timestamp
        whole = len(samples) - len(samples) % self._size
        self._rest, self._timestamp = samples[whole:], timestamp + whole
        return [
            Frame(samples[at : at + self._size], timestamp + at, keyframe=True)
            for at in range(0, whole, self._size)
        ]


class G711Packetizer:
    def packetize(self, frame: bytes) -> list[bytes]:
        """Raises ValueError when the frame is empty or longer than 200 ms."""
        if not 0 < len(frame) <= MAX_PAYLOAD:
            raise ValueError(f"a G.711 frame of {len(frame)} bytes")
        return [frame]


class G711Depacketizer:
    """Every payload is a Frame; what was lost shows as a jump of the timestamps."""

    def __init__(self) -> None:
        self.malformed = 0

    @property
    def needs_keyframes(self) -> bool:
        return False

    def push(self, payload: bytes, timestamp: int, marker: bool, after_loss: bool = False) -> list[Frame]:
        if len(payload) > MAX_PAYLOAD:
            self.malformed += 1
            return []
        return [Frame(payload, timestamp, keyframe=True)] if payload else []

    def flush(self) -> list[Frame]:
        return []
