"""Fuzzes what becomes of a peer's session description: `python -m fuzz.sdp [seconds] [seed]`.

Mutations of fuzz/corpus/sdp are read, answered by a participant on ports of its own, and the answer is
printed and read again. Faults: any exception but Refusal, an answer that does not have the offer's m-lines in
order (RFC 3264 6) or says what was not offered, an input that takes longer than a second. Culprits are kept
in build/fuzz/sdp.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from foundation.desks import Budget, ParticipantSpec, Refusal
from mcu_bridge.access import MediaAccess, MediaNetwork
from mcu_bridge.participant import LegListeners, Participant
from media.dtls import DtlsCertificate
from media.pacer import PacingClock
from media.rtp_socket import PortRange
from protocols.sdp import SessionDescription
from signaling.media_description import read_sdp, write_sdp

HERE = Path(__file__).parent
CORPUS = HERE / "corpus" / "sdp"
FAILURES = HERE.parent / "build" / "fuzz" / "sdp"
SLOW = 1.0
MOST_FAILURES = 10
BUDGET = Budget(1_200_000, 900_000)
SPLICES = (
    "\r\n", "\n", "\r", " ", "a=", "/", ":", ";", "=", "|", "^", "*", "0", "65535", "65536", "-1", "1e9",
    "99999999999999999999", "²", "٣", "广", "\0", "inline:", "packetization-mode=1", "a=rtcp-mux\r\n",
    "m=audio 5004 RTP/AVP 0\r\n", "m=video 5006 RTP/SAVP 34\r\n", "a=inactive\r\n", "a=setup:active\r\n",
    "c=IN IP4 0.0.0.0\r\n", "c=IN IP6 ::1\r\n", "b=AS:0\r\n", "b=TIAS:1\r\n", "a=mid:0\r\n",
    "a=group:BUNDLE 0 1\r\n", "a=content:slides\r\n", "a=bundle-only\r\n", "a=floorid:1 mstrm:2\r\n",
    "m=application 9 TCP/BFCP *\r\n", "a=label:2\r\n", "a=floorctrl:c-s\r\n",
)  # fmt: skip
_SWAPS: Mapping[bytes, bytes] = MappingProxyType(
    {
        b"AVP": b"SAVP",
        b"SAVP": b"AVP",
        b"H264": b"VP8",
        b"PCMA": b"OPUS",
        b"90000": b"8000",
        b"audio": b"video",
    }
)


class Answerer:
    """Answers one description after another, each as a participant of its own; made in a running loop."""

    def __init__(self, first_port: int = 42_000) -> None:
        ports = PortRange(first_port, first_port + 199)
        network = MediaNetwork("lan", "127.0.0.1", "127.0.0.1", ports, 0, 0)
        self._access = MediaAccess({"lan": network}, DtlsCertificate.generate())
        self._clock = PacingClock()
        self._listeners = LegListeners(_nothing, _nothing, _nothing)

    async def answer(self, offer: bytes) -> bytes:
        """Our printed answer. Raises Refusal."""
        loop = asyncio.get_running_loop()
        spec = ParticipantSpec("fuzzed", "meeting", "Fuzzed", "lan", BUDGET)
        participant = Participant(spec, self._access, self._clock, self._listeners, loop)
        try:
            answer = participant.admit(read_sdp(offer), None)
            participant.poll(time.monotonic(), time.time())
            return write_sdp(answer)
        finally:
            await participant.aclose()

    def close(self) -> None:
        self._clock.close()


def _nothing(*_what: object) -> None:
    return None


def fault_of(offer: bytes, answer: bytes) -> str | None:
    """What RFC 3264 6 forbids in the answer."""
    offered, answered = SessionDescription.parse(offer).media, SessionDescription.parse(answer).media
    if [(m.media, m.protocol) for m in offered] != [(m.media, m.protocol) for m in answered]:
        return "the m-lines are not the offer's"
    for theirs, ours in zip(offered, answered, strict=True):
        if ours.port and not theirs.port and not theirs.has("bundle-only"):
            return "a refused medium is answered"
        if ours.port and not set(map(int, ours.formats)) <= {int(f) for f in theirs.formats if f.isdecimal()}:
            return "a payload type was not offered"
        tags = {value.split()[0] for value in theirs.values("crypto") if value}
        if ours.port and not {value.split()[0] for value in ours.values("crypto")} <= tags:
            return "a crypto tag was not offered"
        secured = ours.values("crypto") or ours.values("fingerprint")
        if ours.port and "SAVP" in ours.protocol and not secured:
            return "SRTP is answered without a key"
    read_sdp(answer)
    return None


def mutated(chance: random.Random, corpus: list[bytes]) -> bytes:
    """One corpus entry, damaged in one to six places."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        match chance.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case 2:
                data[at:at] = chance.choice(SPLICES).encode() * chance.choice((1, 1, 2, 50))
            case 3:
                lines = chance.choice(corpus).splitlines(keepends=True)
                start = chance.randrange(len(lines))
                data[at:at] = b"".join(lines[start : start + chance.randint(1, 6)])
            case 4:
                lines = bytes(data).splitlines(keepends=True)
                if lines:
                    del lines[chance.randrange(len(lines))]
                data = bytearray(b"".join(lines))
            case 5:
                old = chance.choice(list(_SWAPS))
                data = bytearray(bytes(data).replace(old, _SWAPS[old], chance.randint(1, 3)))
            case _:
                data[at : at + 1] = chance.randbytes(chance.randint(1, 8))
    return bytes(data[:100_000])


async def fuzz(seconds: float, seed: int) -> int:
    """How many faults were found."""
    chance = random.Random(seed)
    corpus = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    answerer = Answerer()
    end = time.monotonic() + seconds
    tried = refused = failures = 0
    while time.monotonic() < end and failures < MOST_FAILURES:
        offer = mutated(chance, corpus)
        tried += 1
        began = time.monotonic()
        try:
            fault = fault_of(offer, await answerer.answer(offer))
            if time.monotonic() - began > SLOW:
                fault = f"took {time.monotonic() - began:.1f} s"
            if fault is not None:
                raise AssertionError(fault)
        except Refusal:
            refused += 1
        except Exception as error:
            failures += 1
            FAILURES.mkdir(parents=True, exist_ok=True)
            (FAILURES / f"{seed}-{tried}").write_bytes(offer)
            print(f"input {tried} of seed {seed}: {type(error).__name__}: {error}")
    answerer.close()
    print(f"{tried} descriptions, {refused} refused, seed {seed}, {failures} failures")
    return failures


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 60.0
    seed = int(arguments[1]) if len(arguments) > 1 else int(time.time())
    return 1 if asyncio.run(fuzz(seconds, seed)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
