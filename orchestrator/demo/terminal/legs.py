"""A test terminal's picture leg, and what its wire carried."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from mcu_bridge.rates import NetworkLimit
from mcu_bridge.rtp_leg import LegTerms, RtpLeg, packetizer_for
from media.pacer import PacedFlow, Pacer, PacingClock, Precedence
from media.rtp_sender import BitrateLimit, KeyframeRequested, LimitSource, SenderEvent
from media.transport import MediaTransport
from orchestrator.demo.terminal.reels import CodedFrame
from orchestrator.demo.terminal.senses import Screen
from orchestrator.demo.terminal.settings import WireSecond
from protocols.payloads import Frame

SAMPLES_A_SECOND = 10
_SECONDS_KEPT = 300


class ScreenLeg(RtpLeg):
    """The picture: what comes goes to the screen; `restart` is called when the peer wants a key frame."""

    def __init__(
        self,
        terms: LegTerms,
        transport: MediaTransport,
        pacing: PacingClock,
        pacer: Pacer[PacedFlow],
        screen: Screen,
        restart: Callable[[], None],
    ) -> None:
        super().__init__(terms, transport, pacing, pacer)
        self._network = NetworkLimit()
        self._asked: int | None = None
        self._screen = screen
        self._restart = restart
        self._packetizer = packetizer_for(self.codec)
        self._ssrc: int | None = None

    def take_rtp(self, data: bytes, arrival: float) -> None:
        super().take_rtp(data, arrival)
        if self.receiver.ssrc is not None and self.receiver.ssrc != self._ssrc:
            self._ssrc = self.receiver.ssrc
            self._screen.change_source(self._ssrc)

    def take_frames(self, frames: Sequence[Frame], arrival: float) -> None:
        self._screen.take(frames, arrival)

    def take_feedback(self, event: SenderEvent, now: float) -> None:
        if isinstance(event, KeyframeRequested):
            self._restart()
        elif isinstance(event, BitrateLimit):
            if event.source is LimitSource.RR:
                self._network.report(event, self.sender.stats(now).bitrate, now)
            else:
                self._asked = event.bps  # as browsers do: what the peer asks for holds at once

    def limit(self, now: float) -> int | None:
        """What the peer asks us to keep to, or loss tells us to, bit/s."""
        limits = [limit for limit in (self._asked, self._network.current(now)) if limit is not None]
        return min(limits, default=None)

    def send_frame(self, frame: CodedFrame, timestamp: int, now: float) -> bool:
        """False when the pacer had no room: the peer needs a key frame next."""
        packets = self.sender.packets(self._packetizer.packetize(frame.data), timestamp, now)
        return self.send(packets, Precedence.PICTURE, keyframe=frame.keyframe)


class WireLog:
    """IP bytes both ways over sliding windows of a second, sampled ten times a second."""

    def __init__(self) -> None:
        self.seconds: deque[WireSecond] = deque(maxlen=_SECONDS_KEPT * SAMPLES_A_SECOND)
        self.peak_sent = 0
        self.peak_received = 0
        self.sent = 0
        self.received = 0
        self._retired = (0, 0)
        self._samples: deque[tuple[int, int]] = deque([(0, 0)], maxlen=SAMPLES_A_SECOND + 1)

    def retire(self, transport: MediaTransport) -> None:
        """The transport closes; what it carried still counts."""
        sent, received = self._retired
        counters = transport.counters
        self._retired = (sent + counters.bytes_sent, received + counters.bytes_received)

    def sample(self, transports: Sequence[MediaTransport], now: float) -> None:
        sent, received = self._retired
        self.sent = sent + sum(transport.counters.bytes_sent for transport in transports)
        self.received = received + sum(transport.counters.bytes_received for transport in transports)
        self._samples.append((self.sent, self.received))
        first = self._samples[0]
        second = WireSecond(now, self.sent - first[0], self.received - first[1])
        self.seconds.append(second)
        self.peak_sent = max(self.peak_sent, second.sent)
        self.peak_received = max(self.peak_received, second.received)
