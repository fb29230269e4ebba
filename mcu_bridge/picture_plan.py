"""Who gets which picture, and from which encoder: one pure function.

Pass-through first, encode once. A full-screen site is forwarded untouched to every receiver that can
take it as it is; the others, and everyone who sees a mosaic, go to a class: one encode for each
(content, codec, size, frame rate, bit rate, NAL limit), however many receivers it has. A receiver
with little room goes to a lower class of its own and drags nobody.

A participant's second picture is a source and a receiver of its own, by the name `slides_of(participant)`:
slides are shown there as a full screen is, and in the main picture of who has no room for a second one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from foundation.desks import Staging, View, ViewMode
from mcu_bridge.cif_formats import FixedSize
from mcu_bridge.layouts import SLIDES_SPEAKER
from mcu_bridge.logo import Logo

MACROBLOCK = 16
_SLIDES = "slides:"


def slides_of(participant_id: str) -> str:
    """The name that a participant's second picture goes by."""
    return _SLIDES + participant_id


def owner(name: str) -> str:
    """Whose picture goes by a name, main or second."""
    return name.removeprefix(_SLIDES)


def is_slides(name: str) -> bool:
    return name.startswith(_SLIDES)


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What a receiver can take: codec, macroblocks a frame and a second, profiles, rate, NAL size.

    `profiles` are the H.264 profile_idc values its decoder knows; `max_nal` bounds a NAL unit in
    bytes for packetization mode 0, else None. With `always` it is given that rung and no other, from an
    encoder, whatever is shown: its size never changes. `sizes`: the only ones, of an H.261 or H.263 receiver.
    """

    codec: str
    bitrate_bps: int
    max_frame_size: int = 3600
    max_macroblock_rate: int = 108_000
    profiles: frozenset[int] = frozenset({66})
    max_nal: int | None = None
    always: Step | None = None
    sizes: tuple[FixedSize, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureSource:
    """A site's own picture as it comes in, measured: size 0 while unknown.

    `reordered`: shown in another order than it is coded in (B-frames); None while that is not known.
    """

    codec: str
    bitrate_bps: int
    width: int = 0
    height: int = 0
    frame_rate: float = 30.0
    profile: int = 66
    largest_nal: int = 0
    reordered: bool | None = False


@dataclass(frozen=True, slots=True)
class Content:
    """What is composed: the mosaic, or one site on the whole canvas.

    Other mosaics are the `page` that is shown just now, and the one `without` a site that asked not to
    see itself. `layout` is "" for the meeting's own. A `prompt` is a text and nothing else. `slides` is whose
    slides are large, with the site of the `full_screen` small beside them, else with who speaks.
    """

    full_screen: str | None = None
    page: bool = False
    layout: str = ""
    without: str | None = None
    prompt: str = ""
    slides: str | None = None

    def __str__(self) -> str:
        if self.prompt:
            return "prompt"
        if self.slides is not None:
            beside = "speaker" if self.full_screen is None else self.full_screen
            return f"{slides_of(self.slides)}+{beside}"
        if self.full_screen is not None:
            return self.full_screen if is_slides(self.full_screen) else f"full-screen:{self.full_screen}"
        layout = f" {self.layout}" if self.layout else ""
        if self.page:
            return f"page{layout}"
        return f"mosaic{layout}" if self.without is None else f"mosaic{layout} without {self.without}"


@dataclass(frozen=True, slots=True)
class EncoderClass:
    """The key of one encoder; `max_nal` None lets it write whole slices."""

    content: Content
    codec: str
    width: int
    height: int
    frame_rate: int
    bitrate_bps: int
    max_nal: int | None = None

    def __str__(self) -> str:
        nal = "" if self.max_nal is None else f" nal<={self.max_nal}"
        return (
            f"{self.content} {self.codec} {self.width}x{self.height}@{self.frame_rate} "
            f"{self.bitrate_bps // 1000}k{nal}"
        )


@dataclass(frozen=True, slots=True)
class PassThrough:
    """The receiver gets the frames of this participant as they came."""

    source: str

    def __str__(self) -> str:
        return f"pass-through:{self.source}"


@dataclass(frozen=True, slots=True)
class Feed:
    """What one receiver gets, and why it is not the better thing."""

    what: PassThrough | EncoderClass
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """One rung of the ladder: from `bitrate_bps` on, this size and frame rate look best."""

    bitrate_bps: int
    width: int
    height: int
    frame_rate: int

    @property
    def frame_size(self) -> int:
        """Macroblocks a frame."""
        return -(-self.width // MACROBLOCK) * -(-self.height // MACROBLOCK)


# Few rungs, so that sites share encoders.
LADDER = (
    Step(2_400_000, 1280, 720, 25),
    Step(1_600_000, 1280, 720, 25),
    Step(1_000_000, 848, 480, 25),
    Step(600_000, 640, 360, 25),
    Step(360_000, 640, 360, 15),
    Step(200_000, 320, 180, 15),
    Step(100_000, 320, 180, 10),
    Step(56_000, 176, 96, 8),
)

FIXED_LADDER = (
    Step(1_600_000, 704, 576, 25),
    Step(1_000_000, 704, 576, 15),
    Step(768_000, 352, 288, 25),
    Step(384_000, 352, 288, 25),
    Step(256_000, 352, 288, 15),
    Step(128_000, 176, 144, 15),
    Step(56_000, 176, 144, 10),
)
"""Of the sizes of H.261 and H.263."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """The size of composed pictures, how many are made a second, and the logo on each."""

    width: int = 1280
    height: int = 720
    frame_rate: int = 25
    logo: Logo | None = None

    @property
    def ladder(self) -> tuple[Step, ...]:
        """The rungs that it can fill; the lowest always."""
        fitting = [s for s in LADDER if s.width <= self.width and s.height <= self.height] or [LADDER[-1]]
        return tuple(replace(step, frame_rate=min(step.frame_rate, self.frame_rate)) for step in fitting)


_NOTHING_STAGED = Staging()


def plan(
    view: View,
    sources: Mapping[str, PictureSource],
    receivers: Mapping[str, PictureLimits],
    counterpart: str | None = None,
    ladder: Sequence[Step] = LADDER,
    expected: Collection[str] = (),
    staging: Staging = _NOTHING_STAGED,
) -> dict[str, Feed]:
    """The feed of every receiver, by participant id. A receiver with no room at all is left out.

    A site on the full screen does not see itself but its `counterpart`: whoever spoke or was shown
    before it. `ladder` has the rungs that encoders may use. For a full screen that is `expected` but has no
    picture yet, its card is shown; for any other the mosaic. `staging` has the exceptions: its `prompts`
    and `cameras_off` are no sources, whatever they send; its `slides` go to all others.
    """
    seen = {
        key: source
        for key, source in sources.items()
        if owner(key) not in staging.prompts and key not in staging.cameras_off
    }
    awaited = {*expected, *staging.cameras_off} - staging.prompts.keys()
    drawn_over = bool(staging.banner) and staging.banner_everywhere
    holder = running_slides(seen, staging)
    feeds = {} if holder is None else _second_pictures(holder, seen, receivers, ladder, staging)
    for participant_id, limits in receivers.items():
        if is_slides(participant_id):
            continue
        prompt = staging.prompts.get(participant_id)
        own = staging.views.get(participant_id, view)
        shown = own.participant_id if own.mode is ViewMode.FULL_SCREEN else None
        if shown is not None and shown in seen and shown == participant_id:
            shown = counterpart if counterpart != participant_id else None
        has_them = participant_id == holder or slides_of(participant_id) in feeds
        if prompt is not None:
            feed = _encoded(Content(prompt=prompt), limits, "waits outside", ladder)
        elif holder is not None and (not has_them or own.layout == SLIDES_SPEAKER.name):
            beside = shown if shown in seen else None
            feed = _composed_slides(Content(beside, slides=holder), limits, ladder)
        else:
            mosaic = _mosaic(participant_id, own, view, staging)
            feed = _feed(limits, shown, seen, ladder, awaited, mosaic=mosaic, drawn_over=drawn_over)
        if feed is not None:
            feeds[participant_id] = feed
    return _with_shared_slices(feeds)


def _mosaic(participant_id: str, own: View, view: View, staging: Staging) -> Content:
    """The mosaic of one whose view is its `own`, be it the meeting's."""
    layout = "" if own.layout == view.layout else own.layout
    if participant_id in staging.without_self and not own.page:
        return Content(without=participant_id, layout=layout)
    return Content(page=bool(own.page), layout=layout)


