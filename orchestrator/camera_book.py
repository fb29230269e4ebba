"""The cameras as main knows them: their rows as a plan to every media worker, and how each camera does.

book = CameraBook(database, authorisation, realm, desks)     desks: worker's name -> CameraDesk, in order
book.run(scope)
await book.worker_ready("media-0")                           whenever it is there (again)
await book.changed()                                         cameras, SIP accounts or sites were edited
book.status["34020000001320000001"].state;  book.desk_of("34020000001320000001")
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from foundation.authorisation import Authorisation
from foundation.database import Database, DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import CameraDesk, CameraPlan, CameraSpec, CameraStatus, Refusal, RtspAccount
from foundation.repositories.cameras import CameraRepository
from foundation.repositories.sites import SiteRepository
from foundation.tasks import TaskScope
from media.node_streams import home_worker

LOOK = 2.0
ANSWER_WITHIN = 5.0
RESCAN = 30
"""Every so many looks the rows are read again, whatever was announced."""

log = structlog.get_logger(__name__)


class CameraBook:
    """See the module's head. `realm` is that of the node's SIP accounts, which play over RTSP too."""

    def __init__(
        self,
        database: Database,
        authorisation: Authorisation,
        realm: str,
        desks: Mapping[str, CameraDesk],
        *,
        look: float = LOOK,
    ) -> None:
        self._database = database
        self._authorisation = authorisation
        self._realm = realm
        self._desks = dict(desks)
        self._look = look
        self._locks = {name: asyncio.Lock() for name in desks}
        self._told: dict[str, CameraPlan] = {}
        self._ready: set[str] = set()
        self._statuses: dict[str, dict[str, CameraStatus]] = {}
        self._known: dict[str, CameraStatus] = {}

    @property
    def status(self) -> Mapping[str, CameraStatus]:
        """What workers said at the last look, by camera; a camera whose worker is away is not in it."""
        return self._known

    def measured_bps(self, camera_id: str) -> int:
        """What a camera sends just now; 0 when nobody knows."""
        status = self._known.get(camera_id)
        return 0 if status is None else status.bitrate_bps

    def desk_of(self, camera_id: str) -> CameraDesk:
        """The desk of the worker that pulls this camera."""
        return tuple(self._desks.values())[home_worker(camera_id, len(self._desks))]

    def run(self, scope: TaskScope) -> None:
        scope.supervise("cameras", self._follow)

    async def worker_ready(self, worker: str) -> None:
        """A worker that has just begun knows nothing."""
        self._ready.add(worker)
        self._told.pop(worker, None)
        await self._tell(worker)

    async def changed(self) -> None:
        """Rows were written. Returns once the workers have the new plan, or did not answer."""
        await asyncio.gather(*(self._tell(worker) for worker in tuple(self._ready)))

    async def plan(self) -> CameraPlan:
        """What the rows say now: every camera that is on, every account and the sites it may see."""
        async with self._database.reading() as tx:
            cameras = await CameraRepository(tx).all()
            accounts = await SiteRepository(tx).sip_accounts()
        tree = self._authorisation.tree
        return CameraPlan(
            cameras=tuple(
                CameraSpec(
                    camera.id,
                    camera.site_id,
                    camera.name,
                    camera.url,
                    camera.username,
                    camera.password,
                    camera.udp,
                )
                for camera in cameras
                if camera.enabled
            ),
            accounts=tuple(
                RtspAccount(account.username, account.ha1_md5, frozenset(tree.subtree(account.site_id)))
                for account in accounts
                if account.realm == self._realm and account.site_id in tree
            ),
            realm=self._realm,
        )

    async def _tell(self, worker: str) -> None:
        """The newest plan, unless the worker has it; a failure is mended at the next look."""
        async with self._locks[worker]:
            try:
                plan = await self.plan()
                if self._told.get(worker) == plan:
                    return
                self._told.pop(worker, None)
                async with asyncio.timeout(ANSWER_WITHIN):
                    await self._desks[worker].set_plan(plan)
                self._told[worker] = plan
            except (Refusal, DeskFailed, DatabaseError, TimeoutError) as error:
                log.warning("cameras_not_told", worker=worker, reason=str(error) or type(error).__name__)

    async def _follow(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(self._look)
            looks += 1
            await asyncio.gather(*(self._ask(worker) for worker in tuple(self._ready)))
            statuses = (one for said in self._statuses.values() for one in said.items())
            self._known = dict(statuses)
            late = {worker for worker in self._ready if worker not in self._told}
            for worker in self._ready if looks % RESCAN == 0 else late:
                await self._tell(worker)

    async def _ask(self, worker: str) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                said = await self._desks[worker].status()
            self._statuses[worker] = {status.camera_id: status for status in said}
        except (Refusal, DeskFailed, TimeoutError):
            self._statuses.pop(worker, None)
