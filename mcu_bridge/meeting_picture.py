"""A meeting's pictures: the plan carried out.

`replan` asks the pure plan who gets what and moves receivers between outlets; screens, encoders, tile
decoders and pass-through outlets exist exactly as long as somebody is fed by them. A receiver keeps
its old feed until the new one's key frame, so an outlet without receivers is closed a moment later,
by `tidy`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass

from foundation.desks import EncoderReport, Staging, View, ViewMode
from mcu_bridge.captions import CaptionPainter
from mcu_bridge.outlet import Outlet
from mcu_bridge.picture_plan import (
    Canvas,
    Content,
    EncoderClass,
    Feed,
    PassThrough,
    is_slides,
    plan,
    running_slides,
    slides_of,
)
from mcu_bridge.picture_sites import PictureSender, PictureSite, PictureViewer
from mcu_bridge.screen import Screen
from mcu_bridge.seating import Seating
from mcu_bridge.tile_decoder import TileDecoder
from media.codec_worker import CodecPool
from protocols.payloads.h264_fmtp import smallest_level

PATIENCE = 54_000
"""1/90000 s that a new screen waits for its pictures: 0.6 s."""
SMALL_FROM = 4
"""With so many tiles each is small enough to be decoded without the loop filter."""


@dataclass(slots=True)
class _Forwarding:
    """A site's own stream on its way to receivers untouched."""

    outlet: Outlet
    task: asyncio.Task[None]


