"""Fuzzes what becomes of a peer's session description: `python -m fuzz.sdp [seconds] [seed]`.

Mutations of fuzz/corpus/sdp are read, answered by a participant on ports of its own, and the answer is
printed and read again. Faults: any exception but Refusal, an answer that does not have the offer's m-lines in
order (RFC 3264 6) or says what was not offered, an input that takes longer than a second. Culprits are kept
in build/fuzz/sdp.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from foundation.desks import Budget, ParticipantSpec, Refusal
from fuzz.campaign import main
from fuzz.text import campaign
from mcu_bridge.access import MediaAccess, MediaNetwork
from mcu_bridge.participant import LegListeners, Participant
from media.dtls import DtlsCertificate
from media.pacer import PacingClock
from media.rtp_socket import PortRange
from protocols.sdp import SessionDescription
from signaling.media_description import read_sdp, write_sdp

CORPUS = Path(__file__).parent / "corpus" / "sdp"
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
        self._listeners = LegListeners(_nothing, _nothing, _nothing, _nothing)

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


def foreign(chance: random.Random, data: bytearray, at: int, corpus: list[bytes]) -> None:
    """Lines of another description."""
    lines = chance.choice(corpus).splitlines(keepends=True)
    start = chance.randrange(len(lines))
    data[at:at] = b"".join(lines[start : start + chance.randint(1, 6)])


def without_a_line(chance: random.Random, data: bytearray, _at: int, _corpus: list[bytes]) -> None:
    lines = bytes(data).splitlines(keepends=True)
    if lines:
        del lines[chance.randrange(len(lines))]
    data[:] = b"".join(lines)


def reworded(chance: random.Random, data: bytearray, _at: int, _corpus: list[bytes]) -> None:
    old = chance.choice(list(_SWAPS))
    data[:] = data.replace(old, _SWAPS[old], chance.randint(1, 3))


class Trial:
    """Each offer is answered on the loop of `runner`, and refusals are counted."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._answerer = runner.run(_answerer())
        self.refused = 0

    def __call__(self, offer: bytes, chance: random.Random) -> None:
        try:
            fault = fault_of(offer, self._runner.run(self._answerer.answer(offer)))
        except Refusal:
            self.refused += 1
            return
        if fault is not None:
            raise AssertionError(fault)

    def close(self) -> None:
        self._answerer.close()


async def _answerer() -> Answerer:
    return Answerer()


def fuzz(arguments: list[str]) -> int:
    """`[seconds] [seed]`; the exit code."""
    with asyncio.Runner() as runner, contextlib.closing(Trial(runner)) as trial:
        splices = [text.encode() for text in SPLICES]
        code = main([campaign("sdp", trial, splices, (foreign, without_a_line, reworded))], arguments)
        print(f"sdp: {trial.refused} refused")
    return code


if __name__ == "__main__":
    sys.exit(fuzz(sys.argv[1:]))
