"""The tables, as SQLAlchemy sees them. Repositories use them; nothing else does.

Times are aware UTC datetimes (`UtcDateTime`), rates are IP-level bits a second, ids are 32 hex digits from
`new_id()` except a site's, which is a slug people write ("guangxi-nanning"). Secrets of others are sealed
(`foundation.secrets`) by their repositories. The migrations in foundation/migrations make the same tables; a
test compares both.
"""

from __future__ import annotations

from foundation.schema.analytics import RuleRow, ViolationLogRow, ViolationRow
from foundation.schema.base import Base, UtcDateTime, new_id
from foundation.schema.broadcasts import BroadcastRow
from foundation.schema.cameras import CameraRow
from foundation.schema.conferences import (
    ConferenceRow,
    ParticipantLogRow,
    ParticipantRow,
    RollCallEntryRow,
    RollCallRow,
)
from foundation.schema.recordings import RecordingOrderRow, RecordingRow
from foundation.schema.schedules import MeetingPlanRow, ScheduleRow
from foundation.schema.service import AuditRow, JobRow
from foundation.schema.sites import LinkRow, SipAccountRow, SipBindingRow, SiteAddressRow, SiteRow
from foundation.schema.users import GuestPassRow, SessionRow, UserGrantRow, UserRow

__all__ = [
    "AuditRow",
    "Base",
    "BroadcastRow",
    "CameraRow",
    "ConferenceRow",
    "GuestPassRow",
    "JobRow",
    "LinkRow",
    "MeetingPlanRow",
    "ParticipantLogRow",
    "ParticipantRow",
    "RecordingOrderRow",
    "RecordingRow",
    "RollCallEntryRow",
    "RollCallRow",
    "RuleRow",
    "ScheduleRow",
    "SessionRow",
    "SipAccountRow",
    "SipBindingRow",
    "SiteAddressRow",
    "SiteRow",
    "UserGrantRow",
    "UserRow",
    "UtcDateTime",
    "ViolationLogRow",
    "ViolationRow",
    "new_id",
]
