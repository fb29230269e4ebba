"""deploy/all-settings.yaml names every setting there is, and says its default."""

from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import msgspec
import yaml

from config.loading import load
from config.settings import Settings

ALL = Path(__file__).parents[2] / "deploy" / "all-settings.yaml"
OURS = {"data", "trunks.username"}
"""Made absolute; needed to register."""


def plain(kind: Any) -> Any:
    """`X` of `X | None`, of `Annotated[X, ...]` and of `tuple[X, ...]` where X is a section."""
    if get_origin(kind) is Annotated or get_origin(kind) is tuple:
        return plain(get_args(kind)[0])
    if NoneType in get_args(kind):
        return plain(next(one for one in get_args(kind) if one is not NoneType))
    return kind


def differences(kind: type[msgspec.Struct], told: Any, loaded: Any, place: str = "") -> Iterator[str]:
    """Settings that the file leaves out, or gives another value than their default."""
    told, loaded = (told[0], loaded[0]) if isinstance(told, list) else (told, loaded)
    for field in msgspec.structs.fields(kind):
        key = f"{place}{field.name}"
        value, inner = getattr(loaded, field.name), plain(field.type)
        if field.name not in told:
            yield f"{key} is not named"
        elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            yield from differences(inner, told[field.name], value, f"{key}.")
        elif field.default is not msgspec.NODEFAULT and key not in OURS and value != field.default:
            yield f"{key} is {value!r}, not {field.default!r}"


def test_every_setting_is_named_with_its_default() -> None:
    told = yaml.safe_load(ALL.read_text(encoding="utf-8"))
    assert list(differences(Settings, told, load(ALL, {}))) == []


def test_what_is_left_out_or_differs_is_found() -> None:
    told = yaml.safe_load(ALL.read_text(encoding="utf-8"))
    loaded = load(ALL, {})
    del told["edge"]["viewers_of_one"], told["networks"][0]["sip"]["tls_verify"], told["trunks"][0]["retry"]
    other = msgspec.structs.replace(loaded, guests=msgspec.structs.replace(loaded.guests, budget=5))
    assert list(differences(Settings, told, other)) == [
        "networks.sip.tls_verify is not named",
        "edge.viewers_of_one is not named",
        "guests.budget is 5, not 1000000",
        "trunks.retry is not named",
    ]
