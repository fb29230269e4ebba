"""The signalling side of one participant, whatever protocol it speaks.

Meeting control knows a participant only as a `Line`: it can be hung up, probed, asked for a key frame
and given new media. SIP dialogs, browser sessions and later H.323 calls each make their own.
"""

from __future__ import annotations

from typing import Protocol

from foundation.desks import MediaDescription


class Line(Protocol):
    """What meeting control asks of a participant's signalling."""

    @property
    def peer_host(self) -> str | None:
        """Where the peer's signalling comes from; None for a peer without an address of its own."""
        ...

    async def hang_up(self, reason: str) -> None:
        """Tell the peer that it is out; harmless when it has gone already."""
        ...

    async def probe(self) -> bool:
        """Ask the peer for a sign of life; False when none came in a few seconds."""
        ...

    async def ask_fast_update(self) -> None:
        """Ask the peer for a key frame, where no RTCP feedback was agreed."""
        ...

    async def renew_media(self, ours: MediaDescription) -> MediaDescription | None:
        """Offer new addresses and ports for the running call; the peer's answer, None if it refused."""
        ...


class NoLine:
    """A participant whose signalling is gone, known from its row only."""

    peer_host: str | None = None

    async def hang_up(self, reason: str) -> None:
        return None

    async def probe(self) -> bool:
        return False

    async def ask_fast_update(self) -> None:
        return None

    async def renew_media(self, ours: MediaDescription) -> MediaDescription | None:
        return None
