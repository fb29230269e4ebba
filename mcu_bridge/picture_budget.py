"""What a participant's budget leaves for its main picture and its slides, each way, as bit rates of its legs.

room = PictureBudget(budget)                          kept up to date: `budget`, what the peer's b= lines say
room.give_slides(to_site=True, from_site=False)       slides go this way beside the main picture
room.share_out(pictures, sound, now)                  tells the legs what they may send and ask for
room.described(ours, sound) -> MediaDescription       our own b= lines
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from foundation.desks import Budget, MediaDescription, MediaSection, SectionKind
from mcu_bridge.negotiation import with_bit_rate
from mcu_bridge.picture_leg import PictureLeg
from mcu_bridge.rates import (
    FLOOR,
    INCOMING_SHARE,
    picture_bps,
    picture_shares,
    picture_wire_bps,
    sound_wire_bps,
)
from media.sound_codecs import SoundCoding

_IP_UDP = 28


class PictureBudget:
    """See the module's head. Limits of the peer are bit/s with headers, None where it names none."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.peer_limits: dict[SectionKind, int | None] = {}
        self.peer_session_limit: int | None = None
        self._slides_to_site = self._slides_from_site = False

    def give_slides(self, *, to_site: bool, from_site: bool) -> bool:
        """Whether this is another state than before."""
        before = self._slides_to_site, self._slides_from_site
        self._slides_to_site, self._slides_from_site = to_site, from_site
        return before != (to_site, from_site)

    def share_out(
        self, pictures: Mapping[SectionKind, PictureLeg], sound: SoundCoding | None, now: float
    ) -> None:
        """Both pictures and sound together hold to the budget."""
        if not pictures:
            return
        overhead = next(iter(pictures.values())).transport.overhead
        sound_bps = sound_wire_bps(sound, overhead)
        room = picture_bps(self.budget.to_site_bps, sound_bps, overhead)
        if self.peer_session_limit is not None:
            room = min(room, picture_bps(self.peer_session_limit, sound_bps, overhead))
        most = {kind: self._most(kind, overhead) if kind in pictures else 0 for kind in SectionKind}
        outgoing = picture_shares(
            room,
            slides=self._slides_to_site,
            picture_most=most[SectionKind.VIDEO],
            slides_most=most[SectionKind.SLIDES],
        )
        incoming = picture_shares(
            int(picture_bps(self.budget.from_site_bps, sound_bps, overhead) * INCOMING_SHARE),
            slides=self._slides_from_site,
            picture_most=None if SectionKind.VIDEO in pictures else 0,
        )
        for kind, leg in pictures.items():
            share, wish = outgoing.picture, incoming.picture
            if kind is SectionKind.SLIDES:
                share, wish = outgoing.slides, incoming.slides or FLOOR  # without the floor it sends none
            if leg.terms.browser:  # REMB speaks of all that a page sends
                wish = incoming.picture + incoming.slides
            leg.set_bitrate(share, share / max(outgoing.picture + outgoing.slides, 1))
            leg.limit_incoming(wish, now)

    def _most(self, kind: SectionKind, overhead: int) -> int | None:
        limit = self.peer_limits.get(kind)
        return None if limit is None else picture_bps(limit, 0, overhead)

    def described(self, ours: MediaDescription, sound: SoundCoding | None) -> MediaDescription:
        """What we take: the whole budget for the session, of it the pictures' parts for the pictures."""
        from_site = self.budget.from_site_bps
        room = int(picture_wire_bps(from_site, sound_wire_bps(sound, _IP_UDP)) * INCOMING_SHARE)
        both = picture_shares(room, slides=True)
        most = {
            SectionKind.VIDEO: both.picture if self._slides_from_site else room,
            SectionKind.SLIDES: both.slides or room,
        }
        sections = tuple(_bounded(s, most[s.kind]) if s.kind in most and s.port else s for s in ours.sections)
        return replace(ours, sections=sections, bandwidth_bps=from_site)


def _bounded(section: MediaSection, most: int) -> MediaSection:
    codecs = tuple(with_bit_rate(codec, most) for codec in section.codecs)
    return replace(section, bandwidth_bps=most, codecs=codecs)
