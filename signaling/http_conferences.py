"""Conferences over HTTP: list, open, command, call, report, and browsers' offers and answers."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from aiohttp import web

from foundation.audit import AuditEntry
from foundation.authorisation import Action, Authorisation, Resource
from foundation.desks import Budget, ConferenceReport, Refusal, RefusalKind
from foundation.http_edge import Exchange, Problem, Route, bad_request, conflict, forbidden, not_found
from foundation.passwords import Passwords
from foundation.repositories.conferences import NumberTaken
from protocols.sip.telephone import is_dialled
from signaling.admission import NotAdmitted
from signaling.browser_calls import BrowserCalls
from signaling.camera_calls import CameraCalls, CameraOff
from signaling.conference_bodies import (
    BrowserAnswer,
    BrowserOffer,
    BudgetOut,
    ConferenceOut,
    NewConference,
    NewParticipant,
    ParticipantOut,
    ParticipantPatch,
    ViewOut,
)
from signaling.control.orders import Command, Order
from signaling.http_announcements import AnnouncementRoutes
from signaling.http_control import ControlRoutes
from signaling.meeting import CAMERA, Meeting, Member
from signaling.meeting_history import ConferenceEntry, MeetingHistory, ParticipantEntry
from signaling.meetings import AlreadyIn, Meetings, UnknownMeeting, UnknownMember
from signaling.sip_calls import CallFailed, SipCalls

NUMBER = re.compile(r"\d{3,12}")
RESOURCE = "/api/v1/conferences"


class ConferenceRoutes:
    """The handlers; `routes` is their table. Without `cameras` no camera can be called in."""

    def __init__(
        self,
        *,
        meetings: Meetings,
        history: MeetingHistory,
        browsers: BrowserCalls,
        sip: SipCalls,
        authorisation: Authorisation,
        passwords: Passwords,
        cameras: CameraCalls | None = None,
    ) -> None:
        self._meetings = meetings
        self._history = history
        self._browsers = browsers
        self._sip = sip
        self._cameras = cameras
        self._authorisation = authorisation
        self._passwords = passwords
        self._control = ControlRoutes(
            meetings=meetings, history=history, browsers=browsers, place=self._conference
        )

    @property
    def routes(self) -> tuple[Route, ...]:
        one = f"{RESOURCE}/{{id}}"
        people = f"{one}/participants"
        view, join, operate = Action.VIEW_CONFERENCES, Action.JOIN_CONFERENCE, Action.OPERATE_CONFERENCE
        here = self._conference
        return (
            Route(
                "GET",
                RESOURCE,
                self.list_running,
                "Conferences",
                view,
                returns=list[ConferenceOut],
                filtered=True,
            ),
            Route(
                "POST",
                RESOURCE,
                self.open,
                "Open a conference",
                Action.CREATE_CONFERENCE,
                resource=self._new_conference,
                body=NewConference,
                returns=ConferenceOut,
                status=201,
            ),
            Route("GET", one, self.show, "One conference", view, here, returns=ConferenceOut, guests=True),
            Route("DELETE", one, self.end, "End a conference", operate, here, status=204),
            Route("GET", people, self.people, "Participants", view, here, returns=list[ParticipantOut]),
            Route(
                "POST",
                people,
                self.call,
                "Call somebody into the conference",
                operate,
                here,
                body=NewParticipant,
                returns=ParticipantOut,
                status=201,
            ),
            Route(
                "PATCH",
                f"{people}/{{participant}}",
                self.change,
                "Mute, or change the budget",
                operate,
                here,
                body=ParticipantPatch,
                returns=ParticipantOut,
            ),
            Route("DELETE", f"{people}/{{participant}}", self.drop, "Drop", operate, here, status=204),
            Route(
                "GET", f"{one}/report", self.report, "What is measured", operate, here, returns=dict[str, Any]
            ),
            Route(
                "POST",
                f"{one}/webrtc",
                self.offer,
                "Join from a browser, or offer anew",
                join,
                here,
                body=BrowserOffer,
                returns=BrowserAnswer,
                guests=True,
            ),
            Route(
                "DELETE",
                f"{one}/webrtc/{{participant}}",
                self.hang_up,
                "Leave",
                join,
                here,
                status=204,
                guests=True,
            ),
            *self._control.routes,
            *AnnouncementRoutes(self._meetings, self._history, here).routes,
        )

    # --- permission's resources ---------------------------------------------------------------------

    async def _conference(self, exchange: Exchange) -> Resource:
        entry = await self._history.conference(exchange.path["id"])
        if entry is None:
            raise not_found(f"there is no conference {exchange.path['id']}")
        return Resource("conference", entry.id, entry.host_site_id)

    async def _new_conference(self, exchange: Exchange) -> Resource:
        host = exchange.parsed(NewConference).host_site_id
        return Resource("conference", None, host or exchange.who.site_id)

    # --- conferences --------------------------------------------------------------------------------

    async def list_running(self, exchange: Exchange) -> list[ConferenceOut]:
        sites = self._authorisation.sites(exchange.who, Action.VIEW_CONFERENCES)
        return [self._out(entry) for entry in await self._history.conferences(sites)]

    async def open(self, exchange: Exchange) -> ConferenceOut:
        wanted = exchange.parsed(NewConference)
        if wanted.number is not None and NUMBER.fullmatch(wanted.number) is None:
            raise bad_request(f"number {wanted.number!r} is not 3 to 12 digits")
        host = wanted.host_site_id or exchange.who.site_id
        if host not in self._authorisation.tree:
            raise bad_request(f"host_site_id: there is no site {host!r}")
        pin_hash = None if wanted.pin is None else await self._passwords.hash(wanted.pin)
        try:
            meeting = await self._meetings.open(wanted.title, host, number=wanted.number, pin_hash=pin_hash)
        except NumberTaken as error:
            raise Problem(409, "Number taken", str(error)) from None
        await self._audit(exchange, "open-conference", f"conference:{meeting.conference_id}")
        return self._out(await self._entry(meeting.conference_id))

    async def show(self, exchange: Exchange) -> ConferenceOut:
        return self._out(await self._entry(exchange.path["id"]))

    async def end(self, exchange: Exchange) -> None:
        await self._meetings.end(self._running(exchange).conference_id, f"ended by {exchange.name}")
        await self._audit(exchange, "end-conference", f"conference:{exchange.path['id']}")

    async def report(self, exchange: Exchange) -> web.Response:
        report: ConferenceReport = await self._meetings.report(self._running(exchange).conference_id)
        return web.json_response(body=msgspec.json.encode(report))

    # --- participants -------------------------------------------------------------------------------

    async def people(self, exchange: Exchange) -> list[ParticipantOut]:
        entries = await self._history.participants(exchange.path["id"])
        return [self._participant(entry) for entry in entries]

    async def call(self, exchange: Exchange) -> ParticipantOut:
        wanted = exchange.parsed(NewParticipant)
        meeting = self._running(exchange)
        if wanted.site_id is not None and wanted.site_id not in self._authorisation.tree:
            raise bad_request(f"site_id: there is no site {wanted.site_id!r}")
        scheme = wanted.address.partition(":")[0].lower()
        try:
            if scheme in ("sip", "tel") or is_dialled(wanted.address):
                member = await self._sip.dial(
                    meeting.conference_id, wanted.address, wanted.site_id, wanted.name
                )
            elif scheme == "camera" and self._cameras is not None:
                member = await self._call_camera(exchange, self._cameras, meeting, wanted)
            else:
                known = "only sip: URIs, telephone numbers and camera:ID can be called"
                raise bad_request(f"address {wanted.address!r}: {known}")
        except CallFailed as error:
            raise bad_request(str(error)) from None
        except (NotAdmitted, Refusal) as error:
            raise refused(error) from None
        await self._audit(
            exchange, "call", f"conference:{meeting.conference_id}", {"address": wanted.address}
        )
        return self._participant(await self._participant_entry(member.participant_id))

    async def _call_camera(
        self, exchange: Exchange, cameras: CameraCalls, meeting: Meeting, wanted: NewParticipant
    ) -> Member:
        """Whoever brings a camera into a meeting must be allowed to see the camera, too."""
        camera_id = wanted.address[len(CAMERA) :]
        camera = await cameras.camera(camera_id)
        if camera is None:
            raise not_found(f"there is no camera {camera_id}")
        place = Resource("camera", camera.camera_id, camera.site_id)
        decision = self._authorisation.allowed(exchange.who, Action.VIEW_CAMERA, place)
        if not decision:
            raise forbidden(decision.reason)
        if wanted.site_id not in (None, camera.site_id):
            raise bad_request(f"site_id: camera {camera.camera_id} is at {camera.site_id}")
        try:
            return await cameras.join(meeting.conference_id, camera, wanted.name)
        except (CameraOff, AlreadyIn) as error:
            raise conflict(str(error)) from None

    async def change(self, exchange: Exchange) -> ParticipantOut:
        wanted = exchange.parsed(ParticipantPatch)
        member = self._member(exchange, exchange.path["participant"])
        if wanted.budget is not None and member.camera is not None:
            raise conflict(f"budget: {member.caller.address} is a camera, it sends what it sends")
        try:
            if wanted.muted is not None:
                command = Command.MUTE if wanted.muted else Command.UNMUTE
                order = Order(command, exchange.name, participant_id=member.participant_id)
                await self._meetings.control.give(member.conference_id, order)
            if wanted.budget is not None:
                budget = Budget(wanted.budget.to_site_bps, wanted.budget.from_site_bps)
                await self._meetings.set_budget(member.participant_id, budget)
        except (NotAdmitted, Refusal) as error:
            raise refused(error) from None
        detail = wanted.model_dump(exclude_none=True)
        await self._audit(exchange, "change-participant", f"participant:{member.participant_id}", detail)
        return self._participant(await self._participant_entry(member.participant_id))

    async def drop(self, exchange: Exchange) -> None:
        member = self._member(exchange, exchange.path["participant"])
        await self._meetings.leave(member.participant_id, f"dropped by {exchange.name}")
        await self._audit(exchange, "drop", f"participant:{member.participant_id}")

    # --- browsers -----------------------------------------------------------------------------------

    async def offer(self, exchange: Exchange) -> BrowserAnswer:
        offer = exchange.parsed(BrowserOffer)
        meeting = self._running(exchange)
        try:
            if offer.participant_id is not None and self._browsers.knows(offer.participant_id):
                self._own(exchange, offer.participant_id)
                answer = await self._browsers.offer_again(offer.participant_id, offer.sdp.encode())
                return BrowserAnswer(participant_id=offer.participant_id, sdp=answer.decode())
            participant_id, answer = await self._browsers.join(
                meeting.conference_id,
                owner=self._owner(exchange),
                name=self._shown_name(exchange),
                site_id=exchange.actor.site_id if exchange.actor is not None else None,
                sdp=offer.sdp.encode(),
            )
        except (NotAdmitted, Refusal) as error:
            raise refused(error) from None
        return BrowserAnswer(participant_id=participant_id, sdp=answer.decode())

    async def hang_up(self, exchange: Exchange) -> None:
        participant_id = exchange.path["participant"]
        self._member(exchange, participant_id)
        self._own(exchange, participant_id)
        await self._meetings.leave(participant_id, "left", hang_up=False)

    def _owner(self, exchange: Exchange) -> str:
        return exchange.name

    def _shown_name(self, exchange: Exchange) -> str:
        if exchange.actor is not None:
            return exchange.actor.display_name or exchange.actor.name
        return exchange.guest.name if exchange.guest is not None else "?"

    def _own(self, exchange: Exchange, participant_id: str) -> None:
        if self._browsers.owner(participant_id) != self._owner(exchange):
            raise forbidden("this participant belongs to somebody else")

    # --- helpers ------------------------------------------------------------------------------------

    def _running(self, exchange: Exchange) -> Meeting:
        try:
            return self._meetings.meeting(exchange.path["id"])
        except UnknownMeeting as error:
            raise not_found(str(error)) from None

    def _member(self, exchange: Exchange, participant_id: str | None) -> Member:
        if participant_id is None:
            raise bad_request("participant_id is missing")
        try:
            member = self._meetings.member(participant_id)
        except UnknownMember as error:
            raise not_found(str(error)) from None
        if member.conference_id != exchange.path["id"]:
            raise not_found(f"participant {participant_id} is in another conference")
        return member

    async def _entry(self, conference_id: str) -> ConferenceEntry:
        entry = await self._history.conference(conference_id)
        if entry is None:
            raise not_found(f"there is no conference {conference_id}")
        return entry

    async def _participant_entry(self, participant_id: str) -> ParticipantEntry:
        entry = await self._history.participant(participant_id)
        if entry is None:
            raise not_found(f"there is no participant {participant_id}")
        return entry

    def _out(self, entry: ConferenceEntry) -> ConferenceOut:
        count = 0
        if entry.state == "running":
            try:
                count = len(self._meetings.meeting(entry.id).members)
            except UnknownMeeting:
                count = 0
        return ConferenceOut(
            id=entry.id,
            number=entry.number,
            title=entry.title,
            state=entry.state,
            host_site_id=entry.host_site_id,
            picture=ViewOut(mode=entry.view.mode.value, participant_id=entry.view.participant_id),
            participant_count=count,
            has_pin=entry.has_pin,
            created_at=entry.created_at,
            ended_at=entry.ended_at,
        )

    def _participant(self, entry: ParticipantEntry) -> ParticipantOut:
        state = self._meetings.state(entry.id).value
        record = entry.record
        budget = None
        if record is not None:
            budget = BudgetOut(
                to_site_bps=record.budget.to_site_bps, from_site_bps=record.budget.from_site_bps
            )
        return ParticipantOut(
            id=entry.id,
            name=entry.name,
            site_id=entry.site_id,
            address=entry.address,
            network=None if record is None else record.network or None,
            state=state,
            muted=record.muted if record is not None else False,
            budget=budget,
            joined_at=entry.joined_at,
            left_at=entry.left_at,
            reason=entry.reason,
        )

    async def _audit(
        self, exchange: Exchange, action: str, subject: str, detail: dict[str, Any] | None = None
    ) -> None:
        entry = AuditEntry(exchange.name, action, subject, "done", exchange.address, detail or {})
        await self._history.audit(entry)


def refused(error: NotAdmitted | Refusal) -> Problem:
    """What admission or a worker refused, as a problem that names what is full."""
    if isinstance(error, NotAdmitted):
        limit = error.limit
        return Problem(
            503,
            "No capacity",
            str(error),
            headers={"Retry-After": "30"},
            limit={
                "kind": limit.kind,
                "name": limit.name,
                "capacity_bps": limit.capacity_bps,
                "carried_bps": limit.carried_bps,
                "asked_bps": limit.asked_bps,
            },
        )
    status, title = {
        RefusalKind.NO_COMMON_CODEC: (422, "No common codec"),
        RefusalKind.BAD_DESCRIPTION: (400, "Bad session description"),
        RefusalKind.UNKNOWN_CONFERENCE: (404, "Not found"),
        RefusalKind.UNKNOWN_PARTICIPANT: (404, "Not found"),
        RefusalKind.LOCKED: (403, "Locked"),
    }.get(error.kind, (503, "No capacity"))
    headers = {"Retry-After": str(error.retry_after or 5)} if status == 503 else {}
    return Problem(status, title, error.detail, headers=headers, kind=error.kind.value)
