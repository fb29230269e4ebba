"""SIPp dials a meeting of a real node 30 times a second: what fails, how long until 200, does memory grow?

Calls of sound alone that last half a second, over UDP, from forty sites in turn: 200 to warm up, 1800 in the
measured minute, and 1000 more, over which the memory of main and of the media worker must not grow.
"""

from __future__ import annotations

import asyncio
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from benchmarks.footprint import footprint
from benchmarks.result import Result
from foundation.database import Database
from foundation.repositories.sites import Site, SiteAddress, SiteRepository
from tests.peers.node import NETWORK, Node
from tests.peers.ports import PortBlock
from tests.peers.process import PeerProcess

RATE = 30
WARM_UP, MEASURED, AFTER = 200, 1800, 1000
SETTLING = 5.0
SITES = 40
CALLERS = {f"site-{number}": f"127.0.1.{number}" for number in range(1, SITES + 1)}
SCENARIO = """<?xml version="1.0" encoding="UTF-8" ?>
<scenario name="call">
<send retrans="500" start_rtd="1"><![CDATA[
INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [field0]:[local_port];branch=[branch];rport
From: <sip:room[call_number]@[field0]>;tag=[pid]C[call_number]
To: <sip:[service]@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:room@[field0]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [field0]
s=-
c=IN IP4 [field0]
b=AS:80
t=0 0
m=audio [media_port] RTP/AVP 8
a=rtpmap:8 PCMA/8000
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="200" rtd="1" rrs="true"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [field0]:[local_port];branch=[branch];rport
From: <sip:room[call_number]@[field0]>;tag=[pid]C[call_number]
To: <sip:[service]@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
[routes]
Max-Forwards: 70
Content-Length: 0

]]></send>
<pause milliseconds="500"/>
<send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [field0]:[local_port];branch=[branch];rport
From: <sip:room[call_number]@[field0]>;tag=[pid]C[call_number]
To: <sip:[service]@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
[routes]
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"""


class BusyNode(Node):
    """With ports for many calls at once, and the sites that make them."""

    def _configure(self, ports: PortBlock) -> None:
        super()._configure(ports)
        settings = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        settings["networks"][0]["rtp_ports"] = [50_000, 51_999]
        self.config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")

    async def start(self) -> None:
        database = Database(self.database_url)
        try:
            async with database.transaction() as tx:
                sites = SiteRepository(tx)
                for name, address in CALLERS.items():
                    await sites.save(Site(name, name, "enterprise", "gx"))
                    await sites.save_address(SiteAddress(NETWORK, address, name))
        finally:
            await database.aclose()
        await super().start()


def run() -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="anshi-bench-") as folder:
        failed, delays, grown = asyncio.run(_measure(Path(folder)))
    what = f"of {MEASURED} calls, {RATE} a second"
    yield Result.bounded(f"failed {what}", failed, "calls", at_most=0)
    yield Result.bounded(f"INVITE to 200, p95 {what}", float(np.percentile(delays, 95)), "ms", at_most=50.0)
    yield Result.bounded(f"INVITE to 200, median {what}", float(np.median(delays)), "ms", at_most=None)
    for name, megabytes in grown.items():
        yield Result.bounded(
            f"memory of {name}, growth in {AFTER} calls after {WARM_UP + MEASURED}",
            megabytes,
            "MB",
            at_most=1.0,
        )


async def _measure(folder: Path) -> tuple[int, list[float], dict[str, float]]:
    """Calls that failed, milliseconds to 200 of each, and by how many MB each process grew at the end."""
    async with BusyNode(folder / "node") as node:
        meeting = await node.meeting("calls")
        await _calls(folder / "warm-up", node, meeting.number, WARM_UP)
        failed, delays = await _calls(folder / "measured", node, meeting.number, MEASURED)
        await asyncio.sleep(SETTLING)
        pids = {"main": node.pid("main"), **await node.worker_pids()}
        before = {name: footprint(pid).rss_mb for name, pid in pids.items() if pid is not None}
        again, _ = await _calls(folder / "after", node, meeting.number, AFTER)
        await asyncio.sleep(SETTLING)
        after = {name: footprint(pid).rss_mb for name, pid in pids.items() if pid is not None}
    if len(delays) < MEASURED - failed:
        raise RuntimeError(f"SIPp noted {len(delays)} answers of {MEASURED} calls")
    return failed + again, delays, {name: after[name] - mb for name, mb in before.items()}


async def _calls(folder: Path, node: Node, number: str, count: int) -> tuple[int, list[float]]:
    """Let SIPp make so many calls; how many failed, and the answer times in milliseconds."""
    folder.mkdir()
    (folder / "call.xml").write_text(SCENARIO)
    (folder / "callers.csv").write_text("\n".join(["SEQUENTIAL", *CALLERS.values()]) + "\n")
    with PortBlock() as ports:
        address = CALLERS["site-1"]
        command = [
            *("sipp", f"127.0.0.1:{node.sip_port}", "-sf", "call.xml", "-s", number),
            *("-t", "ui", "-inf", "callers.csv", "-ip_field", "0", "-max_socket", "500"),
            *("-i", address, "-p", str(ports.take()), "-mi", address, "-mp", str(ports.take(8, even=True))),
            *("-r", str(RATE), "-m", str(count), "-l", str(10 * RATE), "-nostdin"),
            *("-trace_rtt", "-rtt_freq", "1", "-trace_stat", "-stf", "stat.csv", "-fd", "1"),
            *("-trace_err", "-error_file", "errors.log"),
        ]
        process = await PeerProcess.start("sipp", command, folder)
        try:
            code = await process.wait(count / RATE * 2 + 30)
        finally:
            await process.aclose()
    if code not in (0, 1):
        raise RuntimeError(f"SIPp ended with exit code {code}: {process.words()[-2000:]}")
    with (folder / "stat.csv").open() as stat:
        failed = int(list(csv.DictReader(stat, delimiter=";"))[-1]["FailedCall(C)"])
    (rtt,) = folder.glob("call_*_rtt.csv")
    with rtt.open() as times:
        rows = list(csv.DictReader(times, delimiter=";"))
    return failed, [float(row["response_time_ms"]) for row in rows]
