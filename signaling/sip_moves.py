"""A SIP peer that is brought into a meeting in the middle of its call, by a re-INVITE of ours."""

from __future__ import annotations

from foundation.database import DatabaseError
from foundation.desk_client import DeskFailed
from foundation.desks import MediaDescription, Refusal, RefusalKind
from signaling.meeting import Access, Caller, Meeting
from signaling.meetings import Meetings, UnknownMeeting, UnknownMember
from signaling.sip_line import SipLine


async def bring_in(
    meetings: Meetings, line: SipLine, meeting: Meeting, caller: Caller, theirs: MediaDescription
) -> None:
    """Make the peer a participant of that meeting; `theirs` is what it last said of its media.

    The meeting's worker answers that description, and its answer is our offer: the same codecs, payload
    types and order of sections, other ports. Until the peer has agreed it stays where it was, and then `line`
    is the new participant's. Raises NotAdmitted, Refusal, UnknownMeeting: nothing has changed then.
    """
    member, ours = await meetings.join(meeting.conference_id, caller, theirs, Access.DIALLED_IN, line)
    participant_id = member.participant_id
    kept_to, line.session.picture_bps = line.session.picture_bps, None  # that was the other meeting's wish
    try:
        answer = await line.renew_media(ours)
        if answer is None:
            raise Refusal(RefusalKind.NOT_RESUMABLE, "the terminal refused the other meeting's media")
        await meetings.renegotiate(participant_id, answer)
    except (Refusal, UnknownMember, UnknownMeeting, DatabaseError, DeskFailed) as error:
        line.session.picture_bps = kept_to
        await meetings.leave(participant_id, str(error), hang_up=False)
        if isinstance(error, UnknownMember):
            raise Refusal(RefusalKind.UNKNOWN_PARTICIPANT, str(error)) from None
        raise
    left, line.participant_id = line.participant_id, participant_id
    if left:
        await meetings.leave(left, f"moved to meeting {meeting.number}", hang_up=False)
    if line.call.ended is not None:  # while it moved, so that nobody has noticed who it is now
        await meetings.leave(participant_id, line.call.ended.cause.value, hang_up=False)
