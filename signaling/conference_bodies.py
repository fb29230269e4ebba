"""What is sent to the routes of conferences, and what they answer."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from foundation.http_edge import Wanted


class ViewOut(BaseModel):
    mode: Literal["mosaic", "full-screen"]
    participant_id: str | None = None


class ConferenceOut(BaseModel):
    id: str
    number: str
    title: str
    state: str
    host_site_id: str
    picture: ViewOut
    participant_count: int
    has_pin: bool
    created_at: datetime
    ended_at: datetime | None = None


class NewConference(Wanted):
    title: str = Field(min_length=1, max_length=200)
    number: str | None = Field(default=None, description="3 to 12 digits; a free one is chosen when absent")
    host_site_id: str | None = None
    pin: str | None = Field(default=None, pattern=r"^\d{4,12}$")


class BudgetBody(Wanted):
    to_site_bps: int = Field(ge=100_000, le=1_000_000_000)
    from_site_bps: int = Field(ge=100_000, le=1_000_000_000)


class BudgetOut(BaseModel):
    """A camera is sent nothing."""

    to_site_bps: int
    from_site_bps: int


class ParticipantOut(BaseModel):
    id: str
    name: str
    site_id: str | None
    address: str
    network: str | None
    state: str
    muted: bool
    budget: BudgetOut | None
    joined_at: datetime | None
    left_at: datetime | None
    reason: str | None


class NewParticipant(Wanted):
    address: str = Field(description="sip:room@host, tel:+867715861234 (or the bare number), or camera:ID")
    site_id: str | None = Field(default=None, description="whose terminal it is; a camera's site is known")
    name: str | None = Field(default=None, max_length=200)


class ParticipantPatch(Wanted):
    muted: bool | None = None
    budget: BudgetBody | None = None


class BrowserOffer(Wanted):
    sdp: str = Field(max_length=100_000)
    participant_id: str | None = None


class BrowserAnswer(BaseModel):
    participant_id: str
    sdp: str
