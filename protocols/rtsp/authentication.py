"""A client's answer to 401 (RFC 2617): digest by SIP's own client, basic where nothing better is offered."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence

from protocols.sip.digest import DigestClient, Login


class ClientAuthentication:
    """Remembers the last challenge, so that later requests carry credentials at once.

    `new_cnonce` gives a fresh random string for each digest answer.
    """

    def __init__(self, login: Login | None, new_cnonce: Callable[[], str]) -> None:
        self._login = login
        self._digest = DigestClient(login) if login is not None else None
        self._new_cnonce = new_cnonce
        self._challenges: tuple[str, ...] = ()

    @property
    def has_login(self) -> bool:
        return self._login is not None

    def take(self, challenges: Sequence[str]) -> None:
        """The WWW-Authenticate values of a 401."""
        self._challenges = tuple(challenges)

    def authorization(self, method: str, uri: str) -> str | None:
        """The Authorization value for a request; None without a challenge that can be answered."""
        if self._login is None or self._digest is None or not self._challenges:
            return None
        credentials = self._digest.answer(self._challenges, method, uri, b"", self._new_cnonce())
        if credentials is not None:
            return str(credentials)
        if any(challenge.strip().lower().startswith("basic") for challenge in self._challenges):
            pair = f"{self._login.username}:{self._login.password}"
            return f"Basic {b64encode(pair.encode()).decode()}"
        return None
