"""Who is calling: digest identity or client certificate, else a configured address, else the meeting's PIN.

A From header is never trusted. It only decides whether somebody without credentials is asked for
them (it names an account of ours) or sent away at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from foundation.audit import AuditEntry, AuditTrail
from foundation.clock import Clock
from foundation.database import Database
from foundation.passwords import HasherBusy, Passwords
from foundation.repositories.site_callers import site_calling
from foundation.repositories.sites import SipAccount, SiteRepository
from foundation.throttle import AttemptThrottle
from protocols.sip.digest import HashedPassword, Outcome, Secret, Verdict
from signaling.meeting import Caller, Meeting

log = structlog.get_logger(__name__)

LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Claim:
    """What an incoming call brings along; `claimed` (From) proves nothing."""

    network: str
    address: str
    source: str
    verdict: Verdict
    certified: str | None
    claimed: str
    display_name: str
    pin: str | None


class Unidentified(Exception):
    """The caller may not come in; `challenge` asks for credentials instead of refusing."""

    def __init__(self, status: int, reason: str, *, challenge: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.challenge = challenge


class CallerDirectory:
    """Resolves claims against accounts, addresses and PINs; wrong ones are slowed and audited."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        passwords: Passwords,
        realm: str,
        attempts: AttemptThrottle,
    ) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._realm = realm
        self._attempts = attempts

    async def lookup(self, username: str, realm: str) -> Secret | None:
        """The digest secret of an account (fulfils the endpoint's Authenticator)."""
        if not username.isprintable():
            return None  # bytes that are no text: no database takes them
        async with self._database.reading() as tx:
            account = await SiteRepository(tx).sip_account(username, realm)
        if account is None:
            return None
        return HashedPassword({"MD5": account.ha1_md5, "SHA-256": account.ha1_sha256})

    async def resolve(self, claim: Claim, meeting: Meeting) -> Caller:
        """The caller as a site or guest. Raises Unidentified."""
        site = await self.site(claim, f"conference:{meeting.conference_id}")
        if site is not None:
            return site
        if claim.pin is not None and meeting.pin_hash is not None:
            return await self.guest(claim, claim.pin, meeting)
        await self.challenge_known(claim)
        raise Unidentified(403, "Caller has no identity here and gave no meeting PIN")

    async def site(self, claim: Claim, subject: str) -> Caller | None:
        """The caller as a site, None for a stranger. Raises Unidentified for wrong or stale credentials,
        which are audited as an attempt on `subject`."""
        await self._check(claim, subject)
        account = await self._account(claim)
        if account is not None:
            return await self._of_site(account.site_id, claim)
        network, source = claim.network, claim.source
        site = await self._database.read(lambda connection: site_calling(connection, network, source))
        return None if site is None else Caller(site.name, site.id, network, claim.address)

    async def account(self, claim: Claim, subject: str) -> SipAccount:
        """The account that proved itself by digest or certificate; an address is not enough.

        Raises Unidentified.
        """
        await self._check(claim, subject)
        account = await self._account(claim)
        if account is None:
            raise Unidentified(401, "Unauthorized", challenge=True)
        return account

    async def known_account(self, username: str) -> SipAccount | None:
        """An account of this node by its name, which proves nothing."""
        if not username.isprintable():
            return None
        async with self._database.reading() as tx:
            return await SiteRepository(tx).sip_account(username, self._realm)

    async def challenge_known(self, claim: Claim) -> None:
        """Raise the challenge for a stranger who claims to be an account of ours."""
        if await self.known_account(claim.claimed) is not None:
            raise Unidentified(401, "Unauthorized", challenge=True)

    async def _check(self, claim: Claim, subject: str) -> None:
        if self._attempts.wait(claim.source):
            raise Unidentified(503, "Too many wrong credentials")
        if claim.verdict.outcome is Outcome.STALE:
            raise Unidentified(401, "Unauthorized", challenge=True)
        if claim.verdict.outcome is Outcome.WRONG:
            await self._wrong(claim, subject, f"account {claim.verdict.username}")
            raise Unidentified(403, "Wrong user name or password")

    async def _account(self, claim: Claim) -> SipAccount | None:
        names = [claim.certified] if claim.certified is not None else []
        if claim.verdict.outcome is Outcome.VERIFIED:
            names.insert(0, claim.verdict.username)
        for name in names:
            account = await self.known_account(name)
            if account is not None:
                return account
        return None

    async def _of_site(self, site_id: str, claim: Claim) -> Caller:
        async with self._database.reading() as tx:
            site = await SiteRepository(tx).get(site_id)
        return Caller(site_id if site is None else site.name, site_id, claim.network, claim.address)

    async def guest(self, claim: Claim, pin: str, meeting: Meeting) -> Caller:
        """Somebody who knows the meeting's PIN. Raises Unidentified."""
        if self._attempts.wait(claim.source):
            raise Unidentified(503, "Too many wrong credentials")
        self._attempts.attempt(claim.source)
        try:
            check = await self._passwords.verify(meeting.pin_hash, pin)
        except HasherBusy:
            self._attempts.undo(claim.source)
            raise Unidentified(503, "Busy") from None
        if not check.correct:
            await self._wrong(claim, f"conference:{meeting.conference_id}", "PIN", counted=True)
            raise Unidentified(403, "Wrong meeting PIN")
        self._attempts.succeeded(claim.source)
        name = "".join(c for c in claim.display_name if c.isprintable())[:LONGEST_NAME].strip()
        return Caller(name or claim.source, None, claim.network, claim.address)

    async def site_at(self, network: str, address: str) -> str | None:
        """The site that is configured at a numeric address."""
        async with self._database.reading() as tx:
            return await SiteRepository(tx).site_at(network, address)

    async def note(
        self, caller: Caller, action: str, subject: str, what: str, outcome: str = "done", **more: str
    ) -> None:
        """Audit what a terminal had us do, or would have had."""
        detail = {"address": what, **more}
        entry = AuditEntry(caller.name[:64], action, subject, outcome, caller.address[:64], detail)
        async with self._database.transaction() as tx:
            await AuditTrail(tx, self._clock).append(entry)

    async def _wrong(self, claim: Claim, subject: str, what: str, *, counted: bool = False) -> None:
        if not counted:
            self._attempts.attempt(claim.source)
        entry = AuditEntry(
            claim.claimed or "unknown caller",
            "call",
            subject,
            "refused",
            claim.source,
            {"wrong": what, "network": claim.network},
        )
        async with self._database.transaction() as tx:
            await AuditTrail(tx, self._clock).append(entry)
        log.warning("caller_refused", source=claim.source, wrong=what)
