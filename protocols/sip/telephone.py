"""Telephone numbers as people and tel URIs write them (RFC 3966)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from protocols.sip.grammar import SipSyntaxError, excerpt

_SEPARATORS = str.maketrans("", "", "-.() ")
_NUMBER = re.compile(r"\+?[0-9*#]{1,32}\Z")


def dialled_number(text: str) -> str:
    """The digits of "tel:+86-771-5861234", "+86 771 5861234" or "13800138000", a leading plus kept.

    Parameters (phone-context, ext) are not what is dialled. Raises SipSyntaxError for anything else.
    """
    rest = text.strip()
    if rest[:4].lower() == "tel:":
        rest = rest[4:]
    rest = rest.partition(";")[0].translate(_SEPARATORS)
    if not _NUMBER.match(rest) or not any(letter.isdigit() for letter in rest):
        raise SipSyntaxError(f"no telephone number: {excerpt(text)}")
    return rest


def is_dialled(text: str) -> bool:
    """Whether it is a tel URI or a bare number rather than an address of another scheme."""
    try:
        dialled_number(text)
    except SipSyntaxError:
        return False
    return True


def longest_prefix(number: str, prefixes: Iterable[str]) -> int | None:
    """The length of the longest of the prefixes that the number begins with; None without any."""
    return max((len(prefix) for prefix in prefixes if number.startswith(prefix)), default=None)


def same_number(one: str, other: str) -> bool:
    """The same digits; a plus that one side lacks makes no difference."""
    return one.translate(_SEPARATORS).lstrip("+") == other.translate(_SEPARATORS).lstrip("+")