class MeetingPicture:
    """See the module's head. All calls belong to the event loop."""

    def __init__(
        self,
        pool: CodecPool,
        captions: CaptionPainter | None,
        canvas: Canvas,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._pool = pool
        self._captions = captions
        self._canvas = canvas
        self._loop = loop
        self._expected: set[str] = set()
        self._senders: dict[str, PictureSender] = {}
        self._viewers: dict[str, PictureViewer] = {}
        self._seating = Seating(self._senders)
        self._counterpart: str | None = None
        self._feeds: dict[str, Feed] = {}
        self._screens: dict[Content, Screen] = {}
        self._decoders: dict[str, TileDecoder] = {}
        self._forwardings: dict[str, _Forwarding] = {}
        self._closing: set[asyncio.Task[None]] = set()

    # --- who is there -----------------------------------------------------------------------------

    def add(self, participant_id: str, name: str, *, expected: bool = False) -> None:
        """A participant with a name to show; its picture leg may come with `connect`. One whose picture is
        `expected` has the full screen that it was given also while it has none."""
        self._seating.names[participant_id] = name
        if expected:
            self._expected.add(participant_id)

    def hide(self, participant_id: str) -> None:
        """One who only looks on has no tile."""
        self._seating.names.pop(participant_id, None)

    def connect(self, site: PictureSite) -> None:
        self._senders[site.participant_id] = site
        self._viewers[site.participant_id] = site

    def connect_sender(self, sender: PictureSender) -> None:
        """One that sends and is sent nothing."""
        self._senders[sender.participant_id] = sender

    def connect_viewer(self, viewer: PictureViewer) -> None:
        """One that is nobody's tile and sends nothing."""
        self._viewers[viewer.participant_id] = viewer

    def leg(self, participant_id: str) -> PictureSender | None:
        """The picture leg that is connected for a participant."""
        return self._senders.get(participant_id)

    def remove(self, participant_id: str) -> None:
        """The participant is gone: its tile, its decoder, its feed."""
        self._seating.names.pop(participant_id, None)
        self._expected.discard(participant_id)
        self.disconnect(participant_id)
        self.disconnect(slides_of(participant_id))
        if self._counterpart == participant_id:
            self._counterpart = None

    def disconnect(self, participant_id: str) -> None:
        """The participant's picture leg is gone or will be another one."""
        self._senders.pop(participant_id, None)
        viewer = self._viewers.pop(participant_id, None)
        self._feeds.pop(participant_id, None)
        if viewer is not None:
            for outlet in self._outlets():
                outlet.detach(viewer)
        self._close_decoder(participant_id)
        self._close_forwarding(participant_id)
        for screen in self._screens.values():
            screen.composer.forget(participant_id)

    @property
    def wanted(self) -> set[str]:
        """Whose pictures somebody is shown, or will be soon."""
        read = {key for key, s in self._senders.items() if s.stream is not None and s.stream.readers}
        return {*read, *self._decoders, *self._forwardings, *self._seating.staging.next_shown}

    @property
    def slides(self) -> str | None:
        """Whose slides are shown just now."""
        sources = {key for key, sender in self._senders.items() if sender.source is not None}
        return running_slides(sources, self._seating.staging)

    def clear_tile(self, participant_id: str) -> None:
        """The site's picture stopped: its tile shows the name only, until it comes again."""
        self._close_decoder(participant_id)
        for screen in self._screens.values():
            screen.composer.clear(participant_id)

    def set_view(self, view: View) -> None:
        before = self._seating.view
        if view.mode is ViewMode.FULL_SCREEN and before.participant_id not in (None, view.participant_id):
            self._counterpart = before.participant_id
        self._seating.view = view

    def set_staging(self, staging: Staging) -> None:
        before, self._seating.staging = self._seating.staging, staging
        for screen in self._screens.values():
            screen.composer.set_banner(_banner(staging, screen.content))
        for participant_id in staging.next_shown:
            if participant_id not in before.next_shown:
                self._prepare(participant_id)
        for participant_id in (staging.cameras_off | staging.prompts.keys()) - (
            before.cameras_off | before.prompts.keys()
        ):
            self.clear_tile(participant_id)

    def _prepare(self, participant_id: str) -> None:
        """Soon to be shown: whoever is given its stream begins with the key frame asked for now."""
        sender = self._senders.get(participant_id)
        if sender is not None and sender.stream is not None:
            sender.stream.request_keyframe()

    def set_title(self, title: str) -> None:
        """What a meeting shows while nobody is in it."""
        self._seating.title = title

    def set_speakers(self, speakers: Sequence[str]) -> None:
        self._seating.speakers = tuple(speakers)
        for screen in self._screens.values():
            screen.composer.highlight(speakers[0] if speakers else None)

    # --- the plan ---------------------------------------------------------------------------------

    def replan(self, now: float, ceiling: int = 0) -> None:
        """Carry out the plan for things as they are; cheap when nothing changed. `now` in seconds."""
        sources = {key: s.source for key, s in self._senders.items()}
        receivers = {key: s.limits for key, s in self._viewers.items()}
        feeds = plan(
            self._seating.view,
            {key: source for key, source in sources.items() if source is not None},
            {key: limits for key, limits in receivers.items() if limits is not None},
            self._seating.beside(self._seating.view.participant_id, self._counterpart),
            self._canvas.ladder[ceiling:] or self._canvas.ladder[-1:],
            self._expected,
            self._seating.staging,
        )
        for participant_id, feed in feeds.items():
            old = self._feeds.get(participant_id)
            if old is None or old.what != feed.what:
                self._move(self._viewers[participant_id], feed)
        for participant_id in self._feeds.keys() - feeds.keys():
            self._stop_feeding(participant_id)
        self._feeds = feeds
        self._arrange(now)

    def _move(self, viewer: PictureViewer, feed: Feed) -> None:
        outlet = self._outlet(feed.what)
        for other in self._outlets():
            if other is not outlet and other is not viewer.outlet:
                other.detach(viewer)
        if outlet is not None:
            outlet.attach(viewer)

    def _stop_feeding(self, participant_id: str) -> None:
        viewer = self._viewers.get(participant_id)
        if viewer is not None:
            for outlet in self._outlets():
                outlet.detach(viewer)

    def _outlet(self, what: PassThrough | EncoderClass) -> Outlet | None:
        if isinstance(what, PassThrough):
            return self._forward(what.source)
        screen = self._screens.get(what.content)
        if screen is None:
            width, height = self._canvas.width, self._canvas.height
            screen = Screen(
                what.content,
                width,
                height,
                pool=self._pool,
                loop=self._loop,
                captions=self._captions,
                logo=self._canvas.logo,
            )
            screen.composer.highlight(next(iter(self._seating.speakers), None))
            screen.composer.set_banner(_banner(self._seating.staging, what.content))
            self._screens[what.content] = screen
        return screen.encoder(what, encoder_profile(what)).outlet

    def _forward(self, participant_id: str) -> Outlet | None:
        if participant_id not in self._forwardings:
            sender = self._senders[participant_id]
            if sender.stream is None:
                return None
            outlet = Outlet(sender.stream, sender.still)
            task = self._loop.create_task(outlet.run(), name=f"forward {participant_id}")
            self._forwardings[participant_id] = _Forwarding(outlet, task)
        return self._forwardings[participant_id].outlet

    def _outlets(self) -> list[Outlet]:
        encoded = [e.outlet for screen in self._screens.values() for e in screen.encoders]
        return [*encoded, *(forwarding.outlet for forwarding in self._forwardings.values())]

    # --- who sits where ---------------------------------------------------------------------------

    def _arrange(self, now: float) -> None:
        """Tiles of every screen, and the decoders that they need: a picture first, then its place."""
        scenes = [(screen, *self._seating.scene(content, now)) for content, screen in self._screens.items()]
        wanted: dict[str, list[Screen]] = {}
        small = False
        for screen, _layout, tiles in scenes:
            small = small or (_has_tiles(screen.content) and len(tiles) >= SMALL_FROM)
            for site in tiles:
                if site is not None:
                    screen.composer.name(site, self._seating.caption(screen.content, site))
                    if site not in self._seating.staging.cameras_off:
                        wanted.setdefault(site, []).append(screen)
        if self._screens:
            for site in self._seating.staging.next_shown:
                wanted.setdefault(site, [])
        for participant_id, screens in wanted.items():
            in_tiles = all(_has_tiles(screen.content) for screen in screens)
            self._decode(participant_id, screens, small=small and in_tiles)
        for screen, layout, tiles in scenes:
            screen.arrange(layout, tiles)
        for participant_id in self._decoders.keys() - wanted.keys():
            self._close_decoder(participant_id)

    def _decode(self, participant_id: str, screens: Sequence[Screen], *, small: bool) -> None:
        site = self._senders.get(participant_id)
        if site is None or site.source is None or site.stream is None:
            return
        decoder = self._decoders.get(participant_id)
        if decoder is None:
            decoder = TileDecoder(participant_id, site.stream, self._pool, self._loop)
            self._decoders[participant_id] = decoder
        decoder.use([screen.composer for screen in screens], small=small)

    # --- time -------------------------------------------------------------------------------------

    def tick(self, time: int) -> None:
        """A frame's time (1/90000 s): compose and encode what somebody sees."""
        for screen in self._screens.values():
            if self._ready(screen, time):
                screen.tick(time)

    def _ready(self, screen: Screen, time: int) -> bool:
        """A new screen waits a moment for the pictures that are to be on it, so that none flashes a card."""
        if screen.began is None:
            screen.began = time
        if screen.shown or time - screen.began >= PATIENCE:
            screen.shown = True
            return True
        awaited = (site for site in screen.composer.sites if self._has_picture(site))
        screen.shown = all(screen.composer.has_picture(site) for site in awaited)
        return screen.shown

    def _has_picture(self, site: str) -> bool:
        sender = self._senders.get(site)
        off = self._seating.staging.cameras_off
        return sender is not None and sender.source is not None and site not in off

    def tidy(self) -> None:
        """Close what nobody is fed by any more."""
        used = {feed.what for feed in self._feeds.values()}
        for content, screen in tuple(self._screens.items()):
            for encoder in screen.encoders:
                if encoder.key not in used and encoder.outlet.receivers == 0:
                    self._close(screen.stop(encoder.key))
            if not screen.encoders:
                del self._screens[content]
                self._seating.forget(content)
                self._close(screen.aclose())
        for participant_id, forwarding in tuple(self._forwardings.items()):
            if PassThrough(participant_id) not in used and forwarding.outlet.receivers == 0:
                self._close_forwarding(participant_id)

    # --- what is measured -------------------------------------------------------------------------

    def feed_of(self, participant_id: str) -> tuple[str, int, int]:
        """What a participant is sent, and its width and height; 0 while unknown."""
        feed = self._feeds.get(participant_id)
        if feed is None:
            return "", 0, 0
        if isinstance(feed.what, EncoderClass):
            return str(feed.what), feed.what.width, feed.what.height
        site = self._senders.get(feed.what.source)
        source = None if site is None else site.source
        return str(feed.what), source.width if source else 0, source.height if source else 0

    @property
    def encoders(self) -> tuple[EncoderReport, ...]:
        """The running encoders and why they run."""
        reports = []
        for screen in self._screens.values():
            for encoder in screen.encoders:
                reasons = sorted({f.reason for f in self._feeds.values() if f.what == encoder.key})
                reports.append(
                    EncoderReport(
                        key=str(encoder.key),
                        codec=encoder.key.codec,
                        width=encoder.key.width,
                        height=encoder.key.height,
                        bitrate_bps=encoder.key.bitrate_bps,
                        receivers=encoder.outlet.receivers,
                        reason="; ".join(reasons) or "closing",
                    )
                )
        return tuple(reports)

    # --- endings ----------------------------------------------------------------------------------

    def _close_decoder(self, participant_id: str) -> None:
        decoder = self._decoders.pop(participant_id, None)
        if decoder is not None:
            decoder.stop()
            self._close(self._retire(decoder))

    async def _retire(self, decoder: TileDecoder) -> None:
        """What its thread still showed while it was closed is taken off again."""
        await decoder.aclose()
        if decoder.site not in self._decoders:
            for screen in self._screens.values():
                screen.composer.clear(decoder.site)

    def _close_forwarding(self, participant_id: str) -> None:
        forwarding = self._forwardings.pop(participant_id, None)
        if forwarding is None:
            return
        forwarding.task.cancel()
        self._closing.add(forwarding.task)
        forwarding.task.add_done_callback(self._closing.discard)
        for viewer in self._viewers.values():
            forwarding.outlet.detach(viewer)
        gone = PassThrough(participant_id)  # whoever is fed by it is to be moved, even to its next stream
        self._feeds = {key: feed for key, feed in self._feeds.items() if feed.what != gone}

    def _close(self, closing: Coroutine[None, None, None]) -> None:
        """Threads take a moment to leave a codec; nothing waits for them but `aclose`."""
        task = self._loop.create_task(closing, name="close pictures")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        for participant_id in {*self._seating.names, *self._senders, *self._viewers}:
            self.remove(participant_id)
        for screen in tuple(self._screens.values()):
            self._close(screen.aclose())
        self._screens.clear()
        await asyncio.gather(*self._closing, return_exceptions=True)


def _has_tiles(content: Content) -> bool:
    return content.full_screen is None and content.slides is None


def _banner(staging: Staging, content: Content) -> str:
    """Where it would hide what is written on slides, it is left to the main picture."""
    alone = content.slides is None and content.full_screen is not None and is_slides(content.full_screen)
    return "" if content.prompt or alone else staging.banner


def encoder_profile(key: EncoderClass) -> str:
    """Constrained baseline at the lowest level that carries the class: every receiver decodes it."""
    level = smallest_level(key.width, key.height, key.frame_rate, key.bitrate_bps) or 31
    return f"42e0{level:02x}"
