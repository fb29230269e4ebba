"""A browser's transport: one ICE and DTLS session for all its media, replaced when the page offers anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from foundation.desks import (
    DtlsDescription,
    IceDescription,
    MediaSection,
    ParticipantSpec,
    Refusal,
    RefusalKind,
)
from mcu_bridge.access import MediaAccess
from mcu_bridge.inlets import BundleInlet
from mcu_bridge.negotiation import MID_EXTENSION, AgreedCodecs
from mcu_bridge.rtp_leg import RtpLeg
from media.dtls import DtlsRole, DtlsSrtpTransport, Fingerprint
from media.transport import TransportClosed, TransportEvent, TransportFailed


class BrowserTransport:
    """At most one `DtlsSrtpTransport` at a time, with its task."""

    def __init__(
        self,
        spec: ParticipantSpec,
        access: MediaAccess,
        events: Callable[[TransportEvent], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.running: DtlsSrtpTransport | None = None
        self._spec = spec
        self._access = access
        self._events = events
        self._loop = loop
        self._failed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._remote_dtls: DtlsDescription | None = None
        self._remote_ufrag: str | None = None

    def serve(
        self, dtls: DtlsDescription, ice: IceDescription
    ) -> tuple[DtlsSrtpTransport, DtlsSrtpTransport | None]:
        """The transport for an offer, and the one that it replaces: none when only ICE restarts."""
        running = self.running
        if running is not None and self._remote_dtls == dtls and not self._failed:
            if ice.ufrag != self._remote_ufrag:
                running.restart_ice()
            self._remote_ufrag = ice.ufrag
            return running, None
        network = self._access.network(self._spec.network)
        if network.ice is None:
            raise Refusal(RefusalKind.NO_PORT, f"network {network.name} takes no browsers")
        self.close()
        made = DtlsSrtpTransport(BundleInlet(self._event), network.ice, self._access.certificate)
        role = DtlsRole.ACTIVE if dtls.setup == "passive" else DtlsRole.PASSIVE
        remote = (Fingerprint(dtls.algorithm, dtls.fingerprint),)
        task = self._loop.create_task(made.run(remote, role=role), name=f"dtls {self._spec.participant_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.running, self._remote_dtls, self._remote_ufrag = made, dtls, ice.ufrag
        self._failed = False
        return made, running

    def bundle(self, legs: Sequence[tuple[RtpLeg, MediaSection]]) -> None:
        """What comes in goes to these legs, each with the page's description of it."""
        inlet = BundleInlet(self._event)
        for leg, described in legs:
            inlet.add(leg, described)
        if self.running is not None:
            before = self.running.receiver
            if isinstance(before, BundleInlet):
                inlet.go_on_from(before)
            self.running.receiver = inlet

    def answer(self, section: MediaSection, agreed: AgreedCodecs, leg: RtpLeg) -> MediaSection:
        """Our section for an offered one."""
        running = self.running
        assert running is not None, "serve comes first"
        offered = section.dtls.setup if section.dtls is not None else "actpass"
        certificate = self._access.certificate.fingerprint
        credentials = running.credentials
        return MediaSection(
            kind=section.kind,
            address=self._access.network(self._spec.network).advertised,
            port=running.candidates[0].port,
            protocol=section.protocol,
            codecs=agreed.answer,
            direction=leg.terms.direction,
            mid=section.mid,
            content=section.content,
            label=section.label,
            rtcp_mux=True,
            rtcp_rsize=section.rtcp_rsize,
            ice=IceDescription(
                credentials.ufrag, credentials.pwd, tuple(map(str, running.candidates)), lite=True
            ),
            dtls=DtlsDescription(
                certificate.algorithm, certificate.value, "active" if offered == "passive" else "passive"
            ),
            extensions={n: uri for n, uri in section.extensions.items() if uri == MID_EXTENSION},
            ssrc=leg.terms.ssrc,
            rtx_ssrc=leg.terms.rtx_ssrc,
            cname=leg.terms.cname,
        )

    def _event(self, event: TransportEvent) -> None:
        if isinstance(event, TransportFailed | TransportClosed):
            self._failed = True  # the page's next offer gets another one
        self._events(event)

    def close(self) -> None:
        if self.running is not None:
            self.running.close()
            self.running = None

    async def aclose(self) -> None:
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._events = _nobody  # else this and the participant keep each other


def _nobody(_event: TransportEvent) -> None:
    return None
