"""All streams of a node as one StreamSource: nobody need know in which process one lives.

    streams = NodeStreams([LinkClient(path) for path in links], [cameras, meetings])
    async with streams.open("camera:34020000001320000001") as stream: ...

Sources of this very process come first, then the process that had the stream the last time; one that did not
answer when it was asked last comes at the end, so that a stopped process delays one opening and not all. A
source that has the stream but cannot give it now ends the search with its words; one that does not know it,
or is not there at all, is passed over. Sound lives beside its pictures: who has those is asked first, and
knows whether there is some.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from media.link import LinkClient, ProcessUnreachable
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamSource

SOUND = "/sound"
REMEMBERED = 1024
"""Streams of which it is known who had them last."""


def home_worker(camera_id: str, workers: int) -> int:
    """The number of the media worker that pulls a camera; 0 where media is inside main."""
    return zlib.crc32(camera_id.encode()) % max(workers, 1)


class JoinedSources:
    """Several sources as one; the first that knows a stream gives it."""

    def __init__(self, sources: Sequence[StreamSource]) -> None:
        self._sources = tuple(sources)
        self._last: OrderedDict[str, StreamSource] = OrderedDict()
        self._silent: set[StreamSource] = set()

    @asynccontextmanager
    async def open(self, stream_id: str) -> AsyncIterator[Stream]:
        """As StreamSource says. Raises ProcessUnreachable when no source has the stream, but one could not
        be asked."""
        unreachable: ProcessUnreachable | None = None
        async with AsyncExitStack() as held:
            for source in self._order(stream_id):
                try:
                    stream = await held.enter_async_context(source.open(stream_id))
                except NoSuchStream:
                    self._silent.discard(source)
                    self._last.pop(stream_id, None)
                    if source is self._of_pictures(stream_id):
                        raise
                except ProcessUnreachable as error:
                    self._silent.add(source)
                    unreachable = error
                else:
                    self._silent.discard(source)
                    self._remember(stream_id, source)
                    yield stream
                    return
        raise unreachable or NoSuchStream(f"there is no stream {stream_id!r} on this node")

    def _order(self, stream_id: str) -> list[StreamSource]:
        last = self._last.get(stream_id) or self._of_pictures(stream_id)
        return sorted(self._sources, key=lambda source: (source is not last, source in self._silent))

    def _of_pictures(self, stream_id: str) -> StreamSource | None:
        """Who had the pictures that this sound is of; None for what is no sound."""
        pictures = stream_id.removesuffix(SOUND)
        return None if pictures == stream_id else self._last.get(pictures)

    def _remember(self, stream_id: str, source: StreamSource) -> None:
        self._last[stream_id] = source
        self._last.move_to_end(stream_id)
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)


class NodeStreams(JoinedSources):
    """`local` sources of this process, and what the node's other processes serve behind `links`."""

    def __init__(self, links: Sequence[LinkClient], local: Sequence[StreamSource] = ()) -> None:
        super().__init__((*local, *links))
