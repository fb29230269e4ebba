"""Where streams come from: whoever has streams opens them by name, and only while somebody wants them.

    async with source.open("camera:34020000001320000001") as stream:
        async with stream.reader() as reader: ...

Names on a node:
    camera:ID, camera:ID/sound            a camera's pictures as it sends them, its sound
    picture:PARTICIPANT                   what a participant sends
    programme:CONFERENCE, programme:CONFERENCE/sound    what a meeting shows the outside: H.264 and Opus

To hold the context is the demand: a camera is pulled, a programme encoded, while anybody is inside. A
stream that ended (its format changed, its worker died) is opened anew by whoever wants to go on.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from media.stream import Stream


class StreamUnavailable(Exception):
    """The stream is known, and cannot be had now; the text says who erred, in words for an operator."""


class NoSuchStream(StreamUnavailable):
    """Nobody here has a stream of that name."""


class StreamSource(Protocol):
    """Whatever has streams: a worker's cameras, its meetings, another process."""

    def open(self, stream_id: str) -> AbstractAsyncContextManager[Stream]:
        """The stream, held while the context is. Entering waits for a source on demand; it raises
        NoSuchStream or StreamUnavailable. No sound may be known by now: then NoSuchStream, too."""
        ...
