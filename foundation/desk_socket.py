"""Desks over a private Unix socket: calls one way, events the other.

    async with DeskServer(path, {"conference": (ConferenceDesk, object)}) as server:
        server.announce(SpeakersChanged(...))               never waits
        await server.abandoned.wait()                       the last client has gone

    client = DeskClient(path)
    desk = client.desk(ConferenceDesk, "conference")        may be held for ever, over every reconnection
    pid = await client.connect(wait=10.0)                   the serving process; again after `closed`
    answer = await desk.admit(participant, offer)
    async for event in client.events: ...
    await client.closed.wait()                              the other end is gone
    await client.aclose()

Arguments and results are MessagePack, typed by the Protocol's annotations on both sides. A `Refusal`
crosses as it is; any other exception is logged where it happened and crosses as `DeskFailed`. A peer
that is gone or silent is `Refusal(WORKER_LOST)`: at once for every call in flight when the socket
closes, after `timeout` seconds otherwise. Cancelling a call here cancels it there.
"""

from foundation.desk_client import DeskClient, DeskFailed, EventQueue
from foundation.desk_server import DeskServer

__all__ = ["DeskClient", "DeskFailed", "DeskServer", "EventQueue"]
