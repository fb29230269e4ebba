"""coturn: a real TURN server on loopback, with credentials that end (the TURN REST convention)."""

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from pathlib import Path

from tests.peers.configured_server import ConfiguredServer
from tests.peers.ports import PortBlock

RELAY_PORTS = 40


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name that carries its end (seconds since 1970) and the password made from it."""

    username: str
    password: str


class Coturn(ConfiguredServer):
    """`async with Coturn(folder) as turn:` then `turn.uri()` and `turn.credential("anna")`.

    With a `certificate` and its `key` (PEM files) it serves TLS on `tls_port` too.
    """

    name = "coturn"
    file = "turnserver.conf"

    def __init__(
        self,
        folder: Path,
        *,
        secret: str = "test-secret",
        address: str = "127.0.0.1",
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        super().__init__(folder, address)
        self.secret = secret
        self.certificate = certificate
        self.key = key
        self.tls_port = 0

    def uri(self, transport: str = "udp") -> str:
        """RFC 7065; `transport` is udp, tcp or tls."""
        if transport == "tls":
            return f"turns:{self.address}:{self.tls_port}?transport=tcp"
        return f"turn:{self.address}:{self.port}?transport={transport}"

    def credential(self, user: str = "test", lifetime: int = 600) -> Credential:
        username = f"{int(time.time()) + lifetime}:{user}"
        digest = hmac.digest(self.secret.encode(), username.encode(), hashlib.sha1)
        return Credential(username, base64.b64encode(digest).decode())

    def relayed(self) -> bool:
        """Whether somebody was given a relay address so far."""
        return "ALLOCATE processed, success" in self.words()

    def _command(self) -> list[str]:
        return ["turnserver", "-c", self.file]

    def _configuration(self, ports: PortBlock) -> str:
        self.tls_port = ports.take()
        relay = ports.take(RELAY_PORTS)
        tls = [f"cert={self.certificate}", f"pkey={self.key}", f"tls-listening-port={self.tls_port}"]
        settings = [
            f"listening-ip={self.address}",
            f"relay-ip={self.address}",
            f"listening-port={self.port}",
            "alt-listening-port=0",
            "alt-tls-listening-port=0",
            *(tls if self.certificate else ["no-tls"]),
            "no-dtls",
            f"min-port={relay}",
            f"max-port={relay + RELAY_PORTS - 1}",
            "realm=turn.test",
            "use-auth-secret",
            f"static-auth-secret={self.secret}",
            "fingerprint",
            "allow-loopback-peers",
            "cli-password=unused",
            "no-cli",
            "no-multicast-peers",
            "verbose",
            "log-file=stdout",
            "simple-log",
            f"pidfile={self.folder / 'turnserver.pid'}",
            f"userdb={self.folder / 'turndb'}",
        ]
        return "\n".join(settings) + "\n"
