"""HLS parts of 200 kB from the edge's memory, beside nginx with a file of the same size: CPU a gigabyte.

Both over TLS 1.3 with the same certificate, as viewers come: that is what the bar is for. Both without TLS
too, for information: there nginx never touches the bytes. The same client asks over kept connections. The
servers' own CPU counts, user and system; the edge's includes making the broadcast meanwhile.
"""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._hls_server import PART_BYTES
from benchmarks.result import Result
from tests.peers.nginx_rtmp import configuration
from tests.peers.ports import PortBlock
from tests.peers.requirement import which

CONNECTIONS = 8
GIGABYTES = 0.5
ROUNDS = 3
READ = 256 << 10
TICK = os.sysconf("SC_CLK_TCK")


def run() -> list[Result]:
    results = []
    for tls, words, bar in ((True, "over TLS", 3.0), (False, "without TLS", None)):
        ours, peer = _measure(tls)
        results.append(
            Result.against(
                f"hls parts of 200 kB {words}",
                ours,
                "CPU-s/GB",
                peer="nginx, static file",
                peer_value=peer,
                at_most=bar,
            )
        )
    return results


def _measure(tls: bool) -> tuple[float, float]:
    """The least CPU a GB of some rounds in turn, of the edge and of nginx."""
    with tempfile.TemporaryDirectory() as name, PortBlock() as ports:
        folder = Path(name)
        with (
            _edge(ports.take(), folder, tls) as (edge_port, edge_pid, path),
            _nginx(ports.take(), ports.take(), folder, tls) as (nginx_port, nginx_pid),
        ):
            ours, peer = [], []
            for _ in range(ROUNDS):
                ours.append(_cpu_per_gigabyte(edge_pid, edge_port, path, tls))
                peer.append(_cpu_per_gigabyte(nginx_pid, nginx_port, "/part.m4s", tls))
    return min(ours), min(peer)


@contextmanager
def _edge(port: int, folder: Path, tls: bool) -> Iterator[tuple[int, int, str]]:
    command = [
        sys.executable,
        "-m",
        "benchmarks._hls_server",
        str(port),
        str(folder),
        "tls" if tls else "plain",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None, "asked for as pipes"
        assert process.stdout is not None, "asked for as pipes"
        path = process.stdout.readline().strip()
        if not path:
            raise RuntimeError("the edge did not start")
        try:
            yield port, process.pid, path
        finally:
            process.stdin.close()


@contextmanager
def _nginx(port: int, rtmp_port: int, folder: Path, tls: bool) -> Iterator[tuple[int, int]]:
    root = folder / "root"
    root.mkdir()
    root.chmod(0o755)
    folder.chmod(0o755)
    (root / "part.m4s").write_bytes(os.urandom(PART_BYTES))
    pair = f"ssl_certificate {folder}/tls/certificate.pem; ssl_certificate_key {folder}/tls/key.pem;"
    http = f"""
    sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port}{" ssl" if tls else ""}; root {root}; {pair if tls else ""} }}"""
    file = folder / "nginx.conf"
    file.write_text(configuration(folder, rtmp_port, http=http))
    command = [which("nginx") or "nginx", "-e", "stderr", "-c", str(file), "-p", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            asyncio.run(_listening(port))
            yield port, process.pid
        finally:
            process.terminate()


async def _listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


def _cpu_per_gigabyte(pid: int, port: int, path: str, tls: bool) -> float:
    each = round(GIGABYTES * 1e9 / PART_BYTES / CONNECTIONS)
    counts: list[int] = []
    before = cpu_seconds(pid)
    clients = [
        threading.Thread(target=lambda: counts.append(_fetch(port, path, tls, each)))
        for _ in range(CONNECTIONS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    spent = cpu_seconds(pid) - before
    if len(counts) != CONNECTIONS or min(counts) < each * PART_BYTES * 0.9:
        raise RuntimeError("a client did not get its parts: nothing was measured")
    return spent / (sum(counts) / 1e9)


def _fetch(port: int, path: str, tls: bool, times: int) -> int:
    """Bytes of bodies got by asking so many times over one connection."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    plain = socket.create_connection(("127.0.0.1", port))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    received, buffer = 0, bytearray(READ)
    with context.wrap_socket(plain) if tls else plain as connection:
        for _ in range(times):
            connection.sendall(request)
            received += _body(connection, buffer)
    return received


def _body(connection: socket.socket, buffer: bytearray) -> int:
    """The length of one answer's body, read to its end."""
    head = b""
    while b"\r\n\r\n" not in head:
        got = connection.recv_into(buffer)
        if not got:
            raise RuntimeError("the server closed the connection")
        head += bytes(buffer[:got])
    lines, _, rest = head.partition(b"\r\n\r\n")
    if b" 200 " not in lines.partition(b"\r\n")[0]:
        raise RuntimeError(f"the server answered {lines[:60]!r}")
    (length,) = (
        int(line.partition(b":")[2])
        for line in lines.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    left = length - len(rest)
    while left > 0:
        got = connection.recv_into(buffer, min(left, READ))
        if not got:
            raise RuntimeError("the server closed the connection")
        left -= got
    return length


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK
