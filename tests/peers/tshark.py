"""tshark: what really was on the wire of an interface, whatever our own counters say."""

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.process import PeerProcess
from tests.peers.requirement import which
from tests.peers.waiting import until_true

IP_UDP = 28


class Capture:
    """Packets from the start of the block to `stop` (or its end).

    `capture_filter` is in pcap's words ("udp port 5060"); `snap` bounds the bytes kept of a packet (0: all).
    Segmentation offload shows several datagrams of one `sendmsg` as one long packet on loopback.
    """

    def __init__(
        self,
        folder: Path,
        capture_filter: str,
        *,
        interface: str = "lo",
        snap: int = 0,
        namespace: str | None = None,
    ) -> None:
        self.folder = folder
        self.file = folder / "wire.pcapng"
        self._filter = capture_filter
        self._interface = interface
        self._snap = snap
        self._namespace = namespace

    async def __aenter__(self) -> Self:
        inside = [which("ip") or "ip", "netns", "exec", self._namespace] if self._namespace else []
        command = [
            *(*inside, "dumpcap", "-q", "-i", self._interface, "-f", self._filter, "-w", str(self.file)),
            *("-s", str(self._snap)),
        ]
        self._process = await PeerProcess.start("dumpcap", command, self.folder)
        try:
            await until_true(self._opened, "dumpcap to capture", 10.0, self._process.words)
        except BaseException:
            await self._process.aclose()
            raise
        return self

    def _opened(self) -> bool:
        if not self._process.running:
            raise AssertionError(f"dumpcap ended:\n{self._process.words()}")
        return self.file.exists() and self.file.stat().st_size > 0

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End the capture with everything written."""
        if self._process.running:
            # The kernel hands packets over in blocks of up to 250 ms, and nothing tells when it has.
            await asyncio.sleep(0.5)
        await self._process.aclose(number=signal.SIGINT)

    async def fields(
        self, display_filter: str, *names: str, decode_as: Sequence[str] = (), timeout: float = 60.0
    ) -> list[tuple[str, ...]]:
        """The named fields of each packet that the display filter passes, after `stop`.

        `decode_as` are tshark's ("udp.port==40000,rtp"). AssertionError when tshark does not know a word.
        """
        command = ["tshark", "-n", "-r", str(self.file), "-Y", display_filter, "-T", "fields"]
        command += [word for name in names for word in ("-e", name)]
        command += [word for rule in decode_as for word in ("-d", rule)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(timeout):
                out, errors = await process.communicate()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        assert process.returncode == 0, f"tshark ended with {process.returncode}: {errors.decode()}"
        return [tuple(line.split("\t")) for line in out.decode().splitlines()]

    async def bytes_per_second(self, display_filter: str, *, segment: int | None = None) -> list[int]:
        """Bytes of IP packets in each whole second from the first packet that passes the filter.

        `segment` (UDP payload bytes) counts a header for each datagram in a packet that offload merged.
        """
        rows = await self.fields(f"({display_filter}) && ip", "frame.time_epoch", "ip.len", "udp.length")
        if not rows:
            return []
        start = float(rows[0][0])
        windows = [0] * (int(float(rows[-1][0]) - start) + 1)
        for when, length, datagram in rows:
            size = int(length.partition(",")[0])
            if segment and datagram:
                payload = int(datagram.partition(",")[0]) - 8
                size += IP_UDP * max(0, -(-payload // segment) - 1)
            windows[int(float(when) - start)] += size
        return windows[:-1] if len(windows) > 1 else windows
