"""A SIP call of a participant as its row keeps it, for the process that takes it up again."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from protocols.sip.digest import Login
from signaling.sip_endpoint import SipEndpoint
from signaling.sip_events import CallSnapshot
from signaling.sip_line import SdpSession, SipLine

CSEQ_LEAP = 1000
"""Requests of ours (probes, INFO) whose numbers no row has; a peer minds a lower number, not a gap."""


@dataclass(frozen=True, slots=True)
class DialogRecord:
    """A call at rest in its participant's row; `at` is the wall clock's seconds when it was written.

    `trunk` names the one it goes over, whose server may want our login again; `picture_bps` is what its
    picture is kept to.
    """

    call: CallSnapshot
    at: float
    trunk: str | None = None
    picture_bps: int | None = None

    @classmethod
    def of(cls, line: SipLine) -> DialogRecord:
        return cls(line.call.snapshot(), time.time(), line.trunk, line.session.picture_bps)

    @classmethod
    def planned(cls, call: CallSnapshot) -> DialogRecord:
        """Of a call whose answer is about to be sent."""
        return cls(call, time.time())

    def to_json(self) -> dict[str, Any]:
        encoded: dict[str, Any] = msgspec.to_builtins(self)
        return encoded

    def revived(
        self, endpoint: SipEndpoint, participant_id: str, now: float, login: Login | None = None
    ) -> SipLine:
        """The line of the call, which lives in `endpoint` from now on."""
        snapshot = self.call
        left = snapshot.session_left
        if left is not None:
            left -= max(now - self.at, 0.0)
        dialog = replace(snapshot.dialog, local_cseq=snapshot.dialog.local_cseq + CSEQ_LEAP)
        call = endpoint.restore(replace(snapshot, dialog=dialog, session_left=left), login)
        session = SdpSession.continuing(snapshot.local_sdp)
        session.picture_bps = self.picture_bps
        return SipLine(call, session, participant_id, self.trunk)