def running_slides(sources: Collection[str], staging: Staging) -> str | None:
    """Whose slides are shown: who was given the floor, and sends."""
    holder = staging.slides
    sends = holder is not None and slides_of(holder) in sources and holder not in staging.prompts
    return holder if sends else None


def _second_pictures(
    holder: str,
    sources: Mapping[str, PictureSource],
    receivers: Mapping[str, PictureLimits],
    ladder: Sequence[Step],
    staging: Staging,
) -> dict[str, Feed]:
    """The slides to everybody who takes a second picture; nobody is sent its own."""
    shown = slides_of(holder)
    feeds = {}
    for name, limits in receivers.items():
        if not is_slides(name) or name == shown or owner(name) in staging.prompts:
            continue
        obstacle = cannot_forward(sources[shown], limits)
        feed: Feed | None = Feed(PassThrough(shown), "slides")
        if obstacle is not None:
            feed = _encoded(Content(shown), limits, f"slides: {obstacle}", ladder)
        if feed is not None:
            feeds[name] = feed
    return feeds


def _composed_slides(content: Content, limits: PictureLimits, ladder: Sequence[Step]) -> Feed | None:
    if limits.always is not None:
        return Feed(_class(content, limits, limits.always), "programme, slides")
    return _encoded(content, limits, "slides in the main picture", ladder)


