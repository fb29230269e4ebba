"""Signing in and out, of accounts and of guests, and one's own password."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from aiohttp import web
from pydantic import BaseModel, Field

from foundation.audit import AuditEntry, AuditTrail
from foundation.authorisation import Action, Actor, Resource
from foundation.clock import Clock
from foundation.database import Database
from foundation.http_edge import Exchange, Guest, Problem, Route, Wanted
from foundation.identity import Identity, SessionKind, SignedIn, WeakPassword, WrongCredentials
from foundation.passwords import Passwords
from foundation.throttle import AttemptThrottle
from orchestrator.guest_passes import GuestPasses
from orchestrator.http_problems import too_many
from orchestrator.web_app import SESSION_COOKIE
from signaling.meeting import Meeting
from signaling.meetings import Meetings, UnknownMeeting

SESSION = "/api/v1/session"
GUEST_SESSION = "/api/v1/guest-session"
PRINTABLE = r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$"


class SignIn(Wanted):
    name: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=1024)


class GuestSignIn(Wanted):
    number: str = Field(min_length=1, max_length=12)
    pin: str = Field(min_length=1, max_length=12)
    name: str = Field(min_length=1, max_length=64, pattern=PRINTABLE)


class PasswordChange(Wanted):
    old: str = Field(min_length=1, max_length=1024)
    new: str = Field(min_length=1, max_length=1024)


class UserOut(BaseModel):
    id: str
    name: str
    display_name: str
    roles: list[str]
    site_id: str | None


class SessionOut(BaseModel):
    """`token` is for callers that are no page; a guest's session names the one conference it is for."""

    token: str | None = None
    csrf: str
    user: UserOut
    conference_id: str | None = None


def user_out(actor: Actor) -> UserOut:
    return UserOut(
        id=actor.user_id,
        name=actor.name,
        display_name=actor.display_name or actor.name,
        roles=sorted(role.value for role in actor.roles),
        site_id=actor.site_id,
    )


def guest_out(guest: Guest) -> UserOut:
    return UserOut(id="", name="guest", display_name=guest.name, roles=["guest"], site_id=None)


class PinGuard:
    """Slows the guessing of PINs, by the guesser's address and by the meeting that is guessed at.

    A right PIN takes only its own attempt back: whoever knows one meeting's PIN gains nothing for another.
    The meeting's wait stays short, so that a guesser cannot lock its guests out.
    """

    def __init__(self, clock: Clock) -> None:
        self._addresses = AttemptThrottle(clock, free=5, limit=300.0)
        self._numbers = AttemptThrottle(clock, free=30, limit=10.0)

    def attempt(self, address: str, number: str) -> float:
        """Seconds still to wait, or 0.0: go on, and this counts as wrong until `undo`."""
        wait = self._addresses.attempt(_prefix(address))
        if wait:
            return wait
        wait = self._numbers.attempt(number)
        if wait:
            self._addresses.undo(_prefix(address))
        return wait

    def first_refusal(self, address: str, number: str) -> bool:
        """Whether the attempt just refused was the first in a row, which alone is audited."""
        return 1 in (self._addresses.refused(_prefix(address)), self._numbers.refused(number))

    def undo(self, address: str, number: str) -> None:
        """The PIN was right, or was never looked at."""
        self._addresses.undo(_prefix(address))
        self._numbers.undo(number)


