"""What a process holds at one moment: memory, descriptors, threads, UDP ports; and how memory grows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Footprint:
    """`at` is in seconds from whenever the owner counts."""

    at: float
    rss_mb: float
    descriptors: int
    threads: int
    udp_ports: int


COUNTED = ("descriptors", "threads", "udp_ports")
"""What must not be more at the end than at the start."""


def footprint(pid: int, at: float = 0.0) -> Footprint:
    """Of a running process (proc(5)). Raises OSError when it is gone."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    inodes = {match for link in descriptors if (match := _socket_inode(link)) is not None}
    return Footprint(
        at=at,
        rss_mb=int(_field(status, "VmRSS")) / 1024,
        descriptors=len(descriptors),
        threads=int(_field(status, "Threads")),
        udp_ports=sum(1 for inode in _udp_inodes(pid) if inode in inodes),
    )


def slope_mb_a_minute(samples: Sequence[Footprint], after: float) -> float:
    """The fitted growth of resident memory from `after` seconds on."""
    kept = [sample for sample in samples if sample.at >= after]
    if len(kept) < 3:
        return 0.0
    minutes = np.array([sample.at / 60 for sample in kept])
    memory = np.array([sample.rss_mb for sample in kept])
    return float(np.polyfit(minutes, memory, 1)[0])


def grown(before: Footprint, after: Footprint) -> dict[str, int]:
    """Of what more is held, and by how many."""
    more = {what: getattr(after, what) - getattr(before, what) for what in COUNTED}
    return {what: count for what, count in more.items() if count > 0}


def _field(status: str, name: str) -> str:
    match = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    return match[1] if match else "0"


def _socket_inode(link: Path) -> str | None:
    try:
        target = str(link.readlink())
    except OSError:
        return None
    return target[8:-1] if target.startswith("socket:[") else None


def _udp_inodes(pid: int) -> list[str]:
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("udp", "udp6")]
    lines = [line for table in tables for line in table.read_text().splitlines()[1:]]
    return [line.split()[9] for line in lines]