def _with_shared_slices(feeds: dict[str, Feed]) -> dict[str, Feed]:
    """Who takes whole slices takes short ones too: one encoder serves both, as short as one needs them."""
    shortest: dict[EncoderClass, int] = {}
    for feed in feeds.values():
        if isinstance(feed.what, EncoderClass) and feed.what.max_nal is not None:
            key = replace(feed.what, max_nal=None)
            shortest[key] = min(feed.what.max_nal, shortest.get(key, feed.what.max_nal))
    shared = {}
    for participant_id, feed in feeds.items():
        if isinstance(feed.what, EncoderClass):
            key = replace(feed.what, max_nal=None)
            feed = replace(feed, what=replace(key, max_nal=shortest.get(key)))
        shared[participant_id] = feed
    return shared


def _feed(
    limits: PictureLimits,
    shown: str | None,
    sources: Mapping[str, PictureSource],
    ladder: Sequence[Step],
    expected: Collection[str],
    *,
    mosaic: Content,
    drawn_over: bool,
) -> Feed | None:
    source = None if shown is None else sources.get(shown)
    if limits.always is not None:
        content = mosaic if source is None and shown not in expected else Content(shown)
        return Feed(_class(content, limits, limits.always), "programme")
    if shown is not None and source is None and shown in expected:
        return _encoded(Content(shown), limits, "no picture yet", ladder)
    if shown is None or source is None:
        return _encoded(mosaic, limits, "mosaic", ladder)
    obstacle = "the banner is drawn on every picture" if drawn_over else cannot_forward(source, limits)
    if obstacle is None:
        return Feed(PassThrough(shown), "full screen")
    return _encoded(Content(shown), limits, obstacle, ladder)


def _encoded(content: Content, limits: PictureLimits, reason: str, ladder: Sequence[Step]) -> Feed | None:
    """The highest rung that the receiver can take; None below the last one."""
    if limits.sizes:
        return _encoded_in_fixed_size(content, limits, reason)
    for step in ladder:
        fits = (
            step.bitrate_bps <= limits.bitrate_bps
            and step.frame_size <= limits.max_frame_size
            and step.frame_size * step.frame_rate <= limits.max_macroblock_rate
        )
        if fits:
            return Feed(_class(content, limits, step), reason)
    return None


def _encoded_in_fixed_size(content: Content, limits: PictureLimits, reason: str) -> Feed | None:
    for step in FIXED_LADDER:
        size = next((s for s in limits.sizes if (s.width, s.height) == (step.width, step.height)), None)
        if size is not None and step.bitrate_bps <= limits.bitrate_bps:
            fitting = replace(step, frame_rate=max(1, min(step.frame_rate, int(size.frame_rate))))
            return Feed(_class(content, limits, fitting), reason)
    return None


def _class(content: Content, limits: PictureLimits, step: Step) -> EncoderClass:
    return EncoderClass(
        content=content,
        codec=limits.codec,
        width=step.width,
        height=step.height,
        frame_rate=step.frame_rate,
        bitrate_bps=step.bitrate_bps,
        max_nal=limits.max_nal,
    )


def cannot_forward(source: PictureSource, limits: PictureLimits) -> str | None:
    """Why a source cannot be passed to a receiver untouched; None if it can."""
    if source.codec != limits.codec:
        return f"source is {source.codec}, receiver takes {limits.codec}"
    if source.width == 0:
        return "source's parameters are not known yet"
    if source.reordered is None:
        return "it is not known yet whether the source's frames are in the order of showing"
    if source.reordered:
        return "source's frames are not in the order of showing (B-frames)"
    if source.codec == "H264" and source.profile not in limits.profiles:
        return f"source's H.264 profile {source.profile} is above the receiver's"
    if limits.sizes and (source.width, source.height) not in {(s.width, s.height) for s in limits.sizes}:
        return f"receiver takes no pictures of {source.width}x{source.height}"
    frame_size = -(-source.width // MACROBLOCK) * -(-source.height // MACROBLOCK)
    if (
        frame_size > limits.max_frame_size
        or frame_size * source.frame_rate > limits.max_macroblock_rate * 1.05
    ):
        return f"source's {source.width}x{source.height} is above the receiver's level"
    if source.bitrate_bps > limits.bitrate_bps:
        return f"source's {source.bitrate_bps // 1000} kbit/s do not fit {limits.bitrate_bps // 1000}"
    if limits.max_nal is not None and source.largest_nal > limits.max_nal:
        return "receiver takes single NAL units only"
    return None


def contents(feeds: Iterable[Feed]) -> set[Content]:
    """The contents that need composing."""
    return {feed.what.content for feed in feeds if isinstance(feed.what, EncoderClass)}
