"""Who takes part in a conference, and the steps of their coming and going.

    await database.write(lambda connection: ParticipantRows(connection).add(participant))

Calls come and go many times a second: the steps are plain statements on a plain connection, made once.
`ConferenceRepository` offers them, and all that is only read, within its transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update

from foundation.schema import ParticipantLogRow, ParticipantRow

__all__ = ["LogLine", "Participant", "ParticipantEvent", "ParticipantRows", "ParticipantState"]


class ParticipantState(StrEnum):
    """Where a participant stands; LEFT and FAILED are final."""

    INVITED = "invited"
    CALLING = "calling"
    JOINED = "joined"
    LEFT = "left"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        return self in (ParticipantState.LEFT, ParticipantState.FAILED)


@dataclass(frozen=True, slots=True)
class Participant:
    """A site, or a guest when `site_id` is None. `address` is a URI (sip:, h323:, tel:, camera: ...).

    `description` is what picks the call up again after a crash: media, dialog and worker as plain JSON values
    (`msgspec.to_builtins(value, str_keys=True)` makes them, `msgspec.convert(..., strict=False)` reads them).
    """

    id: str
    conference_id: str
    name: str
    address: str
    created_at: datetime
    site_id: str | None = None
    state: ParticipantState = ParticipantState.INVITED
    description: dict[str, Any] | None = None
    joined_at: datetime | None = None
    left_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ParticipantEvent:
    """One line of a participant's log."""

    participant_id: str
    at: datetime
    event: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogLine:
    """What is to be noted of a participant."""

    event: str
    detail: dict[str, Any] = field(default_factory=dict)


_PEOPLE = cast(Table, ParticipantRow.__table__)
_LOG = cast(Table, ParticipantLogRow.__table__)
_COLUMNS = _PEOPLE.c
_FINAL = [state.value for state in ParticipantState if state.final]

_ADD = insert(_PEOPLE)
_NOTE = insert(_LOG)
_THIS = _COLUMNS.id == bindparam("whose")
_DESCRIBE = update(_PEOPLE).where(_THIS).values(description=bindparam("said"))
_UNFINISHED = update(_PEOPLE).where(_THIS, _COLUMNS.state.not_in(_FINAL))
_MOVE = _UNFINISHED.values(state=bindparam("becomes"))
_JOIN = _UNFINISHED.values(
    state=ParticipantState.JOINED.value, joined_at=func.coalesce(_COLUMNS.joined_at, bindparam("at"))
)
_FINISH = _UNFINISHED.values(state=bindparam("becomes"), left_at=bindparam("at"))
_LEAVE = (
    update(_PEOPLE)
    .where(_THIS, _COLUMNS.state == ParticipantState.JOINED.value)
    .values(state=ParticipantState.LEFT.value, left_at=bindparam("at"))
)
_IS_THERE = select(_COLUMNS.id).where(_THIS)


class ParticipantRows:
    """Works within the transaction of its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, participant: Participant) -> None:
        """Raises IntegrityError for one who is there already."""
        row = {
            "id": participant.id,
            "conference_id": participant.conference_id,
            "site_id": participant.site_id,
            "name": participant.name,
            "address": participant.address,
            "state": participant.state.value,
            "description": participant.description,
            "created_at": participant.created_at,
            "joined_at": participant.joined_at,
            "left_at": participant.left_at,
        }
        self._connection.execute(_ADD, row)

    def is_there(self, participant_id: str) -> bool:
        return self._connection.execute(_IS_THERE, {"whose": participant_id}).first() is not None

    def describe(self, participant_id: str, description: dict[str, Any] | None) -> bool:
        """Replace what recovery needs; False when the participant is gone."""
        return self._changed(_DESCRIBE, {"whose": participant_id, "said": description})

    def move(self, participant_id: str, state: ParticipantState, at: datetime) -> bool:
        """Set the state and its time, and log it; False when the participant is gone or already final."""
        values: dict[str, Any] = {"whose": participant_id}
        if state is ParticipantState.JOINED:
            moved = self._changed(_JOIN, values | {"at": at})
        elif state.final:
            moved = self._changed(_FINISH, values | {"becomes": state.value, "at": at})
        else:
            moved = self._changed(_MOVE, values | {"becomes": state.value})
        if moved:
            self.note(participant_id, at, [LogLine(state.value)])
        return moved

    def leave(self, participant_id: str, at: datetime, lines: Sequence[LogLine] = ()) -> bool:
        """Final: left for one who had joined, failed for the others; logged with what else is to be said.

        False when the participant is gone or already final.
        """
        values = {"whose": participant_id, "at": at}
        if self._changed(_LEAVE, values):
            state = ParticipantState.LEFT
        elif self._changed(_FINISH, values | {"becomes": ParticipantState.FAILED.value}):
            state = ParticipantState.FAILED
        else:
            return False
        self.note(participant_id, at, [LogLine(state.value), *lines])
        return True

    def note(self, participant_id: str, at: datetime, lines: Sequence[LogLine]) -> None:
        """Add to the log, in order."""
        rows = [
            {"participant_id": participant_id, "at": at, "event": line.event, "detail": line.detail}
            for line in lines
        ]
        self._connection.execute(_NOTE, rows)

    def _changed(self, statement: Any, values: dict[str, Any]) -> bool:
        return self._connection.execute(statement, values).rowcount > 0
