"""A participant's main picture, or its second one, slides: frames into its stream, the planned feed out."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from foundation.desks import LegReport, SectionKind
from mcu_bridge.lip_sync import LipSync
from mcu_bridge.measured_source import MeasuredSource
from mcu_bridge.negotiation import coding, packetization_mode
from mcu_bridge.outlet import Outlet
from mcu_bridge.picture_plan import PictureLimits, PictureSource, slides_of
from mcu_bridge.rates import PAYLOAD, NetworkLimit
from mcu_bridge.receiver_limits import receiver_limits
from mcu_bridge.rtp_leg import LegTerms, RtpLeg, packetizer_for
from mcu_bridge.sender_flow import TRICKLE
from media.frame_packets import FramePackets
from media.freezes import FreezeMeter
from media.pacer import PacedFlow, Pacer, PacingClock, Precedence
from media.packet import Format, Packet, is_shown
from media.rtp_sender import BitrateLimit, KeyframeRequested, LimitSource, SenderEvent
from media.stream import Stream
from media.transport import MediaTransport
from protocols.payloads import Frame, Packetizer

STALE_AFTER = 5.0
"""Seconds without a frame after which a tile shows the site's name only."""


class PictureLeg(RtpLeg):
    """Fulfils `PictureSite`, where slides go by a name of their own. `source_changed` is called when the plan
    may have to change."""

    def __init__(
        self,
        terms: LegTerms,
        transport: MediaTransport,
        pacing: PacingClock,
        pacer: Pacer[PacedFlow],
        source_changed: Callable[[], None],
    ) -> None:
        super().__init__(terms, transport, pacing, pacer)
        main, heard = terms.agreed.main, terms.heard
        slides = terms.kind is SectionKind.SLIDES
        self.participant_id = slides_of(terms.participant_id) if slides else terms.participant_id
        self.outlet: Outlet | None = None
        self.still = None
        self.stream: Stream | None = None
        if terms.direction.receives:
            self.stream = Stream(
                self.participant_id if slides else f"picture:{terms.participant_id}",
                Format(coding(heard), heard.clock_rate),
                on_keyframe_wanted=self.ask_keyframe,
            )
        self.sync = LipSync(heard.clock_rate)
        self.frames_sent = 0
        self.last_frame: float | None = None
        self.came, self.went = FreezeMeter(), FreezeMeter()
        self.held = False
        """Nobody is shown its picture: it was asked for a trickle."""
        self._granted = 0
        self._network = NetworkLimit()
        self._measured = MeasuredSource(coding(heard), source_changed)
        self._limits = receiver_limits(main, browser=terms.browser)
        self._bitrate = 0
        self._part = 1.0
        self._key = (coding(main), packetization_mode(main), PAYLOAD)

    # --- what the site sends ----------------------------------------------------------------------

    def take_frames(self, frames: Sequence[Frame], arrival: float) -> None:
        stream = self.stream
        if stream is None:
            return
        for frame in frames:
            self.last_frame = arrival
            ntp = self.receiver.ntp_at(frame.timestamp)
            packet = Packet(
                frame.data, frame.timestamp, arrival, frame.keyframe, frame.damaged, ntp, frame.missing
            )
            self.sync.picture_came(packet)
            self._measured.take(packet)
            self._note_motion(packet)
            if self._measured.source is None:
                self.receiver.request_keyframe(arrival)  # a picture that stopped goes on without one
            stream.publish(packet)

    def _note_motion(self, packet: Packet) -> None:
        """Slides stand still rightly, and so may a trickle."""
        moving = self.terms.kind is SectionKind.VIDEO and not self.held and self.source is not None
        if moving and is_shown(coding(self.terms.heard), packet):
            self.came.picture(packet.arrival)

    def measure(self, now: float) -> None:
        """Follow the source's rate; called a few times a second. Of a trickle it is not the source's own."""
        if not self.held:
            self._measured.follow(self.receiver.stats(now).bitrate, now)

    def is_stale(self, now: float) -> bool:
        """No frame for a while: the tile is to be cleared. A trickle may pause."""
        return not self.held and self.last_frame is not None and now - self.last_frame > STALE_AFTER

    def forget_source(self) -> None:
        """The picture stopped; it is a source again with its next key frame."""
        self._measured.forget()
        self.last_frame = None
        self.came.end(time.monotonic())

    @property
    def source(self) -> PictureSource | None:
        return self._measured.source

    def ask_keyframe(self) -> None:
        self.receiver.request_keyframe(time.monotonic())

    def limit_incoming(self, bitrate: int, now: float) -> None:
        """Ask the site to keep within so many bit/s of picture."""
        self._granted = bitrate
        self.receiver.limit_bitrate(self.granted, now)

    @property
    def granted(self) -> int:
        """What the site may send at present, bit/s."""
        return min(self._granted, TRICKLE) if self.held else self._granted

    @property
    def heeds_rtcp(self) -> bool:
        """Whether it was agreed that RTCP tells the site what it may send."""
        return not {"ccm tmmbr", "goog-remb"}.isdisjoint(self.terms.asked)

    def hold(self, held: bool, now: float) -> None:
        """Ask the site for a trickle, since nobody is shown its picture, or for all that it may send."""
        self.held = held
        self.came.end(now)
        if not held and self.source is not None:
            self.last_frame = now  # a trickle that paused has time to flow again
            self.receiver.request_keyframe(now)
        self.receiver.limit_bitrate(self.granted, now)

    # --- what the site is sent --------------------------------------------------------------------

    def set_bitrate(self, bitrate: int, part: float = 1.0) -> None:
        """The bit rate that the budget leaves for this picture, and which part that is of what both have."""
        self._bitrate, self._part = bitrate, part

    @property
    def limits(self) -> PictureLimits | None:
        if not self.terms.direction.sends:
            return None
        bitrate = min(self._bitrate, self._limits.bitrate_bps)
        network = self._network.current(time.monotonic())
        if network is not None:
            bitrate = min(bitrate, network)
        return replace(self._limits, bitrate_bps=bitrate)

    @property
    def packetization(self) -> Hashable:
        return self._key

    def make_packetizer(self) -> Packetizer:
        return packetizer_for(self.codec)

    def send_picture(self, payloads: Sequence[bytes], packet: Packet, *, first: bool) -> None:
        if first:
            self.sender.rebase()
        now = time.monotonic()
        captured = packet.arrival if 0 <= now - packet.arrival < 1 else now  # a still may be old
        headers = self.sender.headers(payloads, packet.pts, now, captured=captured)
        packets = FramePackets(headers, payloads)
        if self.send(packets, Precedence.PICTURE, keyframe=packet.keyframe):
            self.frames_sent += 1
            self._note_sent(packet, now, first=first)
        elif self.outlet is not None and self._pacer.needs_key_frame(self):
            self.outlet.stream.request_keyframe()

    def _note_sent(self, packet: Packet, now: float, *, first: bool) -> None:
        if first:
            self.went.restart()
        if self.terms.kind is SectionKind.VIDEO and is_shown(self._key[0], packet):
            self.went.picture(now)

    def take_feedback(self, event: SenderEvent, now: float) -> None:
        if isinstance(event, KeyframeRequested):
            self.refresh()
        elif isinstance(event, BitrateLimit):
            if event.source is LimitSource.REMB and self.terms.browser:  # of all that goes to the page
                event = replace(event, bps=int(event.bps * self._part))
            self._network.report(event, self.sender.stats(now).bitrate, now)

    def refresh(self) -> None:
        """The receiver needs a key frame of what it is shown."""
        if self.outlet is not None:
            self.outlet.stream.request_keyframe()

    def picture_reports(self, now: float) -> tuple[LegReport, LegReport]:
        """Incoming with its size; what the other shows is the plan's to say."""
        incoming, outgoing = self.reports(now)
        if self.source is not None:
            incoming = replace(incoming, width=self.source.width, height=self.source.height)
        if self.stream is not None:
            incoming = replace(incoming, granted_bps=self.granted, held=self.held)
        came, went = self.came.freezes(now), self.went.freezes(now, running=self.outlet is not None)
        incoming = replace(incoming, freezes=came.count, frozen_seconds=round(came.seconds, 1))
        outgoing = replace(outgoing, freezes=went.count, frozen_seconds=round(went.seconds, 1))
        return incoming, replace(outgoing, frames=self.frames_sent)

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