class SessionRoutes:
    """A cookie for pages, a bearer token for tools.

    `sessions_changed` is told when a session ended, so that its live events end too.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        guests: GuestPasses,
        meetings: Meetings,
        passwords: Passwords,
        database: Database,
        clock: Clock,
        sessions_changed: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._guests = guests
        self._meetings = meetings
        self._passwords = passwords
        self._database = database
        self._clock = clock
        self._pins = PinGuard(clock)
        self._sessions_changed = sessions_changed

    @property
    def routes(self) -> tuple[Route, ...]:
        return (
            Route("POST", SESSION, self.sign_in, "Sign in", None, body=SignIn, returns=SessionOut),
            Route("GET", SESSION, self.show, "Who am I", None, returns=SessionOut, signed_in=True),
            Route("DELETE", SESSION, self.sign_out, "Sign out", None, status=204, signed_in=True),
            Route(
                "POST",
                f"{SESSION}/password",
                self.change_password,
                "Change one's own password; every other session of the account ends",
                Action.CHANGE_OWN_PASSWORD,
                resource=_own_account,
                body=PasswordChange,
                status=204,
            ),
            Route(
                "POST",
                GUEST_SESSION,
                self.guest,
                "Enter as a guest of one meeting",
                None,
                body=GuestSignIn,
                returns=SessionOut,
            ),
        )

    async def sign_in(self, exchange: Exchange) -> web.Response:
        """A cookie for everybody; beside it a bearer token for tools, which send no Origin."""
        wanted = exchange.parsed(SignIn)
        signed = await self._signed_in(exchange, wanted, SessionKind.COOKIE)
        token = None
        if "Origin" not in exchange.request.headers:
            token = (await self._signed_in(exchange, wanted, SessionKind.BEARER)).token
        body = SessionOut(token=token, csrf=signed.csrf_token, user=user_out(signed.actor))
        return _with_cookie(exchange, body, signed.token)

    async def _signed_in(self, exchange: Exchange, wanted: SignIn, kind: SessionKind) -> SignedIn:
        try:
            return await self._identity.sign_in(wanted.name, wanted.password, kind, exchange.address)
        except WrongCredentials as error:
            raise Problem(401, "Wrong credentials", str(error)) from None

    async def show(self, exchange: Exchange) -> SessionOut:
        csrf = self._identity.csrf_token(exchange.token or "")
        if exchange.guest is not None:
            meeting = exchange.guest.conference_id
            return SessionOut(csrf=csrf, user=guest_out(exchange.guest), conference_id=meeting)
        return SessionOut(csrf=csrf, user=user_out(exchange.who))

    async def sign_out(self, exchange: Exchange) -> web.Response:
        token = exchange.token or ""
        if exchange.guest is not None:
            await self._guests.end(token)
        else:
            await self._identity.sign_out(token, exchange.address)
        self._sessions_changed()
        response = web.Response(status=204)
        response.del_cookie(
            SESSION_COOKIE, path="/", httponly=True, secure=exchange.secure, samesite="Strict"
        )
        return response

    async def change_password(self, exchange: Exchange) -> None:
        wanted = exchange.parsed(PasswordChange)
        try:
            await self._identity.change_password(
                exchange.who, wanted.old, wanted.new, exchange.address, keep=exchange.token
            )
        except WeakPassword as error:
            raise Problem(422, "Weak password", str(error)) from None
        except WrongCredentials as error:
            raise Problem(403, "Wrong password", str(error)) from None
        self._sessions_changed()

    async def guest(self, exchange: Exchange) -> web.Response:
        """Number and PIN; which of them was wrong is not told, and wrong ones are slowed."""
        wanted = exchange.parsed(GuestSignIn)
        meeting = await self._checked(exchange, wanted)
        if meeting is None:
            await self._audit(exchange, wanted, "refused")
            raise Problem(401, "Wrong credentials", "meeting number or PIN is wrong")
        guest = Guest(meeting.conference_id, wanted.name.strip())
        exchange.guest = guest
        await self._audit(exchange, wanted, "done")
        token = await self._guests.issue(guest)
        body = SessionOut(
            token=None if "Origin" in exchange.request.headers else token,
            csrf=self._identity.csrf_token(token),
            user=guest_out(guest),
            conference_id=guest.conference_id,
        )
        return _with_cookie(exchange, body, token)

    async def _checked(self, exchange: Exchange, wanted: GuestSignIn) -> Meeting | None:
        """The meeting, None for a wrong number or PIN. Raises the 429 problem."""
        wait = self._pins.attempt(exchange.address, wanted.number)
        if wait:
            if self._pins.first_refusal(exchange.address, wanted.number):
                await self._audit(exchange, wanted, "slowed")
            seconds = max(1, round(wait))
            raise too_many(f"too many wrong PINs; try again in {seconds} s", wait)
        try:
            meeting: Meeting | None = self._meetings.by_number(wanted.number)
        except UnknownMeeting:
            meeting = None
        try:
            check = await self._passwords.verify(meeting.pin_hash if meeting else None, wanted.pin)
        except Exception:  # ours to answer for: it was no wrong PIN
            self._pins.undo(exchange.address, wanted.number)
            raise
        if not check.correct:
            return None
        self._pins.undo(exchange.address, wanted.number)
        return meeting

    async def _audit(self, exchange: Exchange, wanted: GuestSignIn, outcome: str) -> None:
        entry = AuditEntry(
            exchange.name if exchange.guest is not None else f"guest:{wanted.name}",
            "guest-sign-in",
            f"meeting:{wanted.number}",
            outcome,
            exchange.address,
        )
        async with self._database.transaction() as tx:
            await AuditTrail(tx, self._clock).append(entry)


async def _own_account(exchange: Exchange) -> Resource:
    return Resource("user", exchange.who.user_id, exchange.who.site_id)


def _with_cookie(exchange: Exchange, body: SessionOut, token: str) -> web.Response:
    response = web.Response(body=body.model_dump_json().encode(), content_type="application/json")
    response.set_cookie(
        SESSION_COOKIE, token, httponly=True, secure=exchange.secure, samesite="Strict", path="/"
    )
    return response


def _prefix(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 address, which one machine has all of."""
    try:
        host = ipaddress.ip_address(address)
    except ValueError:
        return address
    if host.version == 4:
        return address
    return str(ipaddress.ip_network((int(host), 64), strict=False))
