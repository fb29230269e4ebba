"""One participant's media in a worker: transports, legs, budget, signs of life.

A participant is made empty, then described: `admit` answers the peer's offer, `offer` and `answered`
are the two halves when we call, `renegotiate` answers a later offer. Each leaves the participant with
the legs that were agreed and no others. `close` frees all of it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from foundation.desks import (
    Budget,
    CodecDescription,
    Direction,
    DtlsDescription,
    IceDescription,
    MediaDescription,
    MediaSection,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    SectionKind,
    WireReport,
)
from mcu_bridge.access import MediaAccess
from mcu_bridge.browser_transport import BrowserTransport
from mcu_bridge.inlets import LegInlet
from mcu_bridge.negotiation import (
    OFFERED_AUDIO,
    OFFERED_SLIDES,
    OFFERED_VIDEO,
    SLIDES_LABEL,
    AgreedCodecs,
    agree,
    chosen_sections,
    in_one_transport,
    matching,
    refused,
    settle,
    why_none,
)
from mcu_bridge.picture_budget import PictureBudget
from mcu_bridge.picture_leg import PictureLeg
from mcu_bridge.plain_transports import PlainTransports, addresses
from mcu_bridge.rtp_leg import LegTerms, RtpLeg
from mcu_bridge.sender_flow import Demand
from mcu_bridge.sound_leg import SoundLeg
from mcu_bridge.wire_meter import WireMeter
from media.pacer import PacedFlow, Pacer, PacingClock
from media.rtp_socket import PortPair, RtpSocket
from media.sound_codecs import SoundCoding
from media.transport import MediaTransport, TransportEvent

SOUND_RESERVE = 80_000
"""What G.711 takes of a wire, kept free for sound before its first second has shown."""

_OFFERED = (
    (SectionKind.AUDIO, OFFERED_AUDIO, None, None),
    (SectionKind.VIDEO, OFFERED_VIDEO, "main", None),
    (SectionKind.SLIDES, OFFERED_SLIDES, "slides", SLIDES_LABEL),
)
_KINDS = tuple(kind for kind, *_ in _OFFERED)


@dataclass(frozen=True, slots=True)
class LegListeners:
    """Whom a participant's legs tell of a payload heard, a changed picture source, a transport's fate, and
    of a leg made anew because the peer went over to another codec."""

    heard: Callable[[str, bytes, int], None]
    source_changed: Callable[[], None]
    transport: Callable[[str, TransportEvent], None]
    leg_changed: Callable[[str], None]


class Participant:
    """See the module's head."""

    def __init__(
        self,
        spec: ParticipantSpec,
        access: MediaAccess,
        pacing: PacingClock,
        listeners: LegListeners,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.spec = spec
        self.sound: SoundLeg | None = None
        self._pictures: dict[SectionKind, PictureLeg] = {}
        self.silent_since: float | None = None
        self._expected_since = time.monotonic()
        self.demand = Demand(self._expected_since)
        """Whether its picture is needed."""
        self._access = access
        self._pacing = pacing
        self._listeners = listeners
        self._cname = secrets.token_hex(8)
        self._pacer: Pacer[PacedFlow] = Pacer(spec.budget.to_site_bps, sound_reserve=SOUND_RESERVE)
        self._plain = PlainTransports(access, spec.network, self._transport_event)
        self._browser = BrowserTransport(spec, access, self._transport_event, loop)
        self._ours: MediaDescription | None = None
        self._room = PictureBudget(spec.budget)
        self._meter = WireMeter()

    @property
    def participant_id(self) -> str:
        return self.spec.participant_id

    @property
    def legs(self) -> list[RtpLeg]:
        return [*(() if self.sound is None else (self.sound,)), *self._pictures.values()]

    @property
    def picture(self) -> PictureLeg | None:
        return self._pictures.get(SectionKind.VIDEO)

    @property
    def slides(self) -> PictureLeg | None:
        """Its second picture."""
        return self._pictures.get(SectionKind.SLIDES)

    @property
    def takes_slides(self) -> bool:
        """Whether they can go to it as a second picture."""
        return self.slides is not None and self.slides.limits is not None

    @property
    def pictures(self) -> tuple[PictureLeg, ...]:
        return tuple(self._pictures.values())

    @property
    def transports(self) -> list[MediaTransport]:
        if self._browser.running is not None:
            return [self._browser.running]
        return [*self._plain.all]

    # --- offers and answers -------------------------------------------------------------------------

    def admit(self, offer: MediaDescription, resume: MediaDescription | None) -> MediaDescription:
        """Answer the peer's first offer, on the ports of `resume` if given. Raises Refusal."""
        if resume is not None and any(section.dtls is not None for section in resume.sections):
            raise Refusal(RefusalKind.NOT_RESUMABLE, "a DTLS association ends with its worker")
        return self._answer(offer, resume)

    def offer(self, *, secured: bool = False) -> MediaDescription:
        """Describe what we can do, on ports of our own; `secured` with keys of ours for SRTP (RFC 4568)."""
        network = self._access.network(self.spec.network)
        sections = tuple(
            MediaSection(
                kind=kind,
                address=network.advertised,
                port=self._plain.open(kind).ports.rtp,
                protocol="RTP/SAVP" if secured else "RTP/AVP",
                codecs=codecs,
                content=content,
                label=label,
                crypto=self._plain.offered_keys(kind) if secured else (),
            )
            for kind, codecs, content, label in _OFFERED
            if self._may_have(kind)
        )
        self._ours = self._room.described(MediaDescription(sections), self._sound_codec)
        return self._ours

    def answered(self, answer: MediaDescription) -> MediaDescription:
        """The called peer's answer to `offer`; our side as agreed. Raises Refusal."""
        if self._ours is None:
            raise Refusal(RefusalKind.BAD_DESCRIPTION, "an answer came to no offer of ours")
        return self._settle(self._ours, answer)

    def resume_dialled(self, ours: MediaDescription, theirs: MediaDescription) -> None:
        """Take up the call that `ours` and `theirs` describe, on the same ports. Raises Refusal."""
        for section in ours.sections:
            if section.port:
                self._plain.open(section.kind, ports=PortPair(section.port, section.port + 1))
        self._settle(ours, theirs, resuming=True)

    def renegotiate(self, offer: MediaDescription) -> MediaDescription:
        """Answer a later offer of the same peer; what did not change keeps running."""
        return self._answer(offer, None)

    def _answer(self, offer: MediaDescription, resume: MediaDescription | None) -> MediaDescription:
        chosen = {kind: at for kind, at in chosen_sections(offer).items() if self._may_have(kind)}
        if not chosen:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, why_none(offer))
        first = offer.sections[next(iter(chosen.values()))]
        for kind in _KINDS:
            if kind not in chosen:
                self._close_leg(kind)
        if first.dtls is not None and first.ice is not None and in_one_transport(offer, chosen.values()):
            sections = self._answer_browser(offer, chosen, first.dtls, first.ice)
        else:
            sections = self._answer_plain(offer, chosen, resume)
        self._room.peer_session_limit = offer.bandwidth_bps
        bundled = tuple(s.mid for s in sections if s.port and s.ice is not None and s.mid is not None)
        ours = MediaDescription(tuple(sections), bundle=bundled)
        self._ours = self._room.described(ours, self._sound_codec)
        self.set_budget(self.spec.budget)
        return self._ours

    def _answer_plain(
        self, offer: MediaDescription, chosen: dict[SectionKind, int], resume: MediaDescription | None
    ) -> list[MediaSection]:
        sections = []
        for index, section in enumerate(offer.sections):
            agreed = agree(section)
            if chosen.get(section.kind) != index or agreed is None:
                sections.append(refused(section))
                continue
            before = matching(resume or self._ours, index, section.kind)
            socket, crypto = self._plain.answer(section, before, resuming=resume is not None)
            leg = self._connect(agreed, section, section.direction.reversed, socket)
            answer = MediaSection(
                kind=section.kind,
                address=self._access.network(self.spec.network).advertised,
                port=socket.ports.rtp,
                protocol=section.protocol,
                codecs=agreed.answer,
                direction=leg.terms.direction,
                mid=section.mid,
                content=section.content,
                label=section.label,
                rtcp_mux=socket.ports.rtp == socket.ports.rtcp,
                crypto=crypto,
                dtls=self._plain.dtls(section.kind),
            )
            sections.append(answer)
        return sections

    def _answer_browser(
        self,
        offer: MediaDescription,
        chosen: dict[SectionKind, int],
        dtls: DtlsDescription,
        ice: IceDescription,
    ) -> list[MediaSection]:
        transport, replaced = self._browser.serve(dtls, ice)
        if replaced is not None:
            self._meter.retire(replaced)
            self._expected_since = time.monotonic()
        sections = []
        bundle: list[tuple[RtpLeg, MediaSection]] = []
        for index, section in enumerate(offer.sections):
            agreed = agree(section)
            if chosen.get(section.kind) != index or agreed is None:
                sections.append(refused(section))
                continue
            leg = self._connect(agreed, section, section.direction.reversed, transport)
            bundle.append((leg, section))
            sections.append(self._browser.answer(section, agreed, leg))
        self._browser.bundle(bundle)
        return sections

    def _settle(
        self, ours: MediaDescription, theirs: MediaDescription, *, resuming: bool = False
    ) -> MediaDescription:
        """Both sides of our own offer are known: connect what was agreed, close the rest."""
        sections = []
        for index, section in enumerate(ours.sections):
            answered = theirs.sections[index] if index < len(theirs.sections) else None
            agreed = None if answered is None or not section.port else settle(section, answered)
            if answered is None or agreed is None:
                self._close_leg(section.kind)
                sections.append(replace(section, port=0))
                continue
            socket = self._plain[section.kind]
            socket.set_remote(*addresses(answered))
            crypto = self._plain.settle(socket, section, answered, resuming=resuming)
            direction = answered.direction.reversed
            self._connect(agreed, replace(answered, kind=section.kind), direction, socket)
            protocol = section.protocol if crypto else answered.protocol
            sections.append(replace(section, direction=direction, protocol=protocol, crypto=crypto))
        if not self.legs:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, why_none(theirs))
        self._ours = MediaDescription(tuple(sections), ours.bandwidth_bps)
        self._room.peer_session_limit = theirs.bandwidth_bps
        self.set_budget(self.spec.budget)
        return self._ours

    def _may_have(self, kind: SectionKind) -> bool:
        return kind is SectionKind.AUDIO or not self.spec.sound_only

    def _transport_event(self, event: TransportEvent) -> None:
        self._listeners.transport(self.participant_id, event)

    # --- legs ---------------------------------------------------------------------------------------

    def _connect(
        self,
        agreed: AgreedCodecs,
        remote: MediaSection,
        direction: Direction,
        transport: MediaTransport,
    ) -> RtpLeg:
        """The leg of a medium; the running one when only its direction changed."""
        kind = remote.kind
        self._room.peer_limits[kind] = remote.bandwidth_bps
        if not self.expects_media:  # the first leg, or the first to come off hold
            self._expected_since = time.monotonic()
        leg = self._leg(kind)
        if leg is not None and leg.transport is transport and leg.terms.agreed == agreed:
            same_way_in = leg.terms.direction.receives == direction.receives
            leg.terms = replace(leg.terms, direction=direction)
            if same_way_in or kind is SectionKind.AUDIO:
                self._listeners.source_changed()
                return leg
        terms = LegTerms(
            participant_id=self.participant_id,
            kind=kind,
            agreed=agreed,
            direction=direction,
            ssrc=_new_ssrc(),
            cname=self._cname,
            rtx_ssrc=None if agreed.rtx is None else _new_ssrc(),
            expected_ssrc=remote.ssrc,
            browser=not isinstance(transport, RtpSocket),
        )
        return self._make_leg(terms, transport)

    def _make_leg(self, terms: LegTerms, transport: MediaTransport) -> RtpLeg:
        kind = terms.kind
        leg = self._leg(kind)
        if leg is not None:
            self._pacer.forget(leg)
        made: RtpLeg
        if kind is SectionKind.AUDIO:
            self.sound = made = SoundLeg(terms, transport, self._pacing, self._pacer, self._heard)
        else:
            if isinstance(leg, PictureLeg):
                leg.close()
            self._pictures[kind] = made = PictureLeg(
                terms, transport, self._pacing, self._pacer, self._listeners.source_changed
            )
        if isinstance(transport, RtpSocket):
            transport.receiver = LegInlet(made, self._transport_event, self._gone_over)
            transport.expect(made.payload_types)
        return made

    def _gone_over(self, leg: RtpLeg, codec: CodecDescription) -> RtpLeg:
        """The peer sends another codec that was agreed; what it is sent goes on as it was."""
        made = self._make_leg(replace(leg.terms, comes=codec), leg.transport)
        made.sender = leg.sender
        self._share_out()
        self._listeners.leg_changed(self.participant_id)
        return made

    def _heard(self, payload: bytes, lost_samples: int) -> None:
        self._listeners.heard(self.participant_id, payload, lost_samples)

    def _leg(self, kind: SectionKind) -> RtpLeg | None:
        return self.sound if kind is SectionKind.AUDIO else self._pictures.get(kind)

    def _close_leg(self, kind: SectionKind) -> None:
        leg = self._leg(kind)
        if leg is not None:
            self._pacer.forget(leg)
        if kind is SectionKind.AUDIO:
            self.sound = None
        elif kind in self._pictures:
            self._pictures.pop(kind).close()
        socket = self._plain.close(kind)
        if socket is not None:
            self._meter.retire(socket)

    # --- budget -------------------------------------------------------------------------------------

    def set_budget(self, budget: Budget) -> None:
        """Hold both ways to a budget from now on."""
        self.spec = replace(self.spec, budget=budget)
        self._room.budget = budget
        self._pacing.set_rate(self._pacer, budget.to_site_bps)
        self._share_out()

    def give_slides(self, *, to_site: bool, from_site: bool) -> None:
        """Slides go these ways beside the main picture from now on: both are held to the budget together."""
        if self._room.give_slides(to_site=to_site, from_site=from_site):
            self._share_out()

    def _share_out(self) -> None:
        self._room.share_out(self._pictures, self._sound_codec, time.monotonic())

    @property
    def _sound_codec(self) -> SoundCoding | None:
        return None if self.sound is None else self.sound.sound_codec

    # --- signs of life and measures -----------------------------------------------------------------

    def poll(self, now: float, wall_clock: float) -> None:
        for leg in self.legs:
            leg.poll(now, wall_clock)

    def sample(self, now: float) -> None:
        self._meter.sample(self.transports, now)

    @property
    def expects_media(self) -> bool:
        """Whether the peer should be heard: not while it is on hold both ways."""
        return any(leg.terms.direction is not Direction.INACTIVE for leg in self.legs)

    @property
    def only_looks_on(self) -> bool:
        """It sends nothing, and does not mean to."""
        return bool(self.legs) and all(leg.terms.direction is Direction.SENDONLY for leg in self.legs)

    def last_heard_ago(self, now: float) -> float:
        heard = [t.last_received for t in self.transports if t.last_received is not None]
        return now - max([*heard, self._expected_since])

    def wire_report(self, now: float) -> WireReport:
        sent, received = self._meter.totals(self.transports)
        sent_second, received_second = self._meter.last_second
        return WireReport(
            participant_id=self.participant_id,
            sent_bytes=sent,
            received_bytes=received,
            sent_last_second=sent_second,
            received_last_second=received_second,
            peak_sent_second=self._meter.peak_sent,
            peak_received_second=self._meter.peak_received,
            last_heard_ago=round(self.last_heard_ago(now), 3),
        )

    # --- the end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Say goodbye and free the ports; `aclose` waits for the tasks."""
        now, wall_clock = time.monotonic(), time.time()
        for leg in self.legs:
            leg.say_goodbye(now, wall_clock)
        self._pacing.forget(self._pacer)
        for kind in _KINDS:
            self._close_leg(kind)
        self._browser.close()

    async def aclose(self) -> None:
        self.close()
        await self._browser.aclose()
        await self._plain.aclose()


def _new_ssrc() -> int:
    return secrets.randbits(32) or 1
