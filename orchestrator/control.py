"""What the supervisor and the processes it started say to each other, over an inherited socket pair.

    Supervisor -> process: Assign (who you are), Ping, Stop;  process -> supervisor: Ready, Pong, Failed
    channel = await ControlChannel.open(socket);  channel.send(Stop());  message = await channel.receive()

The closed socket itself is a message too: the other process is gone.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path

import msgspec

from config.settings import ConfigurationError
from foundation.private_socket import FrameReader, frame

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_START_FAILURE = 78
"""Of a process whose start cannot succeed by trying again (EX_CONFIG of sysexits.h)."""

_FRAME_BYTES = 1 << 20


class StartFailure(Exception):
    """The node cannot start as configured here; the text is one line for whoever started it."""


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """A process of the node: its name ("media-0", "recorder") and the socket on which it serves its desks."""

    name: str
    socket: Path

    @property
    def link(self) -> Path:
        """The socket on which it hands out its streams."""
        return self.socket.with_suffix(".link")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The processes around main: its media workers, the others, and its own socket; alone it has none."""

    workers: tuple[WorkerAddress, ...] = ()
    services: tuple[WorkerAddress, ...] = ()
    socket: Path | None = None


class Assign(msgspec.Struct, frozen=True, tag=True):
    """Become this process. `settings` as dumped by `config.loading`, `socket` where it serves.

    `workers` are the media workers, `services` the other processes that main asks: names and sockets. What
    has no media worker asks main for streams.
    """

    name: str
    role: str
    index: int
    settings: bytes
    socket: str = ""
    workers: tuple[tuple[str, str], ...] = ()
    services: tuple[tuple[str, str], ...] = ()


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End what you do and exit."""


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Is your event loop alive?"""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The start is done."""


class Pong(msgspec.Struct, frozen=True, tag=True):
    """It is."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The start cannot succeed: one line that says why."""

    line: str


Message = Assign | Stop | Ping | Ready | Pong | Failed
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class ControlChannel:
    """One end of the socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(_FRAME_BYTES)
        self._whole: list[bytes] = []

    @classmethod
    async def open(cls, end: socket.socket) -> ControlChannel:
        reader, writer = await asyncio.open_unix_connection(sock=end)
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """Never waits; a message to a process that is gone is nothing."""
        if not self._writer.is_closing():
            self._writer.write(frame(msgspec.msgpack.encode(message)))

    async def flush(self) -> None:
        try:
            await self._writer.drain()
        except OSError:
            return

    async def receive(self) -> Message | None:
        """The next message, None once the other process is gone."""
        while not self._whole:
            try:
                data = await self._reader.read(1 << 16)
            except OSError:
                return None
            if not data:
                return None
            self._whole = self._frames.feed(data)
            self._whole.reverse()
        return _decoder.decode(self._whole.pop())

    def close(self) -> None:
        self._writer.close()


def start_failure(error: BaseException) -> str | None:
    """The one line for an error of the start that trying again would not mend, else None.

    Such are what we found wrong ourselves (configuration, database) and what the operating system
    refused (a port, a folder). Of a group the first such line counts.
    """
    from foundation.database import DatabaseError  # only here: a media worker needs no database

    if isinstance(error, BaseExceptionGroup):
        lines = (start_failure(inner) for inner in error.exceptions)
        return next((line for line in lines if line is not None), None)
    if isinstance(error, StartFailure | ConfigurationError | DatabaseError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    return None
