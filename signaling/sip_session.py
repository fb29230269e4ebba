"""The session timer of one call (RFC 4028) on the loop's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from protocols.sip.session_timer import SessionAgreement


class SessionClock:
    """Calls ``on_refresh`` when a refresh of ours is due and ``on_expiry`` when the session is dead."""

    def __init__(self, on_refresh: Callable[[], None], on_expiry: Callable[[], None]) -> None:
        self.agreement: SessionAgreement | None = None
        self._on_refresh = on_refresh
        self._on_expiry = on_expiry
        self._since = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    def agree(self, agreement: SessionAgreement | None, left: float | None = None) -> None:
        """Start anew; ``left`` is what remains of a session that is not fresh. None stops."""
        self.stop()
        self.agreement = agreement
        if agreement is None:
            return
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        if left is not None:
            self._since -= agreement.expires_at(0.0) - left
        self._timers.append(loop.call_at(agreement.expires_at(self._since), self._on_expiry))
        refresh = agreement.refresh_at(self._since)
        if refresh is not None:
            self._timers.append(loop.call_at(refresh, self._on_refresh))

    def left(self) -> float | None:
        """Seconds until the session expires."""
        if self.agreement is None:
            return None
        return self.agreement.expires_at(self._since) - asyncio.get_running_loop().time()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
