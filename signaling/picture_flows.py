"""Terminals that heed neither REMB nor TMMBR are told by re-INVITE how much picture they may send.

    flows = PictureFlows(meetings, conversations, networks={"extranet"})
    await flows.run(bus)              # what workers want (PictureFlowWanted), until the bus closes
    await flows.keep()                # what was missed of it, until cancelled
    await flows.aclose()

A lower b= stands from then on in all that we write in the dialog (`SdpSession.picture_bps`): an offer or
answer about slides or new ports keeps it, and where it has told the terminal, no re-INVITE follows. Down goes
once in `LOWER_SPACING` seconds and call; up at once. Who refuses to be lowered is left alone in this call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from weakref import WeakKeyDictionary

import structlog

from foundation.desk_client import DeskFailed
from foundation.desks import MediaDescription, MediaSection, Refusal, SectionKind
from foundation.event_bus import EventBus
from foundation.events import PictureFlowWanted
from signaling.media_description import read_sdp
from signaling.meeting import MediaRecord, Member
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.sip_conversations import SipConversations
from signaling.sip_events import CallOver, ReinviteRefused
from signaling.sip_line import SipLine, with_picture_bound

log = structlog.get_logger(__name__)

LOWER_SPACING = 10.0
RAISE_AGAIN, RAISE_TRIES = 10.0, 3
"""Seconds until a refused raise is asked for again, and how often: shown as a trickle is worse than asked."""
LOOK_AGAIN = 5.0
_HEADERS = 1.04
"""A b= counts IP, UDP and RTP headers, a granted rate does not."""
_AS_GOOD = 0.95
"""A bound this close to what the description has anyway is none."""
_REQUEST_PENDING = 491


@dataclass(slots=True)
class PictureFlowCounters:
    """Re-INVITEs since the start, for metrics."""

    lowered: int = 0
    raised: int = 0
    refused: int = 0


class _Way(IntEnum):
    DOWN = -1
    NONE = 0
    UP = 1


@dataclass(slots=True, eq=False)
class _Flow:
    """One call's. `refused`: it takes no lower b=. `unraised` counts raises that it refused."""

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    lowered_at: float = float("-inf")
    refused: bool = False
    unraised: int = 0


