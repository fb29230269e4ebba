"""The media processes of this node, and which meeting is on which."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from foundation.desks import ConferenceDesk, Refusal, RefusalKind


class MediaWorkers:
    """Places meetings on workers: the ready one with the fewest meetings, by name where equal."""

    def __init__(self, desks: Mapping[str, ConferenceDesk]) -> None:
        self._desks = dict(desks)
        self._ready: dict[str, int] = {}
        self._placed: dict[str, str] = {}
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def ready(self) -> Mapping[str, int]:
        """Process ids of the workers that answer, by name."""
        return dict(self._ready)

    @property
    def names(self) -> tuple[str, ...]:
        """All workers, ready or not, in the order in which they are numbered."""
        return tuple(self._desks)

    def named(self, worker: str) -> ConferenceDesk:
        """The desk of this very worker. Raises Refusal while it does not answer."""
        if worker not in self._ready:
            raise Refusal(RefusalKind.WORKER_LOST, f"media worker {worker} is not ready", retry_after=2)
        return self._desks[worker]

    def asked(self, worker: str) -> ConferenceDesk:
        """The desk of this worker, ready or not: to hear from it what it holds."""
        return self._desks[worker]

    def await_all(self, seconds: float) -> None:
        """Main is back: until every worker has told what it holds, or for so long, `settled` waits."""
        self._settled.clear()
        asyncio.get_running_loop().call_later(seconds, self._settled.set)

    async def settled(self) -> None:
        """Meetings without a place may be given one: none is held by a worker that was not heard yet."""
        await self._settled.wait()

    def became_ready(self, worker: str, pid: int) -> None:
        self._ready[worker] = pid
        if len(self._ready) == len(self._desks):
            self._settled.set()

    def found(self, conference_id: str, worker: str) -> bool:
        """A worker says that it holds this meeting; False when the meeting is on another one by now."""
        return self._placed.setdefault(conference_id, worker) == worker

    def became_lost(self, worker: str) -> list[str]:
        """The meetings that were on it and now have no place."""
        self._ready.pop(worker, None)
        orphans = [conference for conference, place in self._placed.items() if place == worker]
        for conference_id in orphans:
            del self._placed[conference_id]
        return orphans

    def place(self, conference_id: str) -> ConferenceDesk:
        """The desk of the meeting's worker, choosing one for a meeting without a place."""
        if conference_id not in self._placed:
            if not self._ready:
                raise Refusal(RefusalKind.WORKER_LOST, "no media worker is ready", retry_after=2)
            load = dict.fromkeys(self._ready, 0)
            for place in self._placed.values():
                if place in load:
                    load[place] += 1
            self._placed[conference_id] = min(load, key=lambda worker: (load[worker], worker))
        return self._desks[self._placed[conference_id]]

    def worker_of(self, conference_id: str) -> str | None:
        return self._placed.get(conference_id)

    def forget(self, conference_id: str) -> None:
        self._placed.pop(conference_id, None)
