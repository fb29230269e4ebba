"""coturn: a real TURN server on loopback, with credentials that end (the TURN REST convention)."""

import base64
import contextlib
import hashlib
import hmac
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess

RELAY_PORTS = 40


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name that carries its end (seconds since 1970) and the password made from it."""

    username: str
    password: str


class Coturn:
    """`async with Coturn(folder) as turn:` then `turn.uri()` and `turn.credential("anna")`.

    With a `certificate` and its `key` (PEM files) it serves TLS on `tls_port` too.
    """

    def __init__(
        self,
        folder: Path,
        *,
        secret: str = "test-secret",
        address: str = "127.0.0.1",
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self.folder = folder
        self.secret = secret
        self.address = address
        self.certificate = certificate
        self.key = key
        self.port = 0
        self.tls_port = 0
        self._stack = contextlib.AsyncExitStack()

    def uri(self, transport: str = "udp") -> str:
        """RFC 7065; `transport` is udp, tcp or tls."""
        if transport == "tls":
            return f"turns:{self.address}:{self.tls_port}?transport=tcp"
        return f"turn:{self.address}:{self.port}?transport={transport}"

    def credential(self, user: str = "test", lifetime: int = 600) -> Credential:
        username = f"{int(time.time()) + lifetime}:{user}"
        digest = hmac.digest(self.secret.encode(), username.encode(), hashlib.sha1)
        return Credential(username, base64.b64encode(digest).decode())

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = self._stack.enter_context(PortBlock())
        self.port, self.tls_port = ports.take(), ports.take()
        self._relay = ports.take(RELAY_PORTS)
        config = self.folder / "turnserver.conf"
        config.write_text("\n".join(self._settings()) + "\n")
        self._process = await PeerProcess.start("coturn", ["turnserver", "-c", str(config)], self.folder)
        self._stack.push_async_callback(self._process.aclose)
        try:
            await self._process.listening(self.address, self.port)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def relayed(self) -> bool:
        """Whether somebody was given a relay address so far."""
        return "ALLOCATE processed, success" in self._process.words()

    def _settings(self) -> list[str]:
        tls = [f"cert={self.certificate}", f"pkey={self.key}", f"tls-listening-port={self.tls_port}"]
        return [
            f"listening-ip={self.address}",
            f"relay-ip={self.address}",
            f"listening-port={self.port}",
            "alt-listening-port=0",
            "alt-tls-listening-port=0",
            *(tls if self.certificate else ["no-tls"]),
            "no-dtls",
            f"min-port={self._relay}",
            f"max-port={self._relay + RELAY_PORTS - 1}",
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
