"""Routes as a table: path, body, answer and the one permission question, in one place each.

    ROUTES = (
        Route("POST", "/api/v1/conferences", open_conference, body=NewConference, returns=ConferenceOut,
              action=Action.CREATE_CONFERENCE),
    )

A domain lists its `Route`s; the web application resolves who asks, asks the permission question,
parses the body and prints the answer or the problem (RFC 9457). A handler gets an `Exchange` and
returns a pydantic model, a list of them, None (204), or a whole aiohttp response. The OpenAPI
document is made from the same table, so it cannot drift from what is served.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict

from foundation.authorisation import Action, Actor, Resource

ModelT = TypeVar("ModelT", bound=BaseModel)


class Wanted(BaseModel):
    """What a caller sends, as body or query: a field that we do not know is an error that names it."""

    model_config = ConfigDict(extra="forbid")


def in_utc(at: datetime) -> datetime:
    """The aware time in UTC. Raises ValueError for one that UTC's years 1 to 9999 have not."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC it is not within the years 1 to 9999") from None


UtcTime = Annotated[AwareDatetime, AfterValidator(in_utc)]
"""A time with its zone, as a caller sends it: databases and arithmetic want it in UTC."""


class Problem(Exception):
    """An answer that says who erred (RFC 9457); `detail` is for people."""

    def __init__(
        self, status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.members = members


def not_found(detail: str) -> Problem:
    return Problem(404, "Not found", detail)


def bad_request(detail: str) -> Problem:
    return Problem(400, "Bad request", detail)


def conflict(detail: str) -> Problem:
    return Problem(409, "Conflict", detail)


def forbidden(detail: str) -> Problem:
    return Problem(403, "Forbidden", detail)


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody who knows a meeting's number and PIN, and may join that meeting only.

    Names are what guests call themselves; `id` tells two of the same name apart.
    """

    conference_id: str
    name: str
    id: str = field(default_factory=lambda: secrets.token_hex(4))


@dataclass(slots=True)
class Exchange:
    """One request, after the edge: who asks, from where, with what body.

    `actor` is None for a guest and on public routes; `token` is the session's, for signing out;
    `secure` says that the caller's side of the connection is encrypted.
    """

    request: web.Request
    address: str
    secure: bool = True
    actor: Actor | None = None
    guest: Guest | None = None
    token: str | None = None
    body: BaseModel | None = None
    query: BaseModel | None = None

    @property
    def path(self) -> dict[str, str]:
        return dict(self.request.match_info)

    @property
    def who(self) -> Actor:
        """The signed-in user. Raises the 401 problem."""
        if self.actor is None:
            raise Problem(401, "Not signed in", "sign in first")
        return self.actor

    @property
    def name(self) -> str:
        """Who asks, for audit rows and ownership: no two callers share it."""
        if self.actor is not None:
            return self.actor.name
        return f"guest:{self.guest.id}:{self.guest.name}" if self.guest is not None else "anonymous"

    def parsed(self, model: type[ModelT]) -> ModelT:
        """The body as the route's model."""
        if not isinstance(self.body, model):
            raise TypeError(f"route has no body of type {model.__name__}")
        return self.body

    def asked(self, model: type[ModelT]) -> ModelT:
        """The query string as the route's model."""
        if not isinstance(self.query, model):
            raise TypeError(f"route has no query of type {model.__name__}")
        return self.query


Handler = Callable[[Exchange], Awaitable[Any]]
ResourceOf = Callable[[Exchange], Awaitable[Resource]]


async def the_system(_exchange: Exchange) -> Resource:
    """The resource of routes that concern the node as a whole."""
    return Resource("system")


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table.

    `action` and `resource` make the permission question; `action` None is a public route and must be
    meant, unless `signed_in`: then any session will do, a guest's too. `guests` lets a guest of the
    conference that is asked about through as well. `filtered` says that the handler narrows a list by the
    actor's jurisdiction, so that only the role is asked here. `local` lets callers on this machine and
    the trusted proxies themselves through without a session.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    action: Action | None
    resource: ResourceOf = the_system
    body: type[BaseModel] | None = None
    returns: Any = None
    status: int = 200
    guests: bool = False
    filtered: bool = False
    tags: tuple[str, ...] = field(default_factory=tuple)
    query: type[BaseModel] | None = None
    signed_in: bool = False
    local: bool = False

    @property
    def public(self) -> bool:
        """Nobody is asked who they are."""
        return self.action is None and not self.signed_in
