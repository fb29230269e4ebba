"""A telephone provider's server on TCP or TLS."""

from __future__ import annotations

import asyncio

from protocols.sip.framing import Framed, StreamFramer
from protocols.sip.message import Message, Request, Response, parse_message
from protocols.sip.replies import respond


class StreamProvider:
    """`serve` takes its connections. Requests are answered 200, but INVITEs wait for the test to do so."""

    def __init__(self) -> None:
        self.invites: asyncio.Queue[Request] = asyncio.Queue()
        self.byes: asyncio.Queue[Request] = asyncio.Queue()
        self.registers: asyncio.Queue[Request] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        framer = StreamFramer(65_536, 65_536)
        while data := await reader.read(65_536):
            for event in framer.feed(data):
                if isinstance(event, Framed):
                    self._take(parse_message(event.data))

    def _take(self, message: Message) -> None:
        if isinstance(message, Response) or message.method == "ACK":
            return
        if message.method == "INVITE":
            self.invites.put_nowait(message)
            return
        if message.method == "BYE":
            self.byes.put_nowait(message)
        if message.method == "REGISTER":
            self.registers.put_nowait(message)
        self.answer(message, 200)

    def answer(self, request: Request, status: int, body: bytes = b"") -> None:
        contact = request.headers.get("Contact") if request.method == "REGISTER" else None
        fields = [("Contact", contact or "<sip:gateway@127.0.0.1;transport=tls>")]
        if body:
            fields.append(("Content-Type", "application/sdp"))
        assert self._writer is not None
        self._writer.write(respond(request, status, None, fields, body, to_tag="peer").to_bytes())

    async def invite(self) -> Request:
        async with asyncio.timeout(5.0):
            return await self.invites.get()

    async def register(self) -> Request:
        async with asyncio.timeout(5.0):
            return await self.registers.get()

    def hang_up(self) -> None:
        """Close the connection there is."""
        assert self._writer is not None
        self._writer.transport.abort()

    def send(self, message: Message) -> None:
        assert self._writer is not None
        self._writer.write(message.to_bytes())
