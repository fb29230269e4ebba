"""The budgets of sites, as their participants hold them: granted, shared, given back, changed in mid-call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from foundation.desks import Budget, MediaDescription
from signaling.admission import MINIMUM_BPS, Admission, Ask, Grant, NotAdmitted
from signaling.meeting import Caller, Meeting, Member
from signaling.roster import Roster, tolerant, written

log = structlog.get_logger(__name__)

SOUND_BPS = 96_000
"""G.711 with its headers and RTCP: whatever lower limit a peer names, it is not meant to end the sound."""
CAMERA_BPS = 3_000_000
"""What a camera is taken to send before anybody measured it."""


class SiteBudgets:
    """Carries what the ledger grants to members, their rows and their workers."""

    def __init__(
        self, roster: Roster, admission: Admission, site_budget: Callable[[str | None], int]
    ) -> None:
        self._roster = roster
        self._admission = admission
        self._site_budget = site_budget

    def whole(self, site_id: str | None) -> Budget:
        """All that a site, or a guest, may use."""
        budget = self._site_budget(site_id)
        return Budget(budget, budget)

    def of(self, caller: Caller) -> Budget:
        """The same for a caller; a telephone uses what sound takes."""
        whole = self.whole(caller.site_id)
        if not caller.sound_only:
            return whole
        return Budget(min(whole.to_site_bps, SOUND_BPS), min(whole.from_site_bps, SOUND_BPS))

    def camera(self, site_id: str | None, measured_bps: int) -> Budget:
        """What a camera sends up: as measured, else as assumed, but not more than its site's access."""
        access = self._admission.access_bps(site_id)
        assumed = CAMERA_BPS if access is None else min(CAMERA_BPS, access)
        return Budget(to_site_bps=0, from_site_bps=measured_bps or assumed)

    def restore(self, meeting: Meeting, member: Member) -> None:
        """A member that the rows told of holds again what it held."""
        self._admission.restore(self._ask(meeting, member), member.budget)

    def grant(self, meeting: Meeting, member: Member) -> Grant:
        """What a newcomer gets of what it wants. Raises NotAdmitted."""
        grant = self._admission.admit(self._ask(meeting, member))
        if grant.lowered_by is not None:
            log.info("answered_lower", participant=member.participant_id, why=str(grant.lowered_by))
        return grant

    def release(self, participant_id: str) -> None:
        self._admission.release(participant_id)

    def wanted(self, caller: Caller, offer: MediaDescription) -> Budget:
        """A peer that names a lower limit for what it takes is not budgeted above it."""
        budget = self.of(caller).to_site_bps
        limit = offer.bandwidth_bps
        if limit:
            limit = max(limit, SOUND_BPS)
        return Budget(to_site_bps=min(budget, limit) if limit else budget, from_site_bps=budget)

    async def set_budget(self, participant_id: str, wanted: Budget) -> Budget:
        """Ask for another budget in mid-call; what was granted. Raises NotAdmitted and changes nothing."""
        member = self._roster.member(participant_id)
        meeting = self._roster.meeting(member.conference_id)
        before = member.wanted, member.budget, member.budget_set
        grant = self._admission.admit(replace(self._ask(meeting, member), wanted=wanted))
        member.wanted, member.budget, member.budget_set = wanted, grant.budget, True
        desk = self._roster.placed_desk(member.conference_id)
        try:
            await self._roster.rows.changed(member)
            if desk is not None:
                await desk.set_budget(participant_id, grant.budget)
        except BaseException:
            member.wanted, member.budget, member.budget_set = before
            if participant_id in self._roster.members:
                self._admission.restore(self._ask(meeting, member), member.budget)
                await asyncio.shield(written(self._roster.rows.changed(member)))
            await asyncio.shield(self.give_back(member.caller.site_id))
            raise
        self._roster.announce(member)
        await self.share(grant.others)
        return grant.budget

    async def share(self, budgets: Mapping[str, Budget]) -> None:
        """Others of the same site have another share of its budget now."""
        for participant_id, budget in budgets.items():
            member = self._roster.members.get(participant_id)
            if member is not None:
                await self._apply_budget(member, budget)

    async def settle(self, member: Member, told: Budget) -> None:
        """The worker knows the member now, with the budget of when it was told."""
        if member.budget != told:
            await self._apply_budget(member, member.budget)

    async def _apply_budget(self, member: Member, budget: Budget) -> None:
        member.budget = budget
        if not member.placed:
            return  # `settle` follows
        desk = self._roster.placed_desk(member.conference_id)
        if desk is not None:
            await tolerant(desk.set_budget(member.participant_id, budget))
        await written(self._roster.rows.changed(member))
        self._roster.announce(member)

    async def give_back(self, site_id: str | None) -> None:
        """Somebody of a site left: those whom it had lowered get what they asked, as far as it fits."""
        for member in tuple(self._roster.members.values()):
            meeting = self._roster.meetings.get(member.conference_id)
            if site_id is None or meeting is None or member.caller.site_id != site_id:
                continue
            if self._admission.held(member.participant_id) != member.wanted:
                try:
                    grant = self._admission.admit(self._ask(meeting, member))
                except NotAdmitted:
                    continue  # its link was made smaller than what it carries: what is held stays held
                if grant.budget != member.budget:
                    await self._apply_budget(member, grant.budget)
                await self.share(grant.others)

    def _ask(self, meeting: Meeting, member: Member) -> Ask:
        site_id, host = member.caller.site_id, meeting.host_site_id
        return Ask(member.participant_id, site_id, host, member.wanted, member.camera)

    async def sites_changed(self) -> None:
        """Sites or links were edited: running calls follow. Nobody is sent away for it."""
        for site_id in {member.caller.site_id for member in self._roster.members.values()}:
            if site_id is not None:
                await self._refit(site_id)

    async def _refit(self, site_id: str) -> None:
        """Those of one site ask again, as if they came anew."""
        mates = [m for m in self._roster.members.values() if m.caller.site_id == site_id]
        for member in mates:
            self._admission.release(member.participant_id)
            if not member.budget_set and member.camera is None:
                theirs = None if member.media is None else member.media.theirs
                caller = member.caller
                member.wanted = self.of(caller) if theirs is None else self.wanted(caller, theirs)
        callers = sum(member.camera is None for member in mates)
        granted: dict[str, Budget] = {}
        for member in mates:
            meeting = self._roster.meetings.get(member.conference_id)
            if meeting is None:
                continue
            try:
                grant = self._admission.admit(self._ask(meeting, member))
            except NotAdmitted as error:
                log.warning("kept_beyond_capacity", participant=member.participant_id, why=str(error))
                held = member.budget
                if member.camera is None:  # which sends what it sends
                    share = max(self._site_budget(site_id) // callers, MINIMUM_BPS)
                    held = Budget(min(held.to_site_bps, share), min(held.from_site_bps, share))
                self._admission.restore(self._ask(meeting, member), held)
                granted[member.participant_id] = held
                continue
            granted |= {**grant.others, member.participant_id: grant.budget}
        await self.share({key: b for key, b in granted.items() if self._roster.members[key].budget != b})
