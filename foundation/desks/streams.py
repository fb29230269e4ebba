"""How a stream is named."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamRef:
    """Names a stream anywhere on this node: which process has it, its id there, its codec."""

    node: str
    worker: str
    id: str
    codec: str
