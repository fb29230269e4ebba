"""What the parts of the main process build on, and what of signalling its routes need."""

from __future__ import annotations

from dataclasses import dataclass

from config.settings import Settings
from foundation.authorisation import Authorisation
from foundation.clock import Clock
from foundation.database import Database
from foundation.event_bus import EventBus
from foundation.passwords import Passwords
from foundation.telemetry import Telemetry
from orchestrator.site_book import SiteBook
from signaling.camera_calls import CameraCalls, CameraRows
from signaling.meetings import Meetings
from signaling.planned_calls import PlannedCalls
from signaling.schedules import Scheduler
from signaling.sip_service import SipService
from signaling.viewings import Viewings


@dataclass(frozen=True, slots=True)
class MainParts:
    """Made first, closed last; shared by every part."""

    settings: Settings
    database: Database
    clock: Clock
    bus: EventBus
    book: SiteBook
    passwords: Passwords
    telemetry: Telemetry

    @property
    def authorisation(self) -> Authorisation:
        return self.book.authorisation


@dataclass(frozen=True, slots=True)
class Signalling:
    """Who talks to whom: meetings, calls, cameras in meetings and on pages, what is scheduled."""

    meetings: Meetings
    sip: SipService
    cameras: CameraCalls
    viewings: Viewings
    known_cameras: CameraRows
    scheduler: Scheduler
    planned_calls: PlannedCalls
