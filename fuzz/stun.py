"""Fuzzes STUN: `python -m fuzz.stun [seconds] [seed]`.

Mutations of fuzz/corpus/stun, some of them signed anew so that they get past the integrity check, are parsed,
printed and parsed again. Faults: any exception but StunError, a message that changes by printing, one whose
signature is good though a byte of what it covers was changed.
"""

from __future__ import annotations

import random
import sys

from fuzz.campaign import main
from fuzz.messages import campaign
from protocols.stun import ErrorCode, StunError, StunMessage, Username, looks_like_stun

KEY = b"0123456789012345678901"


def try_messages(messages: list[bytes], chance: random.Random) -> None:
    for data in messages:
        looks_like_stun(data)
        try:
            message = StunMessage.parse(data)
        except StunError:
            continue
        message.unknown_required()
        message.first(Username)
        message.first(ErrorCode)
        message.authenticated_by(KEY)
        try_again(message, chance)


def try_again(message: StunMessage, chance: random.Random) -> None:
    try:
        signed = message.to_bytes(KEY)
        again = StunMessage.parse(signed)
    except ValueError:  # also of StunError: a name that grew by U+FFFD fits no more
        return
    if (again.method, again.message_class, again.transaction_id) != (
        message.method,
        message.message_class,
        message.transaction_id,
    ):
        raise AssertionError("printed and parsed again it is another message")
    if [attribute.type for attribute in again.attributes] != [a.type for a in message.attributes]:
        raise AssertionError("printed and parsed again it has other attributes")
    if not again.authenticated_by(KEY):
        raise AssertionError("our own signature does not hold")
    forged = bytearray(message.to_bytes(KEY, fingerprint=False))
    at = chance.randrange(len(forged) - 24)
    forged[at] ^= 1 << chance.randrange(8)
    try:
        accepted = StunMessage.parse(bytes(forged)).authenticated_by(KEY)
    except StunError:
        return
    if accepted:
        raise AssertionError(f"byte {at} was changed and the signature holds")


if __name__ == "__main__":
    sys.exit(main([campaign("stun", try_messages)], sys.argv[1:]))
