"""Signing in and out, of accounts and of guests."""

from __future__ import annotations

from aiohttp import web
from pydantic import BaseModel, Field

from foundation.authorisation import Actor
from foundation.http_edge import Exchange, Guest, Problem, Route
from foundation.identity import Identity, SessionKind, SignedIn, WrongCredentials
from foundation.passwords import Passwords
from foundation.throttle import AttemptThrottle
from orchestrator.guest_passes import GuestPasses
from orchestrator.web_app import SESSION_COOKIE
from signaling.meetings import Meetings, UnknownMeeting


class SignIn(BaseModel):
    name: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=1024)


class GuestSignIn(BaseModel):
    number: str = Field(min_length=1, max_length=12)
    pin: str = Field(min_length=1, max_length=12)
    name: str = Field(min_length=1, max_length=64)


class UserOut(BaseModel):
    id: str
    name: str
    display_name: str
    roles: list[str]
    site_id: str | None


class SessionOut(BaseModel):
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


class SessionRoutes:
    """A cookie for pages, the same token's twin as a bearer for tools."""

    def __init__(
        self,
        *,
        identity: Identity,
        guests: GuestPasses,
        meetings: Meetings,
        passwords: Passwords,
        pins: AttemptThrottle,
        secure: bool,
    ) -> None:
        self._identity = identity
        self._guests = guests
        self._meetings = meetings
        self._passwords = passwords
        self._pins = pins
        self._secure = secure

    @property
    def routes(self) -> tuple[Route, ...]:
        session = "/api/v1/session"
        return (
            Route("POST", session, self.sign_in, "Sign in", None, body=SignIn, returns=SessionOut),
            Route("GET", session, self.show, "Who am I", None, returns=SessionOut),
            Route("DELETE", session, self.sign_out, "Sign out", None, status=204),
            Route(
                "POST",
                "/api/v1/guest-session",
                self.guest,
                "Enter as a guest of one meeting",
                None,
                body=GuestSignIn,
                returns=SessionOut,
            ),
        )

    async def sign_in(self, exchange: Exchange) -> web.Response:
        """Both kinds at once: the page keeps the cookie, a tool the token in the body."""
        wanted = exchange.parsed(SignIn)
        try:
            signed = await self._identity.sign_in(
                wanted.name, wanted.password, SessionKind.COOKIE, exchange.address
            )
        except WrongCredentials as error:
            raise Problem(401, "Wrong credentials", str(error)) from None
        bearer = await self._bearer(exchange, wanted)
        body = SessionOut(token=bearer, csrf=signed.csrf_token, user=user_out(signed.actor))
        response = web.json_response(body=body.model_dump_json().encode())
        self._set_cookie(response, signed)
        return response

    async def _bearer(self, exchange: Exchange, wanted: SignIn) -> str | None:
        """A bearer token only for callers that say they are no page, so that none lies about unused."""
        if "text/html" in exchange.request.headers.get("Accept", "") or exchange.request.headers.get(
            "Origin"
        ):
            return None
        signed = await self._identity.sign_in(
            wanted.name, wanted.password, SessionKind.BEARER, exchange.address
        )
        return signed.token

    def _set_cookie(self, response: web.Response, signed: SignedIn) -> None:
        response.set_cookie(
            SESSION_COOKIE, signed.token, httponly=True, secure=self._secure, samesite="Strict", path="/"
        )

    async def show(self, exchange: Exchange) -> SessionOut:
        csrf = self._identity.csrf_token(exchange.token) if exchange.token is not None else ""
        if exchange.guest is not None:
            return SessionOut(
                csrf=csrf, user=guest_out(exchange.guest), conference_id=exchange.guest.conference_id
            )
        return SessionOut(csrf=csrf, user=user_out(exchange.who))

    async def sign_out(self, exchange: Exchange) -> web.Response:
        if exchange.token is not None and exchange.guest is not None:
            self._guests.end(exchange.token)
        elif exchange.token is not None:
            await self._identity.sign_out(exchange.token, exchange.address)
        response = web.Response(status=204)
        response.del_cookie(SESSION_COOKIE, path="/")
        return response

    async def guest(self, exchange: Exchange) -> web.Response:
        """Number and PIN; which of them was wrong is not told, and wrong ones are slowed."""
        wanted = exchange.parsed(GuestSignIn)
        wait = self._pins.attempt(exchange.address)
        if wait:
            seconds = max(1, round(wait))
            raise Problem(
                429,
                "Too many attempts",
                f"too many wrong PINs; try again in {seconds} s",
                headers={"Retry-After": str(seconds)},
            )
        try:
            meeting = self._meetings.by_number(wanted.number)
            stored = meeting.pin_hash
        except UnknownMeeting:
            meeting, stored = None, None
        check = await self._passwords.verify(stored, wanted.pin)
        if meeting is None or not check.correct:
            raise Problem(401, "Wrong credentials", "meeting number or PIN is wrong")
        self._pins.succeeded(exchange.address)
        guest = Guest(meeting.conference_id, wanted.name)
        token = self._guests.issue(guest)
        body = SessionOut(
            token=token,
            csrf=self._identity.csrf_token(token),
            user=guest_out(guest),
            conference_id=guest.conference_id,
        )
        response = web.json_response(body=body.model_dump_json().encode())
        response.set_cookie(
            SESSION_COOKIE, token, httponly=True, secure=self._secure, samesite="Strict", path="/"
        )
        return response
