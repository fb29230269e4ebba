"""Who is calling, by digest: credentials checked on arrival, challenges for those who have none."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Protocol

from protocols.sip.digest import DigestServer, Outcome, Secret, Verdict
from protocols.sip.message import Request


class Authenticator(Protocol):
    """Knows the users' secrets."""

    async def lookup(self, username: str, realm: str) -> Secret | None:
        """The user's password or HA1s, None for an unknown user."""
        ...


@dataclass(frozen=True, slots=True)
class ChallengePolicy:
    """Which algorithms a 401 offers, in this order.

    RFC 8760 wants the preferred one on top. MD5 stands there because many clients look at the first challenge
    only and know nothing else (SIPp 3.6); whoever weighs them, as our own client does, takes SHA-256. Agents
    whose User-Agent begins like one of ``md5_only`` are offered nothing but MD5: they refuse the whole answer
    when they see an algorithm they do not know (baresip 1.0).
    """

    algorithms: tuple[str, ...] = ("MD5", "SHA-256")
    md5_only: tuple[str, ...] = ("baresip v0.", "baresip v1.")

    def algorithms_for(self, agent: str) -> tuple[str, ...]:
        if "MD5" in self.algorithms and agent.startswith(self.md5_only):
            return ("MD5",)
        return self.algorithms


class SipAuthentication:
    """The digest server of one endpoint. Its nonces die with the process: then clients hear "stale"."""

    def __init__(self, realm: str, authenticator: Authenticator | None, policy: ChallengePolicy) -> None:
        self._digest = DigestServer(realm, secrets.token_bytes(32))
        self._authenticator = authenticator
        self._policy = policy

    async def verify(self, request: Request) -> Verdict:
        """What the credentials of a request are worth. Looks the user up; raises what the lookup raises."""
        claim = self._digest.claim(request.headers.all("Authorization"))
        if claim is None or self._authenticator is None:
            return Verdict(Outcome.ABSENT)
        secret = await self._authenticator.lookup(claim.username, claim.realm)
        return self._digest.check(claim, secret, request, asyncio.get_running_loop().time())

    def challenge(self, request: Request, verdict: Verdict) -> list[tuple[str, str]]:
        """WWW-Authenticate fields of a 401; ``stale`` when only the nonce was at fault."""
        names = self._policy.algorithms_for(request.headers.get("User-Agent") or "")
        stale = verdict.outcome is Outcome.STALE
        now = asyncio.get_running_loop().time()
        return [("WWW-Authenticate", str(one)) for one in self._digest.challenge(now, stale, names)]
