"""What must hold before a start: a data folder of our own, addresses of this machine, free ports.

with data_folder(settings.data) as lock: ...        one node a folder; raises StartFailure
font_problem(settings), logo_problem(settings), port_problems(settings)     "http.port: ... is in use ..."
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.settings import Listener, Settings
from foundation.private_socket import LONGEST_PATH
from orchestrator.control import StartFailure

LONGEST_SOCKET_NAME = 24


def font_problem(settings: Settings) -> str | None:
    """One line when the font that is set cannot be read."""
    if settings.font is None or (settings.font.is_file() and os.access(settings.font, os.R_OK)):
        return None
    return f"font: {settings.font} is not there or cannot be read"


def logo_problem(settings: Settings) -> str | None:
    """One line when the logo that is set cannot be drawn."""
    if settings.logo is None:
        return None
    from mcu_bridge.logo import Logo, UnusableLogo  # only where there is one: it brings NumPy and OpenCV

    try:
        Logo.load(settings.logo.file)
    except UnusableLogo as error:
        return f"logo.file: {error}"
    return None


def folder_problem(folder: Path) -> str | None:
    """Make the folder if need be and try to write into it; one line when that fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"data: folder {folder} cannot be written: {error.strerror}"


@contextmanager
def data_folder(folder: Path) -> Iterator[int]:
    """Hold the folder for one node; gives the lock's descriptor, for child processes to hold too.

    Raises StartFailure when it cannot be written or another node has it.
    """
    problem = folder_problem(folder)
    if problem is not None:
        raise StartFailure(problem)
    lock = os.open(folder / "anshi.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StartFailure(
                f"data: folder {folder} is in use by another node (process {holder})"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield lock
    finally:
        os.close(lock)


@contextmanager
def socket_folder(data: Path) -> Iterator[Path]:
    """Where the private sockets lie: in the data folder, or elsewhere when its path is too long."""
    folder = data / "run"
    if len(os.fsencode(folder)) + 1 + LONGEST_SOCKET_NAME <= LONGEST_PATH:
        folder.mkdir(mode=0o700, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="anshi-") as short:
        yield Path(short)


def port_problems(settings: Settings) -> Iterator[str]:
    """One line for each listener that cannot be opened now.

    The RTP range is not tried: single ports of it may be taken, by anybody, at any time.
    """
    for listener in settings.listeners():
        if not listener.key.endswith(".rtp_ports"):
            for port in range(listener.port, listener.last_port + 1):
                if (problem := _port_problem(listener, port)) is not None:
                    yield problem


def _port_problem(listener: Listener, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    kind = socket.SOCK_STREAM if listener.transport == "tcp" else socket.SOCK_DGRAM
    shown = Listener(listener.key, listener.address, port, port, listener.transport)
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.address, port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"{listener.key}: {shown} is in use by another program"
            if error.errno == errno.EADDRNOTAVAIL:
                return f"{listener.key}: {listener.address} is not an address of this machine"
            if error.errno == errno.EACCES:
                return f"{listener.key}: no permission to open {shown}"
            return f"{listener.key}: {shown} cannot be opened: {error.strerror}"
    return None
