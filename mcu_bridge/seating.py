"""Who sits in which cell of what is composed.

    seating = Seating(senders)                            who sends pictures, by participant id: its owner's
seating.names[participant_id] = name; seating.view = ...; seating.staging = ...; seating.speakers = ...
seating.scene(content, now) -> (Layout, tiles)        a site or None for each cell
seating.caption(content, site) -> str                 what is written into a site's tile
seating.beside(participant_id) -> str | None          whom a site on the full screen sees
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping

from foundation.desks import Staging, View
from mcu_bridge.layouts import FULL, LAYOUTS, SLIDES_SPEAKER, SPEAKER, Layout, TileOrder, layout_for
from mcu_bridge.picture_plan import Content, is_slides, slides_of
from mcu_bridge.picture_sites import PictureSender

_TITLE = "the meeting's title"
"""Sits in the only tile while nobody is there."""


class Seating:
    """See the module's head."""

    def __init__(self, senders: Mapping[str, PictureSender]) -> None:
        self.view = View()
        self.staging = Staging()
        self.title = ""
        self.names: dict[str, str] = {}
        self.speakers: tuple[str, ...] = ()
        self._senders = senders
        self._orders: dict[Content, TileOrder] = {}

    def caption(self, content: Content, site: str) -> str:
        if content.prompt:
            return content.prompt
        return self.title if site == _TITLE else self.names.get(site, "")

    def scene(self, content: Content, now: float) -> tuple[Layout, tuple[str | None, ...]]:
        """How a screen's cells lie, and who sits in them."""
        if content.prompt:
            return FULL, (content.prompt,)
        if content.slides is not None:
            return SLIDES_SPEAKER, (slides_of(content.slides), self._beside_slides(content, now))
        if content.full_screen is not None:
            return FULL, (content.full_screen,)
        return self._mosaic(content, now)

    def _beside_slides(self, content: Content, now: float) -> str | None:
        """Who speaks, while nobody did who has the slides, while that one shows no face whoever does."""
        if content.full_screen is not None:
            return content.full_screen
        seen = self._seen(hidden=self.staging.prompts.keys())
        present = sorted(seen, key=lambda site: site != content.slides)
        order = self._orders.setdefault(content, TileOrder(FULL))
        (site,) = order.assign(present, [s for s in self.speakers if s in present], now)
        return site

    def _seen(self, hidden: Collection[str | None]) -> list[str]:
        """Whose cameras can be shown."""
        unseen = {*hidden, *self.staging.cameras_off}
        return [
            key
            for key, site in self._senders.items()
            if site.source is not None and key not in unseen and not is_slides(key)
        ]

    def _mosaic(self, content: Content, now: float) -> tuple[Layout, tuple[str | None, ...]]:
        """Those who send a picture first; who speaks unseen takes a silent site's cell."""
        if content.page:
            page = [key for key in self._page if key in self.names]
            layout = self._layout(content, len(page))
            return layout, tuple(page[: len(layout.cells)])
        hidden = {content.without, *self.staging.prompts}
        senders = self._seen(hidden)
        others = [key for key in self.names if key not in senders and key not in hidden]
        present = [*senders, *others]
        if not present:
            return FULL, (_TITLE,)
        layout = self._layout(content, len(present))
        order = self._orders.get(content)
        if order is None:  # a mosaic of one's own begins as the others see it
            order = copy.deepcopy(self._orders.get(Content()) or TileOrder(layout))
            self._orders[content] = order
        if layout is not order.layout:
            order.use(layout)
        return layout, order.assign(present, [s for s in self.speakers if s in present], now)

    def _layout(self, content: Content, count: int) -> Layout:
        """As the view says; one that a view of another version names is taken for none."""
        name = content.layout or self.view.layout
        if name in LAYOUTS:
            return LAYOUTS[name]
        return layout_for(count, speaker=name == SPEAKER)

    @property
    def _page(self) -> tuple[str, ...]:
        """The page that somebody sees; there is one at a time."""
        views = (self.view, *self.staging.views.values())
        return next((view.page for view in views if view.page), ())

    def beside(self, shown: str | None, before: str | None) -> str | None:
        """Whom the site that is `shown` sees: who spoke beside it, was shown `before` it, or is there."""
        seen = self._seen({shown, *self.staging.prompts})
        return next((key for key in (*self.speakers, before) if key in seen), next(iter(seen), None))

    def forget(self, content: Content) -> None:
        """Nobody sees it any more; the mosaic of all keeps its order for the next time."""
        if content.without is not None or content.slides is not None:
            self._orders.pop(content, None)
