"""The streams that a worker's meetings have for others, by name; fulfils `StreamSource`.

    async with bridge.streams.open("programme:7") as stream: ...

`picture:PARTICIPANT` is what a participant sends, `programme:CONFERENCE` and `programme:CONFERENCE/sound`
what a meeting shows the outside, made while somebody holds it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mcu_bridge.conference import Conference
from mcu_bridge.programme import SOUND
from media.stream import Stream
from media.stream_source import NoSuchStream


class MeetingStreams:
    """`meeting` finds a conference by its id, `place` the conference of a participant."""

    def __init__(
        self,
        meeting: Callable[[str], Conference | None],
        place: Callable[[str], Conference | None],
    ) -> None:
        self._meeting = meeting
        self._place = place

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        """Raises NoSuchStream. A programme's pictures begin with a key frame within a moment."""
        kind, _, name = stream_id.partition(":")
        if kind == "picture":
            yield self._picture(stream_id, name)
            return
        conference = self._meeting(name.removesuffix(SOUND)) if kind == "programme" else None
        if conference is None:
            raise NoSuchStream(f"no meeting of this worker has a stream {stream_id!r}")
        programme = conference.programme
        async with programme.sound() if name.endswith(SOUND) else programme.pictures() as stream:
            yield stream

    def _picture(self, stream_id: str, participant_id: str) -> Stream:
        conference = self._place(participant_id)
        stream = None if conference is None else conference.own_picture(participant_id)
        if stream is None or stream.closed:
            raise NoSuchStream(f"no meeting of this worker has a stream {stream_id!r}")
        return stream
