"""A participant's signalling when it speaks SIP: before the call, while it rings, and once it is up."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from dataclasses import replace

import structlog

from foundation.desks import MediaDescription, SectionKind
from signaling.media_description import read_sdp, write_sdp
from signaling.sip_call import Call
from signaling.sip_events import CallOver, ReinviteRefused

log = structlog.get_logger(__name__)

FAST_UPDATE_TYPE = "application/media_control+xml"
FAST_UPDATE = (
    b'<?xml version="1.0" encoding="utf-8"?><media_control><vc_primitive><to_encoder>'
    b"<picture_fast_update/></to_encoder></vc_primitive></media_control>"
)
RENEW_SECONDS = 4.0
_ORIGIN = re.compile(rb"^o=\S+ (\d+) (\d+) ", re.MULTILINE)


class SdpSession:
    """Our side's o= line over a dialog's life: one id, a version that grows (RFC 3264 8)."""

    def __init__(self) -> None:
        self._session_id = secrets.randbits(48)
        self._version = 0
        self.picture_bps: int | None = None
        """What the main picture's b= is kept to, below what a description has: `PictureFlows`' to set."""

    @classmethod
    def continuing(cls, sdp: bytes | None) -> SdpSession:
        """Go on after what an earlier process said last; `sdp` is ours, so its o= line is as we write it."""
        session = cls()
        said = None if sdp is None else _ORIGIN.search(sdp)
        if said is not None:
            session._session_id, session._version = int(said[1]), int(said[2])
        return session

    def write(self, description: MediaDescription) -> bytes:
        self._version += 1
        bounded = with_picture_bound(description, self.picture_bps)
        return write_sdp(bounded, session_id=self._session_id, version=self._version)


def with_picture_bound(description: MediaDescription, most: int | None) -> MediaDescription:
    """The description with no more than so many bit/s in the b= of its main picture."""
    if most is None:
        return description
    return replace(
        description,
        sections=tuple(
            replace(section, bandwidth_bps=min(section.bandwidth_bps or most, most))
            if section.kind is SectionKind.VIDEO and section.port
            else section
            for section in description.sections
        ),
    )


class SipLine:
    """A participant's SIP dialog. `participant_id` is another one once the peer was moved elsewhere."""

    def __init__(
        self, call: Call, session: SdpSession, participant_id: str, trunk: str | None = None
    ) -> None:
        self.call = call
        self.trunk = trunk
        self.session = session
        self.participant_id = participant_id
        self.first_referral: int | None = None
        """CSeq of the dialog's first REFER, whose NOTIFYs need no id."""

    @property
    def peer_host(self) -> str | None:
        return self.call.flow.host

    async def hang_up(self, reason: str) -> None:
        await self.call.bye(reason)

    async def probe(self) -> bool:
        return await self.call.probe()

    async def ask_fast_update(self) -> None:
        try:
            await self.call.info(FAST_UPDATE_TYPE, FAST_UPDATE)
        except CallOver:
            return

    async def renew_media(self, ours: MediaDescription) -> MediaDescription | None:
        try:
            async with asyncio.timeout(RENEW_SECONDS):
                answer = await self.call.reinvite(self.session.write(ours))
        except (ReinviteRefused, CallOver, TimeoutError) as error:
            log.warning("new_media_refused", why=str(error))
            return None
        return None if answer is None else read_sdp(answer)


class PendingLine:
    """A caller between its INVITE and our answer: nothing can be asked of it yet."""

    peer_host: str | None = None

    async def hang_up(self, reason: str) -> None:
        return None

    async def probe(self) -> bool:
        return True

    async def ask_fast_update(self) -> None:
        return None

    async def renew_media(self, ours: MediaDescription) -> MediaDescription | None:
        return None


class RingingLine(PendingLine):
    """Somebody whom we call and who has not answered: hanging up is giving up, at every terminal."""

    def __init__(self) -> None:
        self.given_up = False
        self._cancel: Callable[[], None] | None = None

    def rings(self, cancel: Callable[[], None]) -> None:
        """One terminal is called now."""
        self._cancel = cancel
        if self.given_up:
            cancel()

    async def hang_up(self, reason: str) -> None:
        self.given_up = True
        if self._cancel is not None:
            self._cancel()
