"""What the private Unix sockets between our own processes share: frames, who may connect, the file.

    FrameReader(limit).feed(data) -> list of payloads        pure; raises FrameTooLong
    frame(payload) -> bytes                                  a 4-byte length, then the payload
    listen(path) -> socket                                   mode 0600, an old file replaced
    peer_of(transport) -> Peer                               process and user at the other end

Only processes of the same user are talked to (SO_PEERCRED, unix(7)), whatever the file's mode says.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FrameReader", "FrameTooLong", "Peer", "UntrustedPeer", "frame", "listen", "peer_of", "remove"]

_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")
LONGEST_PATH = 107
"""Bytes of sun_path without its closing NUL (unix(7))."""


class FrameTooLong(ValueError):
    """The other end announced a frame above the limit: it is not one of ours, or broken."""


class UntrustedPeer(Exception):
    """Another user's process is at the other end."""


@dataclass(frozen=True, slots=True)
class Peer:
    pid: int
    uid: int


class FrameReader:
    """Cuts a byte stream into frames of at most `limit` bytes each, however the bytes arrive."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are now whole, in order. Raises FrameTooLong."""
        self._buffer += data
        payloads: list[bytes] = []
        position = 0
        with memoryview(self._buffer) as view:
            while len(view) - position >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(view, position)
                if length > self._limit:
                    raise FrameTooLong(f"a frame of {length} bytes where {self._limit} are allowed")
                start = position + _LENGTH.size
                if len(view) - start < length:
                    break
                payloads.append(bytes(view[start : start + length]))
                position = start + length
        del self._buffer[:position]
        return payloads


def frame(*parts: bytes) -> bytes:
    """One frame of `parts` joined."""
    return b"".join((_LENGTH.pack(sum(map(len, parts))), *parts))


def listen(path: Path) -> socket.socket:
    """A bound socket that only this user may open; `create_unix_server(sock=...)` makes it listen.

    Raises OSError when the path is too long, not writable, or taken by something that is no socket.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise OSError(f"the path of a Unix socket has at most {LONGEST_PATH} bytes: {path}")
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(f"{path} is there and is not a socket")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        os.chmod(path, 0o600)  # nobody can connect before listen(2), so this comes in time
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def inode(path: Path) -> int | None:
    """What now lies at `path`, to tell our file from a successor's."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def remove(path: Path, expected: int | None) -> None:
    """Remove the socket file unless another process has put its own there since."""
    if expected is not None and inode(path) == expected:
        path.unlink(missing_ok=True)


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """The process at the other end. Raises UntrustedPeer if it is another user's."""
    connection = transport.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    if uid != os.geteuid():
        raise UntrustedPeer(f"process {pid} of user {uid} is not ours")
    return Peer(pid, uid)
