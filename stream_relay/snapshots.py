"""A camera's key frame as a JPEG."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import av.error
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from media.codec_worker import CodecPool, OldestInbox

JPEG_QUALITY = 85
AT_ONCE = 16
"""Pictures that are waiting for the decoder or in it; who comes then waits for a place."""
_MAX_PIXELS = 4096 * 2304
_HD_LINES = 720
_BT709, _BT601 = 1, (4, 5, 6)
"""matrix_coefficients, ITU-T H.273 table 4."""


class Undecodable(Exception):
    """The key frame cannot be decoded."""


@dataclass(frozen=True, slots=True)
class _Order:
    key_frame: bytes
    width: int
    done: asyncio.Future[bytes]


class SnapshotStudio:
    """Turns key frames into JPEGs in a thread of its own, one after the other."""

    def __init__(self) -> None:
        self._pool = CodecPool(1, "snapshot", nice=10)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._lane = self._pool.lane(
            _develop,
            inbox=OldestInbox[_Order](AT_ONCE),
            deliver=_hand_out,
            loop=asyncio.get_running_loop(),
            name="snapshots",
        )

    async def develop(self, key_frame: bytes, width: int) -> bytes:
        """A JPEG at most `width` pixels wide. Raises Undecodable."""
        async with self._places:
            order = _Order(key_frame, width, asyncio.get_running_loop().create_future())
            self._lane.put(order)
            return await order.done

    async def aclose(self) -> None:
        await self._pool.aclose()


def _develop(order: _Order) -> Iterator[tuple[_Order, bytes | Exception]]:
    try:
        yield order, jpeg_of(order.key_frame, order.width)
    except Undecodable as error:
        yield order, error
    except Exception as error:  # whoever waits must hear of it, whatever it was
        yield order, Undecodable(f"{type(error).__name__}: {error}")


def _hand_out(results: Sequence[tuple[_Order, bytes | Exception]]) -> None:
    for order, result in results:
        if order.done.done():
            continue  # who asked has gone
        if isinstance(result, bytes):
            order.done.set_result(result)
        else:
            order.done.set_exception(result)


def jpeg_of(key_frame: bytes, width: int) -> bytes:
    """An H.264 key frame with its parameter sets (Annex B), as a JPEG with square pixels. Raises
    Undecodable."""
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(_MAX_PIXELS)}
    try:
        # A decoder that reorders gives the picture only when it learns that nothing follows.
        frames = [*decoder.decode(av.Packet(key_frame)), *decoder.decode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise Undecodable(f"the camera's key frame cannot be decoded: {error}") from error
    if not frames:
        raise Undecodable("the camera's key frame holds no picture")
    frame = frames[0]
    aspect = float(decoder.sample_aspect_ratio or 1)
    shown = round(frame.width * aspect) if 0.2 < aspect < 5 else frame.width
    wide = min(width, shown)
    high = max(1, round(frame.height * wide / shown))
    picture: np.ndarray = _rgb(frame)
    if (wide, high) != (frame.width, frame.height):
        picture = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA)
    good, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not good:
        raise Undecodable(f"a picture of {wide}x{high} cannot be made a JPEG")
    return jpeg.tobytes()


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    """In OpenCV's order. Where a camera says nothing of its colours, HD is BT.709 and all else BT.601."""
    told = int(frame.colorspace)
    is_709 = told == _BT709 or (frame.height >= _HD_LINES and told not in _BT601)
    full_range = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
    converted = frame.reformat(
        format="bgr24",
        src_colorspace=Colorspace.ITU709 if is_709 else Colorspace.ITU601,
        src_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
    )
    return converted.to_ndarray()
