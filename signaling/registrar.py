"""The registrar: where the terminals of SIP accounts are, and how they are reached (RFC 3261 10).

registrar = Registrar(database, clock, callers, realm)
SipEndpoint(handlers={"REGISTER": registrar.take})
await registrar.terminals("nanning-room")    # best first; None: there is no such account

Whoever registers proves to be the account by digest (or certificate), and registers that account only.
A contact behind a NAT is reached where its REGISTER came from: at that address by UDP, on that connection
by TCP and TLS. Every change is a row before it is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

import structlog

from foundation.clock import Clock
from foundation.database import Database, DatabaseError
from foundation.repositories.sip_bindings import LONGEST_CONTACT, SipBinding, SipBindingRepository
from foundation.repositories.sites import SipAccount
from protocols.sip.grammar import Parameters, SipSyntaxError
from protocols.sip.headers import NameAddress
from protocols.sip.registration import Registration, WantedContact, printed
from protocols.sip.uri import SipUri, parse_uri
from protocols.sip.validation import Refusal
from signaling.callers import CallerDirectory, Unidentified
from signaling.sip_claims import claim_of_request
from signaling.sip_incoming import IncomingRequest, Reply
from signaling.sip_listener import Transport
from signaling.sip_routing import Reach

log = structlog.get_logger(__name__)

LEAST = 60
"""Seconds: a shorter interval is too brief (423)."""
MOST = 3600
MOST_LATCHED = 120
"""Seconds granted to a terminal behind a NAT by UDP: its next REGISTER keeps the NAT open."""
MOST_CONTACTS = 8
"""Contacts of one account; of more, those go whose REGISTER is the longest ago."""
SWEEP_SECONDS = 600.0

_TRANSPORTS: dict[str, Transport] = {"UDP": "UDP", "TCP": "TCP", "TLS": "TLS"}


@dataclass(frozen=True, slots=True)
class Terminal:
    """A registered contact: what to call, on which network, and where it was heard."""

    uri: SipUri
    network: str
    reach: Reach
    site_id: str


@dataclass(frozen=True, slots=True)
class RegistrationEntry:
    """A binding as the operator sees it."""

    binding: SipBinding
    site_id: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A binding with its contact taken apart."""

    binding: SipBinding
    contact: NameAddress

    @property
    def call_key(self) -> str:
        return self.binding.call_key

    @property
    def cseq(self) -> int:
        return self.binding.cseq


