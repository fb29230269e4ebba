"""A terminal's BFCP: bytes as a test wants them, over datagrams or a stream, to one node on loopback."""

from __future__ import annotations

import asyncio
import socket
from typing import Self

from protocols.bfcp.attributes import Attribute, AttributeType, Group, RequestStatus
from protocols.bfcp.message import OVER_DATAGRAMS, Message, Primitive, StreamFramer, parse

PATIENCE = 10.0


class BfcpPeer:
    """`await BfcpPeer.over(...)`, then `send`, `heard`. It acknowledges nothing by itself."""

    def __init__(self, conference: int, user: int, reliable: bool) -> None:
        self.conference, self.user, self.reliable = conference, user, reliable
        self.version = OVER_DATAGRAMS
        self._transaction = 0
        self._socket: socket.socket | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._framer = StreamFramer()
        self._waiting: list[bytes] = []

    @classmethod
    async def over(
        cls, port: int, conference: int, user: int, *, reliable: bool = False, bind: str = "127.0.0.1"
    ) -> Self:
        peer = cls(conference, user, reliable)
        version6 = ":" in bind
        server = "::1" if version6 else "127.0.0.1"
        if reliable:
            peer._reader, peer._writer = await asyncio.open_connection(server, port, local_addr=(bind, 0))
        else:
            family = socket.AF_INET6 if version6 else socket.AF_INET
            peer._socket = socket.socket(family, socket.SOCK_DGRAM)
            peer._socket.setblocking(False)
            peer._socket.bind((bind, 0))
            peer._socket.connect((server, port))
        return peer

    def bytes_of(self, primitive: Primitive, *attributes: Attribute) -> bytes:
        """The next request."""
        self._transaction += 1
        message = Message(
            primitive, self.conference, self._transaction, self.user, attributes, version=self.version
        )
        return message.print(reliable=self.reliable)

    def send(self, data: bytes) -> None:
        if self._writer is not None:
            self._writer.write(data)
        elif self._socket is not None:
            self._socket.send(data)

    async def heard(self, patience: float = PATIENCE) -> bytes:
        """The next message. Raises TimeoutError."""
        async with asyncio.timeout(patience):
            if self._socket is not None:
                return await asyncio.get_running_loop().sock_recv(self._socket, 65_535)
            assert self._reader is not None
            while not self._waiting:
                data = await self._reader.read(4096)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                self._waiting += self._framer.feed(data)
            return self._waiting.pop(0)

    async def ask(self, primitive: Primitive, *attributes: Attribute) -> Message:
        """A request and the response to it; what is announced meanwhile is acknowledged and left out."""
        self.send(self.bytes_of(primitive, *attributes))
        wanted = self._transaction
        while True:
            message = parse(await self.heard())
            if message.transaction_id == wanted and (self.reliable or message.responder or self.version == 1):
                return message
            self.acknowledge(message)

    async def announced(self) -> Message:
        """The next message that the server sends of itself, acknowledged."""
        message = parse(await self.heard())
        self.acknowledge(message)
        return message

    def acknowledge(self, message: Message) -> None:
        kinds = {
            int(Primitive.FLOOR_STATUS): Primitive.FLOOR_STATUS_ACK,
            int(Primitive.FLOOR_REQUEST_STATUS): Primitive.FLOOR_REQUEST_STATUS_ACK,
        }
        kind = kinds.get(message.primitive)
        if kind is not None and not self.reliable and not message.responder:
            number = message.transaction_id
            answer = Message(kind, self.conference, number, self.user, responder=True, version=self.version)
            self.send(answer.print())

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        if self._socket is not None:
            self._socket.close()


def state_of(message: Message) -> tuple[int, int]:
    """Request id and state of a FloorRequestStatus, or of the request in a FloorStatus."""
    for one in message.attributes:
        if isinstance(one, Group) and one.type is AttributeType.FLOOR_REQUEST_INFORMATION:
            overall = one.attributes[0]
            assert isinstance(overall, Group)
            status = overall.attributes[0]
            assert isinstance(status, RequestStatus)
            return one.id, status.state
    raise AssertionError(f"no request in {message}")
