"""What players find on the RTSP server: every camera of the node, for the accounts that may see its site.

rtsp://account:password@host:8554/camera/34020000001320000001
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from foundation.desks import CameraPlan, CameraSpec, RtspAccount
from media.stream import Stream
from media.stream_source import NoSuchStream, StreamSource, StreamUnavailable
from protocols.sip.digest import HashedPassword, Secret

_PATH = re.compile(r"camera[/:]([A-Za-z0-9_-]{1,64})\Z")


class CameraCatalogue:
    """A Catalogue of the plan's cameras; `streams` opens them, whichever worker has them."""

    def __init__(self, streams: StreamSource) -> None:
        self._streams = streams
        self._cameras: dict[str, CameraSpec] = {}
        self._accounts: dict[str, RtspAccount] = {}

    def set_plan(self, plan: CameraPlan) -> None:
        self._cameras = {camera.camera_id: camera for camera in plan.cameras}
        self._accounts = {account.username: account for account in plan.accounts}

    def secret_of(self, user: str) -> Secret | None:
        account = self._accounts.get(user)
        return None if account is None else HashedPassword({"MD5": account.ha1_md5})

    def may_play(self, path: str, user: str | None) -> bool:
        return self._find(path, user) is not None

    @asynccontextmanager
    async def open(self, path: str, user: str | None) -> AsyncIterator[Sequence[Stream]]:
        """Pictures, and sound where there is any. What an account may not see is not there."""
        camera = self._find(path, user)
        if camera is None:
            raise NoSuchStream(f"there is no {path!r}")
        async with AsyncExitStack() as held:
            name = f"camera:{camera.camera_id}"
            streams = [await held.enter_async_context(self._streams.open(name))]
            with suppress(StreamUnavailable):  # pictures alone, then
                streams.append(await held.enter_async_context(self._streams.open(f"{name}/sound")))
            if self._find(path, user) is None:
                raise NoSuchStream(f"there is no {path!r} any more")  # the plan changed while it opened
            yield streams

    def _find(self, path: str, user: str | None) -> CameraSpec | None:
        found = _PATH.match(path)
        camera = None if found is None else self._cameras.get(found[1])
        account = None if user is None else self._accounts.get(user)
        if camera is None or account is None or camera.site_id not in account.sites:
            return None
        return camera
