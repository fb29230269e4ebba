"""The kinds of rules and their parameters, in one table: the judge reads defaults here, the API bounds.

values = settled("loitering", {"seconds": 20})      # every parameter of the kind; ParameterFault
RULE_KINDS["loitering"].needs_zone
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PERSON_IN_ZONE, LOITERING = "person-in-zone", "loitering"
BLACK, FROZEN, BLURRED, STREAM_LOST = "black", "frozen", "blurred", "stream-lost"


class ParameterFault(ValueError):
    """A parameter that this kind does not have or take; the text says which and what it would take."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """`least` and `most` are allowed, too; `unit` is "s", "looks", "levels" (of brightness, 0..255) or
    "share" (0..1)."""

    name: str
    default: float
    least: float
    most: float
    unit: str

    def check(self, value: float) -> None:
        """Raises ParameterFault."""
        if not (math.isfinite(value) and self.least <= value <= self.most):
            raise ParameterFault(f"{self.name}: {value:g} is not within {self.least:g} to {self.most:g}")
        if self.unit == "looks" and value != int(value):
            raise ParameterFault(f"{self.name}: {value:g} is no whole number")


@dataclass(frozen=True, slots=True)
class RuleKind:
    """`needs_zone`: it judges what stands in a zone, otherwise the whole picture. `needs_model`: without a
    model it sees nothing."""

    kind: str
    needs_zone: bool
    parameters: tuple[Parameter, ...]

    @property
    def needs_model(self) -> bool:
        return self.kind in (PERSON_IN_ZONE, LOITERING)


_SCORE = Parameter("score", 0.5, 0.1, 1.0, "share")
_COOL_DOWN = Parameter("cool_down", 30, 0, 3600, "s")


def _tamper(kind: str, seconds: float, recovery: float, *parameters: Parameter) -> RuleKind:
    """A check that flags what lasts for `seconds`, and takes it for over after `recovery` seconds without."""
    lasting = (
        Parameter("seconds", seconds, 1, 3600, "s"),
        Parameter("recovery", recovery, 1, 3600, "s"),
    )
    return RuleKind(kind, False, (*lasting, *parameters))


_KINDS = (
    RuleKind(
        PERSON_IN_ZONE,
        True,
        (
            _SCORE,
            Parameter("inside", 3, 2, 20, "looks"),
            Parameter("of", 5, 2, 20, "looks"),
            Parameter("outside", 5, 1, 60, "looks"),
            _COOL_DOWN,
        ),
    ),
    RuleKind(
        LOITERING,
        True,
        (
            _SCORE,
            Parameter("seconds", 60, 3, 86_400, "s"),
            Parameter("tolerance", 6, 1, 60, "s"),
            _COOL_DOWN,
        ),
    ),
    _tamper(
        BLACK,
        5,
        10,
        Parameter("brightness", 24, 0, 255, "levels"),
        Parameter("deviation", 6, 0, 64, "levels"),
        Parameter("share", 0.9, 0.5, 1, "share"),
    ),
    _tamper(
        FROZEN,
        60,
        10,
        Parameter("difference", 0.5, 0, 10, "levels"),
        Parameter("share", 0.08, 0, 0.5, "share"),
    ),
    _tamper(
        BLURRED,
        10,
        10,
        Parameter("sharpness", 0.2, 0.01, 0.9, "share"),
        Parameter("learning", 30, 3, 1000, "looks"),
    ),
    _tamper(STREAM_LOST, 30, 60),
)

RULE_KINDS: Mapping[str, RuleKind] = MappingProxyType({kind.kind: kind for kind in _KINDS})


def settled(kind: str, given: Mapping[str, object]) -> dict[str, float]:
    """All parameters of a kind: what is given, else the defaults. Raises ParameterFault."""
    known = {parameter.name: parameter for parameter in RULE_KINDS[kind].parameters}
    values = {name: parameter.default for name, parameter in known.items()}
    for name, value in given.items():
        if name not in known:
            raise ParameterFault(f"{name}: {kind} has no such parameter (it has {', '.join(known)})")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ParameterFault(f"{name}: {value!r} is no number")
        known[name].check(value)
        values[name] = value
    if kind == PERSON_IN_ZONE and values["inside"] > values["of"]:
        raise ParameterFault(f"inside: {values['inside']:g} looks cannot be among {values['of']:g}")
    return values
