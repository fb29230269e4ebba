"""A participant's sound: payloads into the meeting's mixer, mixed frames out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from mcu_bridge.aac_terms import AacTerms
from mcu_bridge.lip_sync import LipSync
from mcu_bridge.rtp_leg import LegTerms, RtpLeg, packetizer_for
from media.pacer import PacedFlow, Pacer, PacingClock, Precedence
from media.packet import Format, Packet
from media.sound_codecs import RATE, SoundCodec, SoundCoding
from media.transport import MediaTransport
from protocols.payloads import Frame
from protocols.payloads.opus import MalformedOpus, packet_duration
from protocols.payloads.telephone_event import TelephoneEvent

MOST_DIGITS = 32
MOST_DELAY = 0.5
"""Seconds that a site's sound waits for its picture at the most."""
MOST_HELD = 100
CONCEALED = 0.1
"""Seconds of missing sound that are still concealed."""


class UnitClock:
    """Dates access units, which do not keep step with the ticks of 20 ms that they are made in."""

    def __init__(self, tick: int, unit: float) -> None:
        """How long both last by the stream's clock."""
        self._tick = tick
        self._unit = unit
        self._next: float | None = None

    def date(self, index: int) -> int:
        """Of the unit that came with this tick; units without one in between left a gap."""
        now = float(index * self._tick)
        if self._next is None or abs(now - self._next) > 2 * self._unit:
            self._next = now
        at, self._next = self._next, self._next + self._unit
        return round(at)


class SoundLeg(RtpLeg):
    """`heard` gets each payload that comes, and the samples at 48 kHz that were lost before it."""

    def __init__(
        self,
        terms: LegTerms,
        transport: MediaTransport,
        pacing: PacingClock,
        pacer: Pacer[PacedFlow],
        heard: Callable[[bytes, int], None],
    ) -> None:
        super().__init__(terms, transport, pacing, pacer)
        main, heard_codec = terms.agreed.main, terms.heard
        aac = AacTerms.of(main)
        self._aac = heard_aac = AacTerms.of(heard_codec)
        self.sound_codec: SoundCoding = SoundCodec(main.name) if aac is None else aac.coding
        """How the participant is sent sound,"""
        self.heard_as: SoundCodec | Format = (
            SoundCodec(heard_codec.name) if heard_aac is None else heard_aac.heard
        )
        """and how what it sends is decoded."""
        self._heard = heard
        self._packetizer = packetizer_for(main)
        self._samples = main.clock_rate // 50
        self._units = None if aac is None else UnitClock(self._samples, aac.unit_ticks)
        self._began = False
        self._expected: int | None = None
        self.sync: LipSync | None = None
        """Of the site's picture, which its sound waits for."""
        self._held: deque[tuple[float, bytes, int]] = deque(maxlen=MOST_HELD)
        self._digits: deque[str] = deque(maxlen=MOST_DIGITS)

    def take_frames(self, frames: Sequence[Frame], arrival: float) -> None:
        for frame in frames:
            delay = self._delay(frame, arrival)
            lost = self._lost_before(frame)
            if delay or self._held:
                self._held.append((arrival + delay, frame.data, lost))
            else:
                self._heard(frame.data, lost)

    def poll(self, now: float, wall_clock: float) -> None:
        super().poll(now, wall_clock)
        while self._held and self._held[0][0] <= now:
            _, data, lost = self._held.popleft()
            self._heard(data, lost)

    def _delay(self, frame: Frame, arrival: float) -> float:
        """By how much the sound is ahead of the site's picture, by the sender reports of both."""
        if self.sync is None:
            return 0.0
        ntp = self.receiver.ntp_at(frame.timestamp)
        self.sync.sound_came(Packet(frame.data, frame.timestamp, arrival, ntp=ntp))
        return min(self.sync.delay, MOST_DELAY)

    def take_tone(self, event: TelephoneEvent) -> None:
        if event.digit is not None:
            self._digits.append(event.digit)

    def take_digits(self) -> str:
        """The keys pressed since the last call, the oldest first."""
        digits = "".join(self._digits)
        self._digits.clear()
        return digits

    def _lost_before(self, frame: Frame) -> int:
        """A short hole in the timestamps is loss; a long one is a pause, which needs no concealment."""
        clock_rate = self.terms.heard.clock_rate
        expected, self._expected = self._expected, frame.timestamp + self._duration(frame.data)
        if expected is None or not 0 < frame.timestamp - expected <= clock_rate * CONCEALED:
            return 0
        return (frame.timestamp - expected) * RATE // clock_rate

    def _duration(self, payload: bytes) -> int:
        """Of a payload, in ticks of its clock."""
        if self._aac is not None:
            return round(self._aac.unit_ticks)
        if self.heard_as is not SoundCodec.OPUS:
            return len(payload)
        try:
            return packet_duration(payload)
        except MalformedOpus:
            return 0

    def send_sound(self, payload: bytes, index: int, now: float, came: float | None = None) -> None:
        """20 ms of a mix; `index` counts ticks, so that a missed one leaves its gap in the timestamps.

        `came`: when it was spoken or came here, for the receiver's lip synchronisation.
        """
        if not self.terms.direction.sends:
            return
        payloads = self._packetizer.packetize(payload)
        # It ends an access unit of AAC (RFC 3640 3.1, RFC 6416 6.1), and begins a talkspurt of all others.
        marker, self._began = self._units is not None or not self._began, True
        at = index * self._samples if self._units is None else self._units.date(index)
        packets = self.sender.packets(payloads, at, now, marker=marker, captured=came)
        self.send(packets, Precedence.SOUND)
