"""Fuzzes BFCP: `python -m fuzz.bfcp [seconds] [seed]`.

Mutations of fuzz/corpus/bfcp are parsed and printed again, cut from a byte stream, and said to a floor
control server by two participants, over datagrams and over a stream, whose requests are granted, denied or
left alone. Faults: any exception but MalformedBfcp, an answer that cannot be parsed, more answers than a
request earns, a floor without a holder that is there.
"""

from __future__ import annotations

import contextlib
import random
import sys

from fuzz.campaign import main
from fuzz.messages import campaign
from protocols.bfcp.attributes import MalformedBfcp
from protocols.bfcp.floor_control_server import (
    FloorAsked,
    FloorControlServer,
    FloorReleased,
    Holder,
)
from protocols.bfcp.fragments import Reassembly
from protocols.bfcp.message import OVER_STREAMS, StreamFramer, parse
from protocols.bfcp.transactions import WAITING

CONFERENCE, FLOOR, USERS = 1111, 1, (21, 22)


def try_messages(messages: list[bytes], chance: random.Random) -> None:
    for data in messages:
        with contextlib.suppress(MalformedBfcp):
            once = parse(data)
            if parse(once.print(reliable=once.version == 1)).attributes != once.attributes:
                raise AssertionError("printed and parsed again it is another message")
    reassembly = Reassembly()
    for data in messages:
        with contextlib.suppress(MalformedBfcp):
            reassembly.add(data)
    try_stream(b"".join(messages), chance)
    for reliable in (False, True):
        try_server(messages, chance, reliable)


def try_stream(data: bytes, chance: random.Random) -> None:
    framer = StreamFramer(8192)
    at = 0
    with contextlib.suppress(MalformedBfcp):
        while at < len(data):
            size = chance.randint(1, 40)
            for whole in framer.feed(data[at : at + size]):
                with contextlib.suppress(MalformedBfcp):
                    parse(whole)
            at += size


def try_server(messages: list[bytes], chance: random.Random, reliable: bool) -> None:
    server = FloorControlServer(conference_id=CONFERENCE, floor_id=FLOOR)
    for user in USERS:
        server.add(user, reliable=reliable, follows=chance.random() < 0.3)
    now = 100.0
    for data in messages:
        if reliable and data:
            data = bytes((data[0] & 0x1F | 0x20,)) + data[1:]
        server.receive(chance.choice(USERS), data, now)
        decide(server, chance, now)
        now += chance.choice((0.0, 0.1, 0.6, 12.0))
        server.tick(now)
        sent = server.take_outgoing()
        if len(sent) > 2 * (WAITING + 4):
            raise AssertionError(f"{len(sent)} messages after one")
        for user, answer in sent:
            message = parse(answer)
            announced = message.version != OVER_STREAMS and not message.responder  # the R flag tells
            if announced and message.user_id != user:
                raise AssertionError("announced to another than it names")
        if server.holder is not None and server.holder.user_id not in (None, *USERS):
            raise AssertionError(f"the floor is with {server.holder}")


def decide(server: FloorControlServer, chance: random.Random, now: float) -> None:
    """As meeting control: grant, deny, leave alone; sometimes a browser takes the floor."""
    for event in server.take_events():
        match event, chance.randrange(4):
            case FloorAsked(user, request), 0 | 1:
                server.assign(Holder(user, request), now)
            case FloorAsked(user, request), 2:
                server.deny(user, request, "not now", now)
            case FloorReleased(), _:
                server.assign(None, now)
            case _:
                pass
    if chance.random() < 0.1:
        server.assign(chance.choice((None, Holder(None), Holder(USERS[0], 9))), now)


if __name__ == "__main__":
    sys.exit(main([campaign("bfcp", try_messages)], sys.argv[1:]))
