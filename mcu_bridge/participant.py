"""One participant's media in a worker: transports, legs, budget, signs of life.

A participant is made empty, then described: `admit` answers the peer's offer, `offer` and `answered`
are the two halves when we call, `renegotiate` answers a later offer. Each leaves the participant with
the legs that were agreed and no others. `close` frees all of it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from foundation.desks import (
    Budget,
    CryptoKey,
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
from mcu_bridge.inlets import BundleInlet, LegInlet
from mcu_bridge.negotiation import (
    OFFERED_AUDIO,
    OFFERED_VIDEO,
    AgreedCodecs,
    agree,
    chosen_sections,
    settle,
)
from mcu_bridge.picture_leg import PictureLeg
from mcu_bridge.rates import picture_bps, picture_wire_bps, sound_wire_bps
from mcu_bridge.rtp_leg import LegTerms, RtpLeg
from mcu_bridge.sound_leg import SoundLeg
from media.dtls import DtlsRole, DtlsSrtpTransport, Fingerprint
from media.pacer import PacedFlow, Pacer, PacingClock
from media.rtp_socket import PortPair, RtpSocket
from media.srtp import PROFILES, MasterKey, SrtpError, SrtpSession
from media.transport import MediaTransport, TransportEvent, TransportFailed

log = structlog.get_logger(__name__)

SAMPLES_A_SECOND = 10


@dataclass(frozen=True, slots=True)
class LegListeners:
    """Whom a participant's legs tell of a payload heard, a changed picture source, a transport's fate."""

    heard: Callable[[str, bytes, int], None]
    source_changed: Callable[[], None]
    transport: Callable[[str, TransportEvent], None]


class WireMeter:
    """IP bytes over sliding windows of one second, sampled ten times a second."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque([(0, 0)], maxlen=SAMPLES_A_SECOND + 1)
        self.peak_sent = 0
        self.peak_received = 0
        self._closed_sent = 0
        self._closed_received = 0

    def retire(self, transport: MediaTransport) -> None:
        """A transport is replaced; what it carried still counts."""
        self._closed_sent += transport.counters.bytes_sent
        self._closed_received += transport.counters.bytes_received

    def totals(self, transports: Sequence[MediaTransport]) -> tuple[int, int]:
        sent = self._closed_sent + sum(t.counters.bytes_sent for t in transports)
        received = self._closed_received + sum(t.counters.bytes_received for t in transports)
        return sent, received

    def sample(self, transports: Sequence[MediaTransport]) -> None:
        self._samples.append(self.totals(transports))
        sent, received = self.last_second
        self.peak_sent = max(self.peak_sent, sent)
        self.peak_received = max(self.peak_received, received)

    @property
    def last_second(self) -> tuple[int, int]:
        first, last = self._samples[0], self._samples[-1]
        return last[0] - first[0], last[1] - first[1]


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
        self.picture: PictureLeg | None = None
        self.silent = False
        self.failed = False
        self.created = time.monotonic()
        self._access = access
        self._pacing = pacing
        self._listeners = listeners
        self._loop = loop
        self._cname = secrets.token_hex(8)
        self._pacer: Pacer[PacedFlow] = Pacer(spec.budget.to_site_bps)
        self._sockets: dict[SectionKind, RtpSocket] = {}
        self._browser: DtlsSrtpTransport | None = None
        self._browser_task: asyncio.Task[None] | None = None
        self._remote_dtls: DtlsDescription | None = None
        self._remote_ufrag: str | None = None
        self._ours: MediaDescription | None = None
        self._peer_limits: dict[SectionKind, int | None] = {}
        self._meter = WireMeter()

    @property
    def participant_id(self) -> str:
        return self.spec.participant_id

    @property
    def legs(self) -> list[RtpLeg]:
        return [leg for leg in (self.sound, self.picture) if leg is not None]

    @property
    def transports(self) -> list[MediaTransport]:
        if self._browser is not None:
            return [self._browser]
        return list(self._sockets.values())

    # --- offers and answers -------------------------------------------------------------------------

    def admit(self, offer: MediaDescription, resume: MediaDescription | None) -> MediaDescription:
        """Answer the peer's first offer, on the ports of `resume` if given. Raises Refusal."""
        chosen = chosen_sections(offer)
        if not chosen:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, _why_none(offer))
        first = offer.sections[next(iter(chosen.values()))]
        if first.dtls is not None and first.ice is not None:
            if resume is not None:
                raise Refusal(RefusalKind.NOT_RESUMABLE, "a DTLS association ends with its worker")
            return self._admit_browser(offer, chosen)
        return self._admit_plain(offer, chosen, resume)

    def offer(self) -> MediaDescription:
        """Describe what we can do, on ports of our own."""
        network = self._access.network(self.spec.network)
        sections = []
        for kind, codecs in ((SectionKind.AUDIO, OFFERED_AUDIO), (SectionKind.VIDEO, OFFERED_VIDEO)):
            socket = self._socket(kind, None, rtcp_mux=False)
            sections.append(
                MediaSection(
                    kind=kind,
                    address=network.advertised,
                    port=socket.ports.rtp,
                    protocol="RTP/AVP",
                    codecs=codecs,
                )
            )
        self._ours = self._with_bandwidth(MediaDescription(tuple(sections)))
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
                ports = PortPair(section.port, section.port + 1)
                self._socket(section.kind, ports, rtcp_mux=False)
        self._ours = ours
        self._settle(ours, theirs)

    def renegotiate(self, offer: MediaDescription) -> MediaDescription:
        """Answer a later offer of the same peer; what did not change keeps running."""
        chosen = chosen_sections(offer)
        if not chosen:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, _why_none(offer))
        first = offer.sections[next(iter(chosen.values()))]
        if first.dtls is not None and first.ice is not None:
            return self._admit_browser(offer, chosen)
        for kind in tuple(self._sockets):
            if kind not in chosen:
                self._close_leg(kind)
        return self._admit_plain(offer, chosen, None)

    def _settle(self, ours: MediaDescription, theirs: MediaDescription) -> MediaDescription:
        sections = []
        for index, section in enumerate(ours.sections):
            answered = theirs.sections[index] if index < len(theirs.sections) else None
            agreed = None if answered is None else settle(section, answered)
            if answered is None or agreed is None:
                self._close_leg(section.kind)
                sections.append(replace(section, port=0))
                continue
            self._sockets[section.kind].set_remote(*_addresses(answered))
            self._connect(
                section.kind, agreed, answered, answered.direction.reversed, self._sockets[section.kind]
            )
            sections.append(replace(section, codecs=agreed.answer, direction=answered.direction.reversed))
        if not self.legs:
            raise Refusal(RefusalKind.NO_COMMON_CODEC, _why_none(theirs))
        self._ours = MediaDescription(tuple(sections), ours.bandwidth_bps)
        self.set_budget(self.spec.budget)
        return self._ours

    # --- plain RTP, or SRTP with keys in the description ------------------------------------------------

    def _admit_plain(
        self, offer: MediaDescription, chosen: dict[SectionKind, int], resume: MediaDescription | None
    ) -> MediaDescription:
        sections = []
        for index, section in enumerate(offer.sections):
            if chosen.get(section.kind) != index:
                sections.append(_refused(section))
                continue
            before = _matching(resume or self._ours, index, section.kind)
            sections.append(self._answer_plain(section, before, resuming=resume is not None))
        self._ours = self._with_bandwidth(MediaDescription(tuple(sections)))
        self.set_budget(self.spec.budget)
        return self._ours

    def _answer_plain(
        self, section: MediaSection, before: MediaSection | None, *, resuming: bool
    ) -> MediaSection:
        agreed = agree(section)
        assert agreed is not None, "chosen_sections only chooses what can be agreed"
        ports = None
        if resuming and before is not None:
            ports = PortPair(before.port, before.port if before.rtcp_mux else before.port + 1)
        socket = self._socket(section.kind, ports, rtcp_mux=section.rtcp_mux)
        socket.set_remote(*_addresses(section))
        crypto = self._secure(socket, section, before)
        direction = section.direction.reversed
        leg = self._connect(section.kind, agreed, section, direction, socket)
        return MediaSection(
            kind=section.kind,
            address=self._access.network(self.spec.network).advertised,
            port=socket.ports.rtp,
            protocol=section.protocol,
            codecs=agreed.answer,
            direction=leg.terms.direction,
            mid=section.mid,
            content=section.content,
            rtcp_mux=socket.ports.rtp == socket.ports.rtcp,
            crypto=crypto,
        )

    def _socket(self, kind: SectionKind, ports: PortPair | None, *, rtcp_mux: bool) -> RtpSocket:
        """The socket of a medium, opened at the first call."""
        if kind not in self._sockets:
            network = self._access.network(self.spec.network)
            dscp = network.dscp_audio if kind is SectionKind.AUDIO else network.dscp_video
            self._sockets[kind] = self._access.open_socket(
                self.spec.network, dscp=dscp, ports=ports, rtcp_mux=rtcp_mux
            )
        return self._sockets[kind]

    def _secure(
        self, socket: RtpSocket, section: MediaSection, before: MediaSection | None
    ) -> tuple[CryptoKey, ...]:
        """RFC 4568 5.1.2: the first offered suite that we know; the key of a resumed call again."""
        usable = next((key for key in section.crypto if key.suite in PROFILES), None)
        if usable is None:
            if "SAVP" in section.protocol:
                raise Refusal(
                    RefusalKind.NO_COMMON_CODEC, f"{section.protocol} is offered without a usable key"
                )
            return ()
        profile = PROFILES[usable.suite]
        try:
            remote = MasterKey.parse_inline(profile, usable.key)
            kept = next((k for k in before.crypto if k.suite == usable.suite), None) if before else None
            local = MasterKey.generate(profile) if kept is None else MasterKey.parse_inline(profile, kept.key)
        except SrtpError as error:
            raise Refusal(RefusalKind.BAD_DESCRIPTION, str(error)) from error
        socket.secure(SrtpSession(profile, local, remote))
        return (CryptoKey(usable.tag, usable.suite, local.inline()),)

    # --- browsers -----------------------------------------------------------------------------------

    def _admit_browser(self, offer: MediaDescription, chosen: dict[SectionKind, int]) -> MediaDescription:
        network = self._access.network(self.spec.network)
        if network.ice is None:
            raise Refusal(RefusalKind.NO_PORT, f"network {network.name} takes no browsers")
        first = offer.sections[next(iter(chosen.values()))]
        assert first.dtls is not None, "checked by the callers"
        assert first.ice is not None, "checked by the callers"
        transport = self._browser_transport(first.dtls, first.ice)
        bundle = BundleInlet(self._transport_event)
        transport.receiver = bundle
        sections = []
        for index, section in enumerate(offer.sections):
            if chosen.get(section.kind) != index:
                sections.append(_refused(section))
                continue
            agreed = agree(section)
            assert agreed is not None, "chosen_sections only chooses what can be agreed"
            leg = self._connect(section.kind, agreed, section, section.direction.reversed, transport)
            bundle.add(leg)
            sections.append(self._answer_browser(section, agreed, leg, transport))
        bundled = tuple(s.mid for s in sections if s.port and s.mid is not None)
        self._ours = self._with_bandwidth(MediaDescription(tuple(sections), bundle=bundled))
        self.set_budget(self.spec.budget)
        return self._ours

    def _browser_transport(self, dtls: DtlsDescription, ice: IceDescription) -> DtlsSrtpTransport:
        """The running transport when only ICE restarts, else a new one."""
        running = self._browser
        if running is not None and self._remote_dtls == dtls and not self.failed:
            if ice.ufrag != self._remote_ufrag:
                running.restart_ice()
            self._remote_ufrag = ice.ufrag
            return running
        self._close_browser()
        network = self._access.network(self.spec.network)
        assert network.ice is not None, "checked by _admit_browser"
        transport = DtlsSrtpTransport(
            BundleInlet(self._transport_event), network.ice, self._access.certificate
        )
        role = DtlsRole.ACTIVE if dtls.setup == "passive" else DtlsRole.PASSIVE
        remote = (Fingerprint(dtls.algorithm, dtls.fingerprint),)
        self._browser_task = self._loop.create_task(
            transport.run(remote, role=role), name=f"dtls {self.participant_id}"
        )
        self._browser, self._remote_dtls, self._remote_ufrag = transport, dtls, ice.ufrag
        self.failed = False
        self.created = time.monotonic()
        return transport

    def _answer_browser(
        self, section: MediaSection, agreed: AgreedCodecs, leg: RtpLeg, transport: DtlsSrtpTransport
    ) -> MediaSection:
        offered = section.dtls.setup if section.dtls is not None else "actpass"
        certificate = self._access.certificate.fingerprint
        credentials = transport.credentials
        return MediaSection(
            kind=section.kind,
            address=self._access.network(self.spec.network).advertised,
            port=transport.candidates[0].port,
            protocol=section.protocol,
            codecs=agreed.answer,
            direction=leg.terms.direction,
            mid=section.mid,
            rtcp_mux=True,
            rtcp_rsize=section.rtcp_rsize,
            ice=IceDescription(
                credentials.ufrag, credentials.pwd, tuple(map(str, transport.candidates)), lite=True
            ),
            dtls=DtlsDescription(
                certificate.algorithm, certificate.value, "active" if offered == "passive" else "passive"
            ),
            ssrc=leg.terms.ssrc,
            rtx_ssrc=leg.terms.rtx_ssrc,
            cname=self._cname,
        )

    def _transport_event(self, event: TransportEvent) -> None:
        if isinstance(event, TransportFailed):
            self.failed = True
        self._listeners.transport(self.participant_id, event)

    # --- legs ---------------------------------------------------------------------------------------

    def _connect(
        self,
        kind: SectionKind,
        agreed: AgreedCodecs,
        remote: MediaSection,
        direction: Direction,
        transport: MediaTransport,
    ) -> RtpLeg:
        """The leg of a medium; the running one when only its direction changed."""
        self._peer_limits[kind] = remote.bandwidth_bps
        leg: RtpLeg | None = self.sound if kind is SectionKind.AUDIO else self.picture
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
        )
        made: RtpLeg
        if kind is SectionKind.AUDIO:
            self.sound = made = SoundLeg(terms, transport, self._pacing, self._pacer, self._heard)
        else:
            if self.picture is not None:
                self.picture.close()
            self.picture = made = PictureLeg(
                terms, transport, self._pacing, self._pacer, self._listeners.source_changed
            )
        if isinstance(transport, RtpSocket):
            transport.receiver = LegInlet(made, self._transport_event)
            transport.expect(made.payload_types)
        return made

    def _heard(self, payload: bytes, lost_samples: int) -> None:
        self._listeners.heard(self.participant_id, payload, lost_samples)

    def _close_leg(self, kind: SectionKind) -> None:
        if kind is SectionKind.AUDIO:
            self.sound = None
        elif self.picture is not None:
            self.picture.close()
            self.picture = None
        socket = self._sockets.pop(kind, None)
        if socket is not None:
            self._meter.retire(socket)
            socket.close()

    # --- budget -------------------------------------------------------------------------------------

    def set_budget(self, budget: Budget) -> None:
        """Hold both ways to a budget from now on."""
        self.spec = replace(self.spec, budget=budget)
        self._pacing.set_rate(self._pacer, budget.to_site_bps)
        picture = self.picture
        if picture is None:
            return
        codec = None if self.sound is None else self.sound.sound_codec
        overhead = picture.transport.overhead
        sound = sound_wire_bps(codec, overhead)
        outgoing = picture_bps(budget.to_site_bps, sound, overhead)
        limit = self._peer_limits.get(SectionKind.VIDEO)
        if limit is not None:
            outgoing = min(outgoing, picture_bps(limit, 0, overhead))
        picture.set_bitrate(outgoing)
        picture.limit_incoming(picture_bps(budget.from_site_bps, sound, overhead), time.monotonic())

    def _with_bandwidth(self, ours: MediaDescription) -> MediaDescription:
        """Say what we take: the whole budget for the session, the picture's part of it for the picture."""
        codec = None if self.sound is None else self.sound.sound_codec
        from_site = self.spec.budget.from_site_bps
        picture = picture_wire_bps(from_site, sound_wire_bps(codec, 28))
        sections = tuple(
            replace(s, bandwidth_bps=picture) if s.kind is SectionKind.VIDEO and s.port else s
            for s in ours.sections
        )
        return replace(ours, sections=sections, bandwidth_bps=from_site)

    # --- signs of life and measures -----------------------------------------------------------------

    def poll(self, now: float, wall_clock: float) -> None:
        for leg in self.legs:
            leg.poll(now, wall_clock)

    def sample(self) -> None:
        self._meter.sample(self.transports)

    @property
    def expects_media(self) -> bool:
        """Whether the peer should be heard: not while it is on hold both ways."""
        return any(leg.terms.direction is not Direction.INACTIVE for leg in self.legs)

    def last_heard_ago(self, now: float) -> float:
        heard = [t.last_received for t in self.transports if t.last_received is not None]
        return now - max([*heard, self.created])

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

    def _close_browser(self) -> None:
        if self._browser is not None:
            self._meter.retire(self._browser)
            self._browser.close()
        self._browser = None

    async def aclose(self) -> None:
        """Say goodbye and free ports and tasks."""
        now, wall_clock = time.monotonic(), time.time()
        for leg in self.legs:
            leg.say_goodbye(now, wall_clock)
        self._pacing.forget(self._pacer)
        for kind in tuple(self._sockets):
            self._close_leg(kind)
        if self.picture is not None:
            self.picture.close()
        self._close_browser()
        if self._browser_task is not None:
            await asyncio.gather(self._browser_task, return_exceptions=True)


def _refused(section: MediaSection) -> MediaSection:
    return MediaSection(
        kind=section.kind,
        address=section.address,
        port=0,
        protocol=section.protocol,
        mid=section.mid,
        media=section.media,
    )


def _matching(ours: MediaDescription | None, index: int, kind: SectionKind) -> MediaSection | None:
    if ours is None or index >= len(ours.sections) or ours.sections[index].kind is not kind:
        return None
    return ours.sections[index] if ours.sections[index].port else None


def _addresses(section: MediaSection) -> tuple[tuple[str, int], tuple[str, int]]:
    """RTP and RTCP addresses of a description."""
    default = section.port if section.rtcp_mux else section.port + 1
    return (section.address, section.port), (section.address, section.rtcp_port or default)


def _why_none(offer: MediaDescription) -> str:
    names = [f"{s.kind.value}: {', '.join(c.name for c in s.codecs) or 'nothing'}" for s in offer.sections]
    return f"no codec in common; the peer offers {'; '.join(names) or 'no media'}"


def _new_ssrc() -> int:
    return secrets.randbits(32) or 1
