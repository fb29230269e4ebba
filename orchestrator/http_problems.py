"""Every error leaves as a problem document (RFC 9457) that says who erred."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus

import structlog
from aiohttp import web

from foundation.database import DatabaseBusy, DatabaseUnavailable
from foundation.desks import Refusal
from foundation.http_edge import Problem
from foundation.identity import HasherBusy, TooManyAttempts
from signaling.admission import NotAdmitted
from signaling.http_conferences import refused
from signaling.meetings import UnknownMeeting, UnknownMember

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_WORDS = {
    404: "there is nothing at {path}",
    405: "{path} does not know the method {method}",
    413: "the body is longer than this service takes",
}
"""In place of aiohttp's own, which only repeat the number."""


def problem_response(problem: Problem) -> web.Response:
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    response = web.Response(
        status=problem.status,
        headers=problem.headers,
        body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
        content_type="application/problem+json",
    )
    if problem.status == HTTPStatus.UNAUTHORIZED:  # RFC 9110 15.5.2 wants a challenge
        response.headers.setdefault("WWW-Authenticate", 'Bearer realm="anshi"')
    return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what handlers raise into answers; the unknown is logged and says nothing of the inside."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(problem)
    except web.HTTPMethodNotAllowed as error:
        allow = {"Allow": ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))}
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=allow)
        return problem_response(_problem_of(error, request, allow))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem_response(_problem_of(error, request, {}))
    except web.RequestPayloadError as error:
        return problem_response(Problem(400, "Bad request", f"the body broke off: {error}"))
    except Exception as error:
        known = _known_failure(error)
        if known is None:
            log.exception("request_failed", method=request.method, path=request.path)
            known = Problem(500, "Internal error", "the service failed; its log says why")
        elif known.status >= 500:
            log.warning("request_refused", method=request.method, path=request.path, why=str(error))
        return problem_response(known)


def _problem_of(error: web.HTTPException, request: web.Request, headers: dict[str, str]) -> Problem:
    words = _WORDS.get(error.status, error.text or error.reason)
    return Problem(
        error.status,
        HTTPStatus(error.status).phrase,
        words.format(path=request.path, method=request.method) if error.status in _WORDS else words,
        headers=headers,
    )


def _known_failure(error: Exception) -> Problem | None:
    """Failures that any route may meet. Where the database lies is for the log only."""
    match error:
        case DatabaseBusy():
            detail = "the database is locked by another writer; try again in a moment"
            return Problem(503, "Database busy", detail, headers={"Retry-After": "2"})
        case DatabaseUnavailable():
            detail = "the database cannot be reached; the service's log says why"
            return Problem(503, "Database unavailable", detail, headers={"Retry-After": "5"})
        case TooManyAttempts():
            return too_many(str(error), error.retry_after)
        case HasherBusy():
            return Problem(503, "Busy", str(error), headers={"Retry-After": "1"})
        case NotAdmitted() | Refusal():
            return refused(error)
        case UnknownMeeting() | UnknownMember():
            return Problem(404, "Not found", str(error))
        case _:
            return None


def too_many(detail: str, wait: float) -> Problem:
    """429 with the seconds to wait (RFC 6585 4)."""
    return Problem(429, "Too many attempts", detail, headers={"Retry-After": str(max(1, round(wait)))})
