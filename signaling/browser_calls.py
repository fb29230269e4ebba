"""Browsers in meetings: an offer over HTTP, an answer back, and nothing of signalling after that.

A page that loses its transport offers again under the same participant id and keeps its place; one
that stays silent is let go by meeting control, since only its ICE consent says that it lives.
"""

from __future__ import annotations

from foundation.desks import MediaDescription, Refusal, RefusalKind
from signaling.media_description import read_sdp, write_sdp
from signaling.meeting import Access, Caller, MemberState
from signaling.meetings import Meetings

BROWSER = "browser:"
"""What the address of a page begins with; the rest is its owner, the user's name."""


class BrowserLine:
    """A page has no signalling channel of its own to hang up; it reads its state from the events."""

    peer_host: str | None = None

    async def hang_up(self, reason: str) -> None:
        return None

    async def probe(self) -> bool:
        return False  # consent checks are its signs of life, and they have stopped

    async def ask_fast_update(self) -> None:
        return None  # browsers always take RTCP feedback

    async def renew_media(self, ours: MediaDescription) -> MediaDescription | None:
        return None  # the page is the one who offers


class BrowserCalls:
    """Offers of pages; `network` is where their media goes."""

    def __init__(self, meetings: Meetings, network: str | None) -> None:
        self._meetings = meetings
        self._network = network

    def knows(self, participant_id: str) -> bool:
        """Whether the participant is still in, so that it may offer again."""
        return self._meetings.state(participant_id) is not MemberState.LEFT

    def owner(self, participant_id: str) -> str | None:
        member = self._meetings.member(participant_id)
        if member.access is not Access.BROWSER:
            return None
        return member.caller.address.removeprefix(BROWSER)  # the line itself may be of an earlier process

    async def join(
        self, conference_id: str, *, owner: str, name: str, site_id: str | None, sdp: bytes
    ) -> tuple[str, bytes]:
        """Participant id and answer. Raises Refusal, NotAdmitted, UnknownMeeting."""
        if self._network is None:
            raise Refusal(RefusalKind.NO_PORT, "no network of this node takes browsers")
        caller = Caller(name, site_id, self._network, f"{BROWSER}{owner}")
        offer = read_sdp(sdp)
        member, answer = await self._meetings.join(
            conference_id, caller, offer, Access.BROWSER, BrowserLine()
        )
        return member.participant_id, write_sdp(answer)

    async def offer_again(self, participant_id: str, sdp: bytes) -> bytes:
        """The answer to the same participant's next offer: an ICE restart, or a whole new transport."""
        return write_sdp(await self._meetings.renegotiate(participant_id, read_sdp(sdp)))
