"""What of each file is init and what are segments, remembered for files that are closed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice

import structlog

from foundation.repositories.recordings import Recording, RecordingState
from protocols.isobmff.box import MalformedBox
from recordings.disk import Disk
from recordings.playlist import FileIndex, ListedFile, read_index
from recordings.recording_folder import OutsideFolder, RecordingFolder

REMEMBERED = 3_000
"""Closed files: two days of one camera, about 10 MB."""
AT_ONCE = 100

_log = structlog.get_logger("index_cache")


class IndexCache:
    def __init__(self, folder: RecordingFolder, disk: Disk) -> None:
        self._folder = folder
        self._disk = disk
        self._closed: OrderedDict[str, FileIndex] = OrderedDict()

    async def of(self, recordings: Iterable[Recording]) -> list[ListedFile]:
        """The files as a playlist lists them; one that cannot be read is passed over."""
        found: list[ListedFile] = []
        waiting = iter([one for one in recordings if one.state is not RecordingState.LOST])
        while some := list(islice(waiting, AT_ONCE)):
            unknown = [one for one in some if one.id not in self._closed]
            read = await self._disk.run(self._read, unknown) if unknown else {}
            for one in some:
                index = self._closed.get(one.id) or read.get(one.id)
                if index is None:
                    continue
                if one.state is not RecordingState.OPEN:
                    self._remember(one.id, index)
                found.append(ListedFile(f"{one.id}/file.mp4", one.started_at, index))
        return found

    def _read(self, recordings: list[Recording]) -> dict[str, FileIndex]:
        read: dict[str, FileIndex] = {}
        for one in recordings:
            try:
                read[one.id] = read_index(self._folder.resolve(one.path))
            except (OSError, OutsideFolder, MalformedBox) as error:
                _log.warning("recording passed over", recording=one.id, detail=str(error))
        return read

    def _remember(self, recording_id: str, index: FileIndex) -> None:
        self._closed[recording_id] = index
        self._closed.move_to_end(recording_id)
        if len(self._closed) > REMEMBERED:
            self._closed.popitem(last=False)
