"""A participant's sound: payloads into the meeting's mixer, mixed frames out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcu_bridge.rtp_leg import LegTerms, RtpLeg, packetizer_for
from media.pacer import PacedFlow, Pacer, PacingClock, Precedence
from media.sound_codecs import SoundCodec
from media.transport import MediaTransport
from protocols.payloads import Frame


class SoundLeg(RtpLeg):
    """`heard` gets each payload that comes, on the event loop."""

    def __init__(
        self,
        terms: LegTerms,
        transport: MediaTransport,
        pacing: PacingClock,
        pacer: Pacer[PacedFlow],
        heard: Callable[[bytes], None],
    ) -> None:
        super().__init__(terms, transport, pacing, pacer)
        self.sound_codec = SoundCodec(terms.agreed.main.name)
        self._heard = heard
        self._packetizer = packetizer_for(terms.agreed.main)
        self._samples = terms.agreed.main.clock_rate // 50
        self._began = False

    def take_frames(self, frames: Sequence[Frame], arrival: float) -> None:
        for frame in frames:
            self._heard(frame.data)

    def send_sound(self, payload: bytes, index: int, now: float) -> None:
        """20 ms of a mix; `index` counts ticks, so that a missed one leaves its gap in the timestamps."""
        if not self.terms.direction.sends:
            return
        payloads = self._packetizer.packetize(payload)
        marker, self._began = not self._began, True
        self.send(self.sender.packets(payloads, index * self._samples, now, marker=marker), Precedence.SOUND)
