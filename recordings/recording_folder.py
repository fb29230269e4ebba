"""Where the files lie, and that nothing outside is ever touched."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path, PurePosixPath

from foundation.repositories.recordings import RecordingKind

_UNSAFE = re.compile(r"[^A-Za-z0-9-]")
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class OutsideFolder(ValueError):
    """A path that does not name a file in the folder of recordings."""


class RecordingFolder:
    """Names files kind/subject/day/time-id.mp4 below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def new_path(self, kind: RecordingKind, subject: str, started_at: datetime, recording_id: str) -> str:
        """The path of a new file, relative to the root. Any subject is safe: other signs are spelt in hex."""
        named = _UNSAFE.sub(lambda sign: f"_{ord(sign[0]):x}_", subject)[:100] or "_"
        return f"{kind}/{named}/{started_at:%Y-%m-%d}/{started_at:%H%M%S}-{recording_id}.mp4"

    def resolve(self, path: str) -> Path:
        """The file of a row. Raises OutsideFolder for one that leads out, also over a symbolic link."""
        parts = PurePosixPath(path).parts
        if not parts or not all(_PART.fullmatch(part) for part in parts):
            raise OutsideFolder(f"{path!r} is not a path in the folder of recordings")
        root = self.root.resolve()
        file = root.joinpath(*parts)
        if file.resolve() != file:
            raise OutsideFolder(f"{path!r} leads out of the folder of recordings over a symbolic link")
        return file
