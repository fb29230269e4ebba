"""Announcements over HTTP: which sounds there are, playing one into a meeting, and stopping."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import Field

from foundation.audit import AuditEntry
from foundation.authorisation import Action, Resource
from foundation.desk_client import DeskFailed
from foundation.desks import ConferenceDesk, Refusal, RefusalKind
from foundation.http_edge import Exchange, Problem, Route, Wanted, conflict, not_found
from signaling.meeting_history import MeetingHistory
from signaling.meetings import Meetings, UnknownMeeting

ANNOUNCEMENTS = "/api/v1/conferences/{id}/announcements"
_NOT_FOUND = (RefusalKind.UNKNOWN_ANNOUNCEMENT, RefusalKind.UNKNOWN_PARTICIPANT)


class AnnouncementBody(Wanted):
    """A sound to play once, to everybody or to one."""

    sound: str = Field(min_length=1, max_length=64, description="one of the names of GET")
    participant_id: str | None = Field(default=None, description="who alone hears it; none for all")


class AnnouncementRoutes:
    """The handlers; `routes` is their table. `place` says whose conference it is."""

    def __init__(
        self,
        meetings: Meetings,
        history: MeetingHistory,
        place: Callable[[Exchange], Awaitable[Resource]],
    ) -> None:
        self._meetings = meetings
        self._history = history
        self._place = place

    @property
    def routes(self) -> tuple[Route, ...]:
        operate, here = Action.OPERATE_CONFERENCE, self._place
        return (
            Route("GET", ANNOUNCEMENTS, self.names, "Sounds to announce", operate, here, returns=list[str]),
            Route(
                "POST",
                ANNOUNCEMENTS,
                self.announce,
                "Play a sound to all or to one",
                operate,
                here,
                body=AnnouncementBody,
                status=204,
            ),
            Route("DELETE", ANNOUNCEMENTS, self.stop, "Stop announcing", operate, here, status=204),
        )

    async def names(self, exchange: Exchange) -> list[str]:
        """None while nobody is there to hear them."""
        desk = self._placed(exchange)
        try:
            return [] if desk is None else list(await desk.announcements())
        except (Refusal, DeskFailed) as error:
            raise _problem(error) from None

    async def announce(self, exchange: Exchange) -> None:
        body = exchange.parsed(AnnouncementBody)
        try:
            await self._desk(exchange).announce(exchange.path["id"], body.sound, body.participant_id)
        except (Refusal, DeskFailed) as error:
            raise _problem(error) from None
        given = {"sound": body.sound}
        if body.participant_id is not None:
            given["participant"] = body.participant_id
        await self._audit(exchange, "announce", given)

    async def stop(self, exchange: Exchange) -> None:
        try:
            await self._desk(exchange).stop_announcing(exchange.path["id"])
        except (Refusal, DeskFailed) as error:
            raise _problem(error) from None
        await self._audit(exchange, "stop-announcing", {})

    async def _audit(self, exchange: Exchange, command: str, given: dict[str, str]) -> None:
        subject = f"conference:{exchange.path['id']}"
        await self._history.audit(
            AuditEntry(exchange.name, command, subject, "done", exchange.address, given)
        )

    def _desk(self, exchange: Exchange) -> ConferenceDesk:
        desk = self._placed(exchange)
        if desk is None:
            raise conflict("nobody has come to this conference yet")
        return desk

    def _placed(self, exchange: Exchange) -> ConferenceDesk | None:
        try:
            return self._meetings.desk(exchange.path["id"])
        except UnknownMeeting as error:
            raise not_found(str(error)) from None


def _problem(error: Refusal | DeskFailed) -> Problem:
    if isinstance(error, Refusal) and error.kind in _NOT_FOUND:
        return not_found(error.detail)
    return Problem(503, "No worker", str(error), headers={"Retry-After": "5"})
