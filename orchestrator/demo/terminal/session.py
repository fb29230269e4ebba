"""One call of a test terminal, and the endpoint it comes through."""

from __future__ import annotations

import asyncio
import secrets

from orchestrator.demo.terminal.media import TerminalMedia
from signaling.media_description import write_sdp
from signaling.sip_call import Call
from signaling.sip_endpoint import SipEndpoint


class DialRefused(Exception):
    """The call was not taken; `status` and `reason` are the peer's, or stand for no answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


class Endpoint(SipEndpoint):
    """An endpoint that can also end without a word."""

    def abandon(self) -> None:
        """Close every socket at once: no BYE, no answer, nothing repeated."""
        for call in self.calls():
            call.agree(None)  # its session timer would keep it for half an hour
        self._closing = True
        self._stop.set()

    async def wait_closed(self) -> None:
        if self._running is not None:
            await asyncio.wait([self._running])


class Session:
    """One call: its dialog, its media and the session description's version (RFC 3264 8)."""

    def __init__(self, media: TerminalMedia) -> None:
        self.media = media
        self.call: Call | None = None
        self.follower: asyncio.Task[None] | None = None
        self._id = secrets.randbits(48)
        self._version = 0

    def describe(self) -> bytes:
        """Our side as SDP."""
        assert self.media.ours is not None, "described before it is printed"
        self._version += 1
        return write_sdp(self.media.ours, session_id=self._id, version=self._version, name="terminal")
