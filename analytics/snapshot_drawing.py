"""What was flagged, drawn into the snapshot when somebody asks for it: the file itself stays clean."""

from __future__ import annotations

import cv2
import numpy as np

from foundation.repositories.violations import Violation

_BOX, _ZONE, _WRITING = (40, 40, 230), (0, 200, 255), (255, 255, 255)
"""Blue, green, red."""
_JPEG_QUALITY = 88


def with_boxes(jpeg: bytes, violation: Violation) -> bytes:
    """The snapshot with the rule's zone and what stood in it. Raises ValueError for what is no picture."""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("the snapshot is no picture")
    height, width = picture.shape[:2]
    thick = max(1, round(width / 640))
    zone = violation.rule.get("zone") or []
    if zone:
        corners = np.array([[round(x * (width - 1)), round(y * (height - 1))] for x, y in zone], np.int32)
        cv2.polylines(picture, [corners], True, _ZONE, thick, cv2.LINE_AA)
    for label, score, x1, y1, x2, y2 in violation.boxes:
        first = (round(x1 * (width - 1)), round(y1 * (height - 1)))
        last = (round(x2 * (width - 1)), round(y2 * (height - 1)))
        cv2.rectangle(picture, first, last, _BOX, 2 * thick)
        _write(picture, f"{label} {score:.2f}", first, thick)
    _, drawn = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return drawn.tobytes()


def _write(picture: cv2.typing.MatLike, words: str, corner: tuple[int, int], thick: int) -> None:
    """White on the box's colour, above its corner, or below where the picture ends."""
    words = words.encode("ascii", "replace").decode()  # OpenCV has no other letters
    scale = 0.5 * thick
    (width, height), below = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    x = min(corner[0], max(picture.shape[1] - width, 0))
    y = corner[1] - below if corner[1] - below - height >= 0 else corner[1] + height + below
    cv2.rectangle(picture, (x, y - height - below), (x + width, y + below), _BOX, cv2.FILLED)
    cv2.putText(picture, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, _WRITING, thick, cv2.LINE_AA)
