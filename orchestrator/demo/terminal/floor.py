"""A test terminal's floor control client (RFC 8855 10, 11): asks for the slides, gives them back, is told.

client = FloorClient("127.0.0.1", reliable=False, revoked=stop)
client.section()                         # our BFCP m-line, before or after the peer's
client.learn(theirs)                     # where the server is, and who we are there
await client.request(); await client.release()
client.close()
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from foundation.desks import FloorDescription, MediaSection, SectionKind
from protocols.bfcp.attributes import (
    Attribute,
    AttributeType,
    Group,
    MalformedBfcp,
    Number,
    RequestState,
    RequestStatus,
)
from protocols.bfcp.message import Message, Primitive, StreamFramer, parse

T1 = 0.5
TRIES = 4
PATIENCE = 10.0
_ACKNOWLEDGED = {
    int(Primitive.FLOOR_REQUEST_STATUS): Primitive.FLOOR_REQUEST_STATUS_ACK,
    int(Primitive.FLOOR_STATUS): Primitive.FLOOR_STATUS_ACK,
}
_UNDECIDED = (RequestState.PENDING, RequestState.ACCEPTED)


class FloorRefused(Exception):
    """The server did not give the floor; the words are its state or error."""


class FloorClient:
    """See the module's head. `revoked` is called when the floor is taken from us."""

    def __init__(self, bind: str, reliable: bool, revoked: Callable[[], None]) -> None:
        self.request_id: int | None = None
        self._bind = bind
        self._reliable = reliable
        self._revoked = revoked
        self._loop = asyncio.get_running_loop()
        self._server: MediaSection | None = None
        self._transaction = 0
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._decided: asyncio.Future[int] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        if not reliable:
            family = socket.AF_INET6 if ":" in bind else socket.AF_INET
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind((bind, 0))
            self._loop.add_reader(self._socket.fileno(), self._readable)

    # --- descriptions -----------------------------------------------------------------------------------

    def section(self, mid: str | None = None) -> MediaSection:
        floor = FloorDescription(
            roles=("c-only",),
            setup="active" if self._reliable else None,
            connection="new" if self._writer is None and self._reliable else None,
        )
        port = 9 if self._socket is None else self._socket.getsockname()[1]
        protocol = "TCP/BFCP" if self._reliable else "UDP/BFCP"
        return MediaSection(SectionKind.FLOOR, self._bind, port, protocol, mid=mid, floor=floor)

    def takes(self, theirs: MediaSection) -> bool:
        """Whether that BFCP m-line is one for us."""
        return bool(theirs.port) and ("TCP" in theirs.protocol) is self._reliable and theirs.floor is not None

    def learn(self, theirs: MediaSection | None) -> None:
        """What the server's side says; None for no floor."""
        self._server = theirs if theirs is not None and self.takes(theirs) else None

    @property
    def known(self) -> bool:
        return self._server is not None

    # --- what it does -------------------------------------------------------------------------------------

    async def request(self) -> None:
        """Ask for the floor, and to hear of it. Raises FloorRefused."""
        floor = self._described().floors[0][0]
        await self._ask(Primitive.FLOOR_QUERY, Number(AttributeType.FLOOR_ID, floor))
        self._decided = self._loop.create_future()
        answer = await self._ask(Primitive.FLOOR_REQUEST, Number(AttributeType.FLOOR_ID, floor))
        request_id, state = _status(answer)
        self.request_id = request_id
        if state in _UNDECIDED:
            async with asyncio.timeout(PATIENCE):
                state = await self._decided
        if state != RequestState.GRANTED:
            self.request_id = None
            raise FloorRefused(f"the floor is not ours: state {state}")

    async def release(self) -> None:
        """Give the floor back; harmless without it."""
        request_id, self.request_id = self.request_id, None
        if request_id is not None:
            await self._ask(Primitive.FLOOR_RELEASE, Number(AttributeType.FLOOR_REQUEST_ID, request_id))

    def close(self) -> None:
        if self._socket is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.transport.abort()

    # --- inside -------------------------------------------------------------------------------------------

    def _described(self) -> FloorDescription:
        if self._server is None or self._server.floor is None or not self._server.floor.floors:
            raise FloorRefused("the peer has no floor for us")
        return self._server.floor

    async def _ask(self, primitive: Primitive, *attributes: Attribute) -> Message:
        """A request and its response; over datagrams sent again while none comes (8.3.1)."""
        floor = self._described()
        self._transaction = number = self._transaction % 0xFFFF + 1
        message = Message(primitive, floor.conference_id or 0, number, floor.user_id or 0, attributes)
        answer: asyncio.Future[Message] = self._loop.create_future()
        self._answers[number] = answer
        wait = PATIENCE if self._reliable else T1
        try:
            for _ in range(1 if self._reliable else TRIES):
                await self._send(message)
                done, _waiting = await asyncio.wait([answer], timeout=wait)
                if done:
                    return answer.result()
                wait *= 2
        finally:
            del self._answers[number]
        raise FloorRefused("the server does not answer")

    async def _send(self, message: Message) -> None:
        assert self._server is not None
        data = message.print(reliable=self._reliable)
        where = (self._server.address, self._server.port)
        if self._socket is not None:
            self._socket.sendto(data, where)
            return
        if self._writer is None or self._writer.is_closing():
            reader, self._writer = await asyncio.open_connection(*where, local_addr=(self._bind, 0))
            self._reading = self._loop.create_task(self._read(reader, self._writer), name="terminal floor")
        self._writer.write(data)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framer = StreamFramer()
        try:
            while data := await reader.read(4096):
                for whole in framer.feed(data):
                    self._take(whole)
        except OSError:
            return
        finally:
            writer.close()  # the next request opens another one

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65_535)
        except OSError:
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            message = parse(data)
        except MalformedBfcp:
            return
        waiting = self._answers.get(message.transaction_id)
        if waiting is not None and (self._reliable or message.responder):
            if not waiting.done():
                waiting.set_result(message)
            return
        kind = _ACKNOWLEDGED.get(message.primitive)
        if kind is None or message.responder:
            return
        if self._socket is not None and self._server is not None:
            user, conference = message.user_id, message.conference_id
            answer = Message(kind, conference, message.transaction_id, user, responder=True)
            self._socket.sendto(answer.print(), (self._server.address, self._server.port))
        if message.primitive == Primitive.FLOOR_REQUEST_STATUS:
            self._told(*_status(message))

    def _told(self, request_id: int, state: int) -> None:
        """What became of a request of ours; what comes twice changes nothing."""
        if self._decided is not None and not self._decided.done() and state not in _UNDECIDED:
            self._decided.set_result(state)
        if state == RequestState.REVOKED and request_id == self.request_id:
            self.request_id = None
            self._revoked()


def _status(message: Message) -> tuple[int, int]:
    """Request id and state of a FloorRequestStatus. Raises FloorRefused for an Error."""
    for one in message.attributes:
        if isinstance(one, Group) and one.type is AttributeType.FLOOR_REQUEST_INFORMATION:
            for inner in one.attributes:
                if isinstance(inner, Group) and inner.type is AttributeType.OVERALL_REQUEST_STATUS:
                    states = [a.state for a in inner.attributes if isinstance(a, RequestStatus)]
                    return one.id, states[0] if states else 0
    raise FloorRefused(f"the server answers {message}")
