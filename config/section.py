"""What the parts of the settings are made of."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]


class ConfigurationError(Exception):
    """The configuration cannot be used; the text is one line for whoever wrote it."""


class Secret(str):
    """A string that does not show in logs and tracebacks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The common manners of every part of the settings."""


def check_prefix(key: str, value: str) -> None:
    """Raise ConfigurationError unless it is an address or a network."""
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ConfigurationError(f"{key}: {error}") from None