class Registrar:
    """See the module's head."""

    def __init__(self, database: Database, clock: Clock, callers: CallerDirectory, realm: str) -> None:
        self._database = database
        self._clock = clock
        self._callers = callers
        self._realm = realm
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Forget what has expired, now and then; it counts for nothing before, either."""
        while True:
            try:
                async with self._database.transaction() as tx:
                    await SipBindingRepository(tx).forget_expired(self._clock.now())
            except DatabaseError as error:
                log.warning("bindings_not_swept", why=str(error))
            await asyncio.sleep(SWEEP_SECONDS)

    # --- REGISTER ---------------------------------------------------------------------------------

    async def take(self, incoming: IncomingRequest) -> Reply:
        """Answer a REGISTER (a handler of the endpoint)."""
        request = incoming.request
        try:
            if request.to.tag is not None:
                return Reply(481)
            to = request.to.sip_uri
            wanted = Registration.parse(request, MOST)
            if to is None or not _storable(wanted.contacts):
                return Reply(400, "To and Contact are SIP URIs of at most 500 characters")
            subject = f"sip-account:{to.user_text}"[:200]
            account = await self._callers.account(claim_of_request(incoming), subject)
            if account.username != to.user_text:
                return Reply(403, f"This account registers sip:{account.username} only")
            refusal = wanted.brief(LEAST)
            if refusal is None and len(wanted.contacts) > MOST_CONTACTS:
                refusal = Refusal(403, f"More than {MOST_CONTACTS} contacts")
            if refusal is not None:
                return Reply(refusal.status, refusal.reason, refusal.headers)
            return await self._register(incoming, wanted, account)
        except SipSyntaxError as error:
            return Reply(400, f"Bad Request: {error}")
        except Unidentified as error:
            return incoming.challenge() if error.challenge else Reply(error.status, error.reason)
        except DatabaseError as error:
            log.error("registration_lost", why=str(error))
            return Reply(503, "Database busy", (("Retry-After", "5"),))

    async def _register(self, incoming: IncomingRequest, wanted: Registration, account: SipAccount) -> Reply:
        if wanted.changes_nothing:
            return self._listed(await self._current(account.username))
        async with self._turn:
            known = await self._current(account.username)
            changes = wanted.apply(known)
            if isinstance(changes, Refusal):
                return Reply(changes.status, changes.reason)
            fresh = [self._bound(incoming, wanted, one, account) for one in changes.placed]
            room = MOST_CONTACTS - len(fresh)
            kept = changes.kept[-room:] if room else ()
            now = [*kept, *fresh]
            async with self._database.transaction() as tx:
                rows = SipBindingRepository(tx)
                await rows.replace(account.username, self._realm, (one.binding for one in now))
        log.info("registered", account=account.username, contacts=len(now), source=incoming.flow.host)
        return self._listed(now)

    async def _current(self, username: str) -> list[_Known]:
        """What is bound and has not expired, the oldest first."""
        async with self._database.reading() as tx:
            rows = await SipBindingRepository(tx).of(username, self._realm)
        now = self._clock.now()
        return [_Known(row, _contact(row)) for row in rows if row.expires_at > now]

    def _bound(
        self, incoming: IncomingRequest, wanted: Registration, one: WantedContact, account: SipAccount
    ) -> _Known:
        now, flow = self._clock.now(), incoming.flow
        latched = _is_latched(incoming, one.contact)
        seconds = min(one.seconds, MOST_LATCHED if latched and not flow.is_reliable else MOST)
        binding = SipBinding(
            username=account.username,
            realm=self._realm,
            contact=str(one.contact.uri),
            parameters=str(one.contact.parameters),
            q=one.q,
            call_key=wanted.call_key,
            cseq=wanted.cseq,
            registered_at=now,
            expires_at=now + timedelta(seconds=seconds),
            network=flow.network,
            transport=flow.transport,
            host=flow.host,
            port=flow.port,
            latched=latched,
            user_agent=_shown(incoming.request.headers.get("User-Agent") or "")[:200],
        )
        return _Known(binding, one.contact)

    def _listed(self, bindings: Sequence[_Known]) -> Reply:
        now = self._clock.now()
        fields = [
            ("Contact", printed(one.contact, one.binding.q, _left(one.binding, now))) for one in bindings
        ]
        return Reply(200, headers=(*fields, ("Date", format_datetime(now, usegmt=True))))

    # --- who is there -------------------------------------------------------------------------------

    async def terminals(self, username: str) -> tuple[Terminal, ...] | None:
        """Where an account's terminals are: by q, the latest first of equals. None: no such account."""
        account = await self._callers.known_account(username)
        if account is None:
            return None
        bound = [one.binding for one in await self._current(username)]
        bound.sort(key=lambda one: (one.q, one.registered_at), reverse=True)
        found = ((one, parse_uri(one.contact)) for one in bound)
        return tuple(
            Terminal(uri, one.network, _reach(one), account.site_id)
            for one, uri in found
            if isinstance(uri, SipUri)
        )

    async def entries(self) -> tuple[RegistrationEntry, ...]:
        """Every binding that holds, by account."""
        async with self._database.reading() as tx:
            rows = await SipBindingRepository(tx).all(self._clock.now())
        return tuple(RegistrationEntry(binding, site_id) for binding, site_id in rows)


def _contact(binding: SipBinding) -> NameAddress:
    return NameAddress(parse_uri(binding.contact), "", Parameters.parse(binding.parameters))


def _reach(binding: SipBinding) -> Reach:
    return Reach(_TRANSPORTS.get(binding.transport, "UDP"), binding.host, binding.port, binding.latched)


def _left(binding: SipBinding, now: datetime) -> int:
    return max(0, round((binding.expires_at - now).total_seconds()))


def _is_latched(incoming: IncomingRequest, contact: NameAddress) -> bool:
    """Whether the terminal itself sent the request, and says to be elsewhere than it is seen."""
    uri = contact.sip_uri
    by_itself = len(incoming.request.headers.items("Via")) == 1
    return by_itself and uri is not None and uri.host.lower() != incoming.flow.host.lower()


def _storable(contacts: Sequence[WantedContact]) -> bool:
    """Databases take neither half characters nor ours any length."""
    texts = [str(part) for one in contacts for part in (one.contact.uri, one.contact.parameters)]
    return all(len(text) <= LONGEST_CONTACT and _shown(text) == text for text in texts)


def _shown(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:LONGEST_CONTACT]
