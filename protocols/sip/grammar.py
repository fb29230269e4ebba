"""Pieces of the grammar of RFC 3261 25 that URIs, headers and messages share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
_NEEDS_CARE = re.compile(r'["<>\\]')
MAX_NUMBER = 2**32 - 1


class SipSyntaxError(ValueError):
    """The peer's text breaks the grammar. ``str()`` says what is wrong and is fit for a reason phrase."""


def excerpt(text: str) -> str:
    """A short, printable, ASCII form of what the peer sent, for reason phrases and logs."""
    shown = ascii(text[:40])[1:-1]
    return f"'{shown}...'" if len(text) > 40 else f"'{shown}'"


def is_token(text: str) -> bool:
    return TOKEN.fullmatch(text) is not None


def number(text: str, what: str, largest: int = MAX_NUMBER) -> int:
    """A decimal number of the peer's, bounded; ``what`` names it in the error."""
    text = text.strip()
    if not text.isascii() or not text.isdigit():
        raise SipSyntaxError(f"{what} is not a number: {excerpt(text)}")
    if len(text) > 20 or (value := int(text)) > largest:
        raise SipSyntaxError(f"{what} is above {largest}: {excerpt(text)}")
    return value


def split_outside(text: str, separator: str) -> list[str]:
    """Split where ``separator`` stands outside quoted strings and angle brackets; parts are stripped."""
    if not _NEEDS_CARE.search(text):
        return [part.strip() for part in text.split(separator)]
    parts: list[str] = []
    start = 0
    for position, character in _outside(text):
        if character == separator:
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return parts


def find_outside(text: str, wanted: str) -> int:
    """Index of the first ``wanted`` outside quoted strings (and, unless it is one, brackets); -1 if none."""
    if not _NEEDS_CARE.search(text):
        return text.find(wanted)
    for position, character in _outside(text):
        if character == wanted:
            return position
    return -1


def _outside(text: str) -> Iterator[tuple[int, str]]:
    quoted = escaped = bracketed = False
    for position, character in enumerate(text):
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
            continue
        if bracketed:
            bracketed = character != ">"
            continue
        if character == '"':
            quoted = True
        elif character == "<":
            bracketed = True
        yield position, character
    if quoted:
        raise SipSyntaxError(f"a quoted string does not end: {excerpt(text)}")
    if bracketed:
        raise SipSyntaxError(f"an angle bracket does not close: {excerpt(text)}")


def quote(text: str) -> str:
    """Text as a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """The content of a quoted-string; anything else as it is."""
    text = text.strip()
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) if "\\" in inner else inner


@dataclass(frozen=True, slots=True)
class Parameters:
    """``;name=value;flag`` lists of headers and URIs (generic-param), values as spelled, quotes too."""

    items: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Parameters:
        """Parse what follows the value: empty, or a semicolon and parameters; empty ones are skipped."""
        text = text.strip()
        if not text:
            return cls()
        if text[0] != ";":
            raise SipSyntaxError(f"parameters must begin with a semicolon: {excerpt(text)}")
        items: list[tuple[str, str | None]] = []
        for part in split_outside(text[1:], ";"):
            if not part:
                continue
            name, equals, value = part.partition("=")
            name = name.strip()
            if not name or any(character in ' \t"<>,' for character in name):
                raise SipSyntaxError(f"not a parameter: {excerpt(part)}")
            items.append((name, value.strip() if equals else None))
        return cls(tuple(items))

    def get(self, name: str) -> str | None:
        """The value, unquoted; "" for a flag; None when absent."""
        for key, value in self.items:
            if key.lower() == name:
                return "" if value is None else unquote(value)
        return None

    def __contains__(self, name: str) -> bool:
        return any(key.lower() == name for key, _ in self.items)

    def with_value(self, name: str, value: str | None) -> Parameters:
        """The same list with ``name`` set in its place, or appended."""
        if name not in self:
            return Parameters((*self.items, (name, value)))
        return Parameters(tuple((k, value) if k.lower() == name else (k, v) for k, v in self.items))

    def without(self, name: str) -> Parameters:
        return Parameters(tuple(item for item in self.items if item[0].lower() != name))

    def __str__(self) -> str:
        return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in self.items)


NO_PARAMETERS = Parameters()
