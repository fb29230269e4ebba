"""A camera's address as an operator gives it, checked, and its password moved out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from protocols.rtsp.description import Address

LONGEST = 500


class WrongAddress(ValueError):
    """The address cannot be a camera's; the text says why."""


@dataclass(frozen=True, slots=True)
class CameraAddress:
    """`url` without user and password; those that stood in it are `username` and `password`."""

    url: str
    host: str
    port: int
    username: str | None = None
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> CameraAddress:
        """Raises WrongAddress."""
        text = text.strip()
        if any(character.isspace() or not character.isprintable() for character in text):
            raise WrongAddress("there is a space or an unprintable character in it")
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError as error:
            raise WrongAddress(str(error)) from None
        scheme = parts.scheme.lower()
        if scheme != "rtsp" or "://" not in text:
            given = f", not {scheme}://" if "://" in text else ""
            raise WrongAddress(f"only rtsp:// addresses are taken{given} (rtsp://host:port/path)")
        if not parts.hostname:
            raise WrongAddress("there is no host in it (rtsp://host:port/path)")
        address = Address.parse(text)
        if not ((address.username or "") + address.password).isprintable():
            raise WrongAddress("there is an unprintable character in its user or password")
        if len(address.url) > LONGEST:
            raise WrongAddress(f"it is longer than {LONGEST} characters")
        return cls(address.url, address.host, address.port, address.username, address.password)
