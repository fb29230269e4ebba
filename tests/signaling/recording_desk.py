"""A ConferenceDesk that does nothing but remember, refuse where told, and wait where told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from foundation.desks import (
    Budget,
    ConferenceReport,
    ConferenceSpec,
    Dialled,
    HeldConference,
    MediaDescription,
    ParticipantSpec,
    Refusal,
    RefusalKind,
    Staging,
    View,
)


class RecordingDesk:
    """`failures` holds what a method raises, by its name; `meanwhile` runs inside it, before it answers."""

    def __init__(self, name: str, ours: MediaDescription) -> None:
        self.name = name
        self.calls: list[tuple[str, object]] = []
        self.failures: dict[str, BaseException] = {}
        self.meanwhile: dict[str, Callable[[], Awaitable[object]]] = {}
        self.conferences: dict[str, ConferenceSpec] = {}
        self.participants: dict[str, ParticipantSpec] = {}
        self.resumed: dict[str, MediaDescription] = {}
        self.streams: dict[str, str] = {}
        self.known: set[str] = set()
        self.dialled: dict[str, Dialled] = {}
        self._ours = ours

    async def _called(self, method: str, subject: object) -> None:
        self.calls.append((method, subject))
        await asyncio.sleep(0)
        if method in self.meanwhile:
            await self.meanwhile.pop(method)()
        if method in self.failures:
            raise self.failures[method]

    def named(self, method: str) -> list[object]:
        """What a method was called with."""
        return [subject for name, subject in self.calls if name == method]

    def _known(self, participant_id: str) -> None:
        if participant_id not in self.participants:
            raise Refusal(RefusalKind.UNKNOWN_PARTICIPANT, f"no participant {participant_id}")

    def _take(self, participant: ParticipantSpec) -> None:
        if participant.conference_id not in self.conferences:
            raise Refusal(RefusalKind.UNKNOWN_CONFERENCE, f"no conference {participant.conference_id}")
        self.participants[participant.participant_id] = participant

    async def holdings(self) -> tuple[HeldConference, ...]:
        return tuple(
            HeldConference(
                conference_id,
                tuple(p for p, spec in self.participants.items() if spec.conference_id == conference_id),
            )
            for conference_id in self.conferences
        )

    async def open(self, spec: ConferenceSpec) -> None:
        await self._called("open", spec)
        self.conferences[spec.conference_id] = spec

    async def close(self, conference_id: str) -> None:
        await self._called("close", conference_id)
        self.conferences.pop(conference_id, None)
        for participant_id, spec in tuple(self.participants.items()):
            if spec.conference_id == conference_id:
                del self.participants[participant_id]

    async def admit(
        self, participant: ParticipantSpec, offer: MediaDescription, resume: MediaDescription | None = None
    ) -> MediaDescription:
        await self._called("admit", participant.participant_id)
        self._take(participant)
        if resume is not None:
            self.resumed[participant.participant_id] = resume
        return self._ours

    async def admit_stream(self, participant: ParticipantSpec, stream_id: str, known: bool = False) -> None:
        await self._called("admit_stream", participant.participant_id)
        self._take(participant)
        self.streams[participant.participant_id] = stream_id
        self.known |= {participant.participant_id} if known else set()

    async def offer(self, participant: ParticipantSpec, dialled: Dialled) -> MediaDescription:
        await self._called("offer", participant.participant_id)
        self.dialled[participant.participant_id] = dialled
        self._take(participant)
        return self._ours

    async def answered(self, participant_id: str, answer: MediaDescription) -> MediaDescription:
        await self._called("answered", participant_id)
        self._known(participant_id)
        return self._ours

    async def resume_dialled(
        self, participant: ParticipantSpec, ours: MediaDescription, theirs: MediaDescription
    ) -> None:
        await self._called("resume_dialled", participant.participant_id)
        self._take(participant)
        self.resumed[participant.participant_id] = ours

    async def renegotiate(self, participant_id: str, offer: MediaDescription) -> MediaDescription:
        await self._called("renegotiate", participant_id)
        self._known(participant_id)
        return self._ours

    async def set_budget(self, participant_id: str, budget: Budget) -> None:
        await self._called("set_budget", (participant_id, budget))
        self._known(participant_id)

    async def set_view(self, conference_id: str, view: View) -> None:
        await self._called("set_view", view)

    async def set_staging(self, conference_id: str, view: View, staging: Staging) -> None:
        await self._called("set_staging", (view, staging))

    async def set_muted(self, participant_id: str, muted: bool) -> None:
        await self._called("set_muted", (participant_id, muted))
        self._known(participant_id)

    async def announcements(self) -> tuple[str, ...]:
        await self._called("announcements", None)
        return ("chime", "演习")

    async def announce(self, conference_id: str, sound: str, participant_id: str | None) -> None:
        await self._called("announce", (conference_id, sound, participant_id))
        if participant_id is not None:
            self._known(participant_id)

    async def stop_announcing(self, conference_id: str) -> None:
        await self._called("stop_announcing", conference_id)

    async def refresh_picture(self, participant_id: str) -> None:
        await self._called("refresh_picture", participant_id)

    async def drop(self, participant_id: str) -> None:
        await self._called("drop", participant_id)
        self.participants.pop(participant_id, None)

    async def report(self, conference_id: str) -> ConferenceReport:
        return ConferenceReport(conference_id, 1)


class RecordingLine:
    """A participant's signalling: what was asked of it, and how it answers."""

    def __init__(self, *, alive: bool = True, renewed: MediaDescription | None = None) -> None:
        self.alive = alive
        self.renewed = renewed
        self.hung_up: list[str] = []
        self.probes = 0
        self.hanging: asyncio.Event | None = None
        self.peer_host: str | None = None

    async def hang_up(self, reason: str) -> None:
        self.hung_up.append(reason)

    async def probe(self) -> bool:
        self.probes += 1
        if self.hanging is not None:
            await self.hanging.wait()
        return self.alive

    async def ask_fast_update(self) -> None:
        return None

    async def renew_media(self, ours: MediaDescription) -> MediaDescription | None:
        return self.renewed
