"""A part of the picture, as a polygon of points in 0..1 from the upper left corner.

    zone = Zone(((0.1, 0.5), (0.9, 0.5), (0.9, 1.0), (0.1, 1.0)))     # ZoneFault: what is wrong with it
    zone.contains(box.bottom_centre)

Borders belong to it: who is cut off by the lower edge of the picture stands at y = 1. A zone without points
is the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Point = tuple[float, float]

FEWEST_POINTS, MOST_POINTS = 3, 32
SMALLEST_AREA = 1e-4
"""Of the picture's; what is smaller was not meant."""
_NEAR = 1e-9


class ZoneFault(ValueError):
    """These points make no zone; the text says why."""


@dataclass(frozen=True, slots=True)
class Zone:
    """Raises ZoneFault for points that make no simple polygon inside the picture."""

    points: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        if self.points:
            _check(self.points)

    @classmethod
    def of(cls, points: Sequence[Sequence[float]]) -> Zone:
        """From points as rows and requests have them."""
        return cls(tuple((float(x), float(y)) for x, y in points))

    def contains(self, point: Point) -> bool:
        """Whether the point lies inside or on the border."""
        if not self.points:
            return True
        x, y = point
        inside = False
        for start, end in _edges(self.points):
            if _on_segment(point, start, end):
                return True
            if (start[1] > y) != (end[1] > y):
                crossing = start[0] + (y - start[1]) / (end[1] - start[1]) * (end[0] - start[0])
                inside ^= x < crossing
        return inside


def _check(points: Sequence[Point]) -> None:
    if not FEWEST_POINTS <= len(points) <= MOST_POINTS:
        raise ZoneFault(f"a zone has {FEWEST_POINTS} to {MOST_POINTS} points, not {len(points)}")
    for number, (x, y) in enumerate(points, 1):
        if not (0 <= x <= 1 and 0 <= y <= 1):  # NaN is not, either
            raise ZoneFault(f"point {number} is outside the picture: {x:g}, {y:g}")
    if len(set(points)) != len(points):
        raise ZoneFault("a point is there twice")
    edges = tuple(_edges(points))
    for first, (a, b) in enumerate(edges):
        for second in range(first + 1, len(edges)):
            neighbours = second == first + 1 or (first == 0 and second == len(edges) - 1)
            if _meet(a, b, *edges[second], neighbours=neighbours):
                raise ZoneFault(f"the side from point {first + 1} meets the one from point {second + 1}")
    if area(points) < SMALLEST_AREA:
        raise ZoneFault("the zone has no area to speak of")


def area(points: Sequence[Point]) -> float:
    """Of a simple polygon, as a share of the picture."""
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in _edges(points))) / 2


def _edges(points: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    return zip(points, (*points[1:], points[0]), strict=True)


def _turn(a: Point, b: Point, c: Point) -> float:
    """Positive where a, b, c turn one way, negative the other, 0 where they lie in a line."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _on_segment(point: Point, a: Point, b: Point) -> bool:
    return (
        abs(_turn(a, b, point)) <= _NEAR
        and min(a[0], b[0]) - _NEAR <= point[0] <= max(a[0], b[0]) + _NEAR
        and min(a[1], b[1]) - _NEAR <= point[1] <= max(a[1], b[1]) + _NEAR
    )


def _meet(a: Point, b: Point, c: Point, d: Point, *, neighbours: bool) -> bool:
    """Whether two sides have a point in common; neighbours have their corner, and may have no more."""
    if neighbours:
        shared, one, other = (b, a, d) if b == c else (a, b, c)
        return _on_segment(other, shared, one) or _on_segment(one, shared, other)
    crossing = _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0
    touching = _on_segment(c, a, b) or _on_segment(d, a, b) or _on_segment(a, c, d) or _on_segment(b, c, d)
    return crossing or touching
