"""Meeting control over HTTP: commands of operators and of sites, the state, the records of roll calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from foundation.audit import AuditEntry
from foundation.authorisation import Action, Resource
from foundation.desks import Refusal
from foundation.http_edge import Exchange, Problem, Route, bad_request, conflict, forbidden, not_found
from foundation.repositories.roll_calls import RollCallRecord
from signaling.browser_calls import BrowserCalls
from signaling.control.orders import ABOUT_ONE, Command, NotAllowed, NotNow, Order, Outdated
from signaling.control_bodies import CommandBody, ControlOut, RollCallEntryOut, RollCallOut
from signaling.meeting import Meeting
from signaling.meeting_history import MeetingHistory
from signaling.meetings import Meetings, UnknownMeeting

ONE = "/api/v1/conferences/{id}"


class ControlRoutes:
    """The handlers; `routes` is their table. `place` says whose conference it is."""

    def __init__(
        self,
        *,
        meetings: Meetings,
        history: MeetingHistory,
        browsers: BrowserCalls,
        place: Callable[[Exchange], Awaitable[Resource]],
    ) -> None:
        self._meetings = meetings
        self._history = history
        self._browsers = browsers
        self._place = place

    @property
    def routes(self) -> tuple[Route, ...]:
        view, here = Action.VIEW_CONFERENCES, self._place
        return (
            Route(
                "POST",
                f"{ONE}/commands",
                self.command,
                "Command",
                Action.OPERATE_CONFERENCE,
                here,
                body=CommandBody,
                status=204,
            ),
            Route(
                "POST",
                f"{ONE}/participants/{{participant}}/commands",
                self.ask,
                "Command as a participant: ask, choose, and with the chair decide",
                Action.JOIN_CONFERENCE,
                here,
                body=CommandBody,
                status=204,
                guests=True,
            ),
            Route(
                "GET",
                f"{ONE}/control",
                self.state,
                "What is decided",
                view,
                here,
                returns=ControlOut,
                guests=True,
            ),
            Route(
                "GET",
                f"{ONE}/roll-calls",
                self.roll_calls,
                "Records of roll calls",
                view,
                here,
                returns=list[RollCallOut],
            ),
        )

    async def command(self, exchange: Exchange) -> None:
        """An operator's command."""
        await self.carry_out(exchange, exchange.parsed(CommandBody).ordered(exchange.name))

    async def ask(self, exchange: Exchange) -> None:
        """The command of a browser that takes part, as itself."""
        site = exchange.path["participant"]
        if site not in self._running(exchange).members:
            raise not_found(f"participant {site} is not in this conference")
        if self._browsers.owner(site) != exchange.name:
            raise forbidden("this participant belongs to somebody else")
        order = exchange.parsed(CommandBody).ordered(exchange.name, site)
        await self.carry_out(exchange, order)

    async def carry_out(self, exchange: Exchange, order: Order) -> None:
        """Give an order of whoever asks, and put it on record."""
        meeting = self._running(exchange)
        self._check(meeting, order)
        try:
            await self._meetings.control.give(meeting.conference_id, order)
        except Outdated as error:
            changes = meeting.control.since(order.version or 0)
            raise Problem(
                409,
                "Changed meanwhile",
                str(error),
                version=error.version,
                changes=msgspec.to_builtins(changes),
            ) from None
        except NotAllowed as error:
            raise forbidden(str(error)) from None
        except NotNow as error:
            raise conflict(str(error)) from None
        except Refusal as refusal:
            headers = {"Retry-After": str(refusal.retry_after or 5)}
            raise Problem(503, "No capacity", refusal.detail, headers=headers) from None
        detail = {
            "participant": order.participant_id,
            "target": order.target_id,
            "as": order.site,
            "mark": order.mark,
            "text": order.text,
        }
        given = {key: str(value) for key, value in detail.items() if value}
        subject = f"conference:{meeting.conference_id}"
        entry = AuditEntry(exchange.name, order.command, subject, "done", exchange.address, given)
        await self._history.audit(entry)

    async def state(self, exchange: Exchange) -> ControlOut:
        meeting = self._running(exchange)
        shown = msgspec.to_builtins(meeting.control)
        call = meeting.control.roll_call
        return ControlOut.model_validate(
            {
                **shown,
                "picture": {"mode": meeting.view.mode, "participant_id": meeting.view.participant_id},
                "page": list(meeting.view.page),
                "layout": meeting.control.view.layout,
                "roll_call": None if call is None else _record(call.record(meeting.conference_id)),
            }
        )

    async def roll_calls(self, exchange: Exchange) -> list[RollCallOut]:
        records = await self._meetings.roll_calls(exchange.path["id"])
        return [_record(record) for record in records]

    def _running(self, exchange: Exchange) -> Meeting:
        try:
            return self._meetings.meeting(exchange.path["id"])
        except UnknownMeeting as error:
            raise not_found(str(error)) from None

    def _check(self, meeting: Meeting, order: Order) -> None:
        """Who is named must be there; a site of a roll call may have left."""
        if order.command in ABOUT_ONE and order.participant_id is None:
            raise bad_request("participant_id is missing")
        if order.command is Command.ROLL_CALL_MARK:
            return
        for participant_id in (order.participant_id, order.target_id, *order.order):
            if participant_id is not None and participant_id not in meeting.members:
                raise not_found(f"participant {participant_id} is not in this conference")


def _record(record: RollCallRecord) -> RollCallOut:
    return RollCallOut(
        id=record.id,
        started_by=record.started_by,
        started_at=record.started_at,
        ended_at=record.ended_at,
        entries=[RollCallEntryOut.model_validate(msgspec.to_builtins(site)) for site in record.sites],
    )
