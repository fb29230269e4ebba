"""What a benchmark found, in the shape in which build/bench.json keeps it."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Result:
    """One measured figure.

    `ratio` is value / peer_value; `target` bounds the ratio from above, or the value where there is no peer.
    """

    name: str
    value: float
    unit: str
    peer: str | None
    peer_value: float | None
    ratio: float | None
    target: float | None
    ok: bool

    @classmethod
    def against(
        cls, name: str, value: float, unit: str, *, peer: str, peer_value: float, at_most: float | None
    ) -> Self:
        """A figure held against a peer's of the same run; without `at_most` for information only.

        Raises ValueError when the peer's figure is not positive: then nothing was measured.
        """
        if peer_value <= 0:
            raise ValueError(f"{name}: the peer {peer} measured {peer_value} {unit}, which is no measurement")
        ratio = value / peer_value
        return cls(name, value, unit, peer, peer_value, ratio, at_most, at_most is None or ratio <= at_most)

    @classmethod
    def bounded(cls, name: str, value: float, unit: str, *, at_most: float | None) -> Self:
        """A figure of our own under a bound; without `at_most` for information only."""
        return cls(name, value, unit, None, None, None, at_most, at_most is None or value <= at_most)
