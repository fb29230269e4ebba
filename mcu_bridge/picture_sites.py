"""Who sends and who is sent pictures, as a meeting's pictures see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mcu_bridge.outlet import PictureReceiver
from mcu_bridge.picture_plan import PictureLimits, PictureSource
from media.packet import Packet
from media.stream import Stream


class PictureSender(Protocol):
    """Who may send a picture: a participant's leg, or a stream."""

    @property
    def participant_id(self) -> str: ...

    @property
    def stream(self) -> Stream | None:
        """What the site sends; None when it sends no picture."""
        ...

    @property
    def source(self) -> PictureSource | None:
        """The site's own picture as measured; None while nothing comes."""
        ...

    @property
    def still(self) -> Callable[[], Packet | None] | None:
        """Gives a fresh key frame of a source that makes none on request; None for one that does."""
        ...


class PictureViewer(PictureReceiver, Protocol):
    """Who may be sent a picture: a participant's leg, or the programme."""

    @property
    def participant_id(self) -> str: ...

    @property
    def limits(self) -> PictureLimits | None:
        """What the site can be sent; None when it takes no picture."""
        ...


class PictureSite(PictureSender, PictureViewer, Protocol):
    """A participant's picture leg, as the meeting's pictures see it."""
