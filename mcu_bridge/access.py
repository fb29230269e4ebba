"""Where participants' media may enter and leave this worker: its networks with their addresses and ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foundation.desks import Refusal, RefusalKind
from media.dtls import DtlsCertificate
from media.ice_lite import IceLiteSocket
from media.rtp_socket import NoPortLeft, PortPair, PortRange, RtpSocket
from media.transport import NobodyListening


@dataclass(frozen=True, slots=True)
class MediaNetwork:
    """One network as a worker sees it; `ice` is None where browsers do not come in."""

    name: str
    bind: str
    advertised: str
    rtp_ports: PortRange
    dscp_audio: int
    dscp_video: int
    ice: IceLiteSocket | None = None


@dataclass(frozen=True, slots=True)
class MediaAccess:
    """All networks of a worker, and its DTLS certificate."""

    networks: Mapping[str, MediaNetwork]
    certificate: DtlsCertificate

    def network(self, name: str) -> MediaNetwork:
        try:
            return self.networks[name]
        except KeyError:
            raise Refusal(RefusalKind.NO_PORT, f"this node has no network {name!r} for media") from None

    def open_socket(self, name: str, *, dscp: int, ports: PortPair | None, rtcp_mux: bool) -> RtpSocket:
        """A pair of RTP ports; with `ports` exactly those. Raises Refusal."""
        network = self.network(name)
        try:
            return RtpSocket.open(
                NobodyListening(),
                bind=network.bind,
                ports=ports or network.rtp_ports,
                dscp=dscp,
                rtcp_mux=rtcp_mux,
            )
        except NoPortLeft as error:
            kind = RefusalKind.NO_PORT if ports is None else RefusalKind.NOT_RESUMABLE
            raise Refusal(kind, str(error), retry_after=10) from error
        except OSError as error:
            raise Refusal(RefusalKind.NO_PORT, f"network {name}: {error}") from error
