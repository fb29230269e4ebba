"""DTMF in the body of an INFO: application/dtmf-relay, and the barer application/dtmf."""

from __future__ import annotations

from dataclasses import dataclass

RELAY = "application/dtmf-relay"
BARE = "application/dtmf"
KEYS = "0123456789*#ABCD"
_NUMBERED = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}
"""Events of RFC 4733 3.2 above the digits, as some terminals write them."""
USUAL = 250
LONGEST = 60_000


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """One key, and how long it was held, in milliseconds."""

    key: str
    duration: int = USUAL


def parse_key(content_type: str, body: bytes) -> KeyPressed | None:
    """The key of an INFO; None for other types, and for what is no key ("!", a hook flash, too).

    ``Signal=5`` and ``Duration=160`` stand on lines of their own, in any case and with spaces; the barer type
    may have the key alone.
    """
    if content_type not in (RELAY, BARE):
        return None
    fields: dict[str, str] = {}
    for line in body.decode("ascii", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields.setdefault(name.strip().lower(), value.strip())
        elif line.strip() and content_type == BARE:
            fields.setdefault("signal", line.strip())
    signal = fields.get("signal", "").upper()
    key = _NUMBERED.get(signal, signal)
    if len(key) != 1 or key not in KEYS:
        return None
    text = fields.get("duration", "")
    known = text.isascii() and text.isdigit() and len(text) < 9
    return KeyPressed(key, min(int(text), LONGEST) if known else USUAL)