class PictureFlows:
    """See the module's head. `networks` are those where terminals may be lowered."""

    def __init__(
        self, meetings: Meetings, conversations: SipConversations, networks: Collection[str] = ()
    ) -> None:
        self.counters = PictureFlowCounters()
        self._meetings = meetings
        self._conversations = conversations
        self._networks = frozenset(networks)
        self._flows: WeakKeyDictionary[SipLine, _Flow] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, bus: EventBus) -> None:
        async with bus.subscribe(PictureFlowWanted) as events:
            async for event in events:
                self._take(event)

    async def keep(self) -> None:
        """Raise who is lowered without need: a word of its worker was lost, or the worker, or our process."""
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            await self._look_again()

    async def aclose(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- what is wanted ---------------------------------------------------------------------------

    def _take(self, event: PictureFlowWanted) -> None:
        try:
            member = self._meetings.member(event.participant_id)
        except UnknownMember:
            return
        line = member.line
        if isinstance(line, SipLine) and line.call.network in self._networks:
            self._want(member, line, event.bitrate_bps, held=event.held)

    def _want(self, member: Member, line: SipLine, bitrate: int, *, held: bool) -> None:
        flow = self._flows.setdefault(line, _Flow())
        line.session.picture_bps = None if flow.refused else _bound(member, bitrate, held=held)
        flow.changed.set()
        if flow.task is None:
            work = self._carry_out(line, flow)
            flow.task = asyncio.get_running_loop().create_task(work, name=f"picture flow {line.call.call_id}")
            self._tasks.add(flow.task)
            flow.task.add_done_callback(self._tasks.discard)

    async def _look_again(self) -> None:
        for meeting in self._meetings.running:
            bounded = {
                member.participant_id: (member, member.line)
                for member in meeting.members.values()
                if isinstance(member.line, SipLine) and member.line.session.picture_bps is not None
            }
            if not bounded:
                continue
            try:
                report = await self._meetings.report(meeting.conference_id)
            except (UnknownMeeting, Refusal, DeskFailed) as error:
                log.info("picture_flows_unknown", meeting=meeting.conference_id, why=str(error))
                continue
            for leg in report.legs:
                if leg.outgoing or leg.kind is not SectionKind.VIDEO or leg.participant_id not in bounded:
                    continue
                member, line = bounded[leg.participant_id]
                if not leg.held or line.call.network not in self._networks:
                    self._want(member, line, leg.granted_bps, held=False)

    # --- what is done about it --------------------------------------------------------------------

    async def _carry_out(self, line: SipLine, flow: _Flow) -> None:
        try:
            while await self._step(line, flow):
                pass
        except (CallOver, UnknownMember):
            pass  # who has left is told nothing
        except Exception as error:
            log.error("picture_flow_failed", participant=line.participant_id, exc_info=error)
        finally:
            flow.task = None

    async def _step(self, line: SipLine, flow: _Flow) -> bool:
        """Say what is to be said, or wait until it may be; False when there is nothing left to do."""
        flow.changed.clear()
        way = self._way(line)
        now = asyncio.get_running_loop().time()
        if way is _Way.NONE or line.call.ended is not None:
            return False
        if way is _Way.DOWN and (wait := flow.lowered_at + LOWER_SPACING - now) > 0:
            await _first(flow.changed, wait)
            return True
        try:
            await self._say(line, flow, way)
        except ReinviteRefused as refusal:
            if refusal.status == _REQUEST_PENDING:  # glare, four times: the peer is busy with us
                await _first(flow.changed, LOWER_SPACING)
                return True
            return await self._refused(line, flow, way, refusal)
        return True

    async def _say(self, line: SipLine, flow: _Flow, way: _Way) -> None:
        """One re-INVITE. Raises ReinviteRefused, CallOver, UnknownMember."""
        said = False

        def offer() -> bytes | None:
            """When its turn has come: by then another offer may have told the peer, or the need be gone."""
            nonlocal said
            ours = self._ours(line)
            said = ours is not None and self._way(line) is way
            if ours is None or not said:
                return None
            if way is _Way.DOWN:
                flow.lowered_at = asyncio.get_running_loop().time()
            return line.session.write(ours)

        answer = await line.call.reinvite(offer)
        if not said:
            return
        if way is _Way.DOWN:
            self.counters.lowered += 1
        else:
            self.counters.raised += 1
            flow.unraised = 0
        log.info("picture_flow", participant=line.participant_id, way=way.name.lower())
        await self._agreed(line, answer)

    async def _agreed(self, line: SipLine, answer: bytes | None) -> None:
        """What of its own side the peer changed by the way is the worker's to know."""
        media = self._meetings.member(line.participant_id).media
        if answer is not None and media is not None:
            try:
                theirs = read_sdp(answer)
            except Refusal as refusal:
                log.warning("picture_flow_answer", participant=line.participant_id, why=refusal.detail)
            else:
                if not _is_as_before(media, theirs):
                    await self._conversations.agreed(line, theirs)
        await self._conversations.remember(line)

    async def _refused(self, line: SipLine, flow: _Flow, way: _Way, refusal: ReinviteRefused) -> bool:
        self.counters.refused += 1
        log.warning(
            "picture_flow_refused", participant=line.participant_id, way=way.name.lower(), why=str(refusal)
        )
        if way is _Way.DOWN:
            flow.refused = True
            line.session.picture_bps = None
            return True
        flow.unraised += 1
        if flow.unraised >= RAISE_TRIES:
            return False
        await asyncio.sleep(RAISE_AGAIN)
        return True

    def _way(self, line: SipLine) -> _Way:
        """From what the peer was told last to what it is to be told now. Raises UnknownMember."""
        ours, told = self._ours(line), _told(line)
        if ours is None or told is None:
            return _Way.NONE
        wanted = _kilobits(_picture(with_picture_bound(ours, line.session.picture_bps)))
        before = _kilobits(told)
        return _Way.NONE if wanted == before else _Way.UP if wanted > before else _Way.DOWN

    def _ours(self, line: SipLine) -> MediaDescription | None:
        """What runs, if it has a picture of which b= is ours to say; associations of DTLS are left alone."""
        ours = self._meetings.said_again(line.participant_id)
        picture = None if ours is None else _picture(ours)
        if picture is None or picture.dtls is not None or picture.ice is not None:
            return None
        return ours if picture.bandwidth_bps else None


def _bound(member: Member, bitrate: int, *, held: bool) -> int | None:
    """What the b= of the main picture comes to; None where that is what it is anyway."""
    if held:
        return bitrate
    picture = None if member.media is None else _picture(member.media.ours)
    own = None if picture is None else picture.bandwidth_bps
    wire = int(bitrate * _HEADERS)
    return None if own is None or wire >= own * _AS_GOOD else wire


def _picture(description: MediaDescription) -> MediaSection | None:
    return next((s for s in description.sections if s.kind is SectionKind.VIDEO and s.port), None)


def _told(line: SipLine) -> MediaSection | None:
    """The main picture of what we said last, and the peer took."""
    said = line.call.local_sdp
    return None if said is None else _picture(read_sdp(said))


def _kilobits(section: MediaSection | None) -> int:
    """As b=AS has it."""
    return 0 if section is None or section.bandwidth_bps is None else max(1, section.bandwidth_bps // 1000)


def _is_as_before(media: MediaRecord, theirs: MediaDescription) -> bool:
    """Whether the peer's answer says of its side what it said before, as far as we use it."""
    before = media.theirs.sections
    if theirs.bandwidth_bps != media.theirs.bandwidth_bps or len(theirs.sections) < len(before):
        return False
    triples = zip(media.ours.sections, before, theirs.sections, strict=False)
    return all(_same_section(ours, one, other) for ours, one, other in triples)


def _same_section(ours: MediaSection, before: MediaSection, now: MediaSection) -> bool:
    if not ours.port and ours.kind is not SectionKind.FLOOR:
        return not now.port  # refused by either side, and still so
    names = ("port", "address", "protocol", "direction", "bandwidth_bps", "rtcp_port", "rtcp_mux", "crypto")
    if any(getattr(before, name) != getattr(now, name) for name in names):
        return False
    there = {(codec.name, codec.payload_type) for codec in now.codecs}
    known = {(codec.name, codec.payload_type) for codec in before.codecs}
    main = {(codec.name, codec.payload_type) for codec in ours.codecs[:1]}
    return there == known or (main <= there <= known)


async def _first(changed: asyncio.Event, seconds: float) -> None:
    """Wait for either."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await changed.wait()
