"""Logs and figures.

    configure_logging(level="info")               once a process: readable on a terminal, JSON otherwise
    with log_context(conference="8001", call=call_id): ...      every line inside carries the ids
    telemetry = Telemetry()                       handed around, never global
    telemetry.counter("anshi_calls", "Calls answered", "network").labels("extranet").inc()
    drops = telemetry.drops("bus.viewer"); drops.add(); drops.count
    telemetry.exposition() -> bytes               text for GET /metrics

A metric asked for twice is the same metric; asked for with other labels it is a ValueError.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TextIO, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

__all__ = ["DropCounter", "Telemetry", "configure_logging", "log_context"]

_Metric = TypeVar("_Metric", bound=MetricWrapperBase)


def configure_logging(
    level: str = "info", *, stream: TextIO | None = None, as_json: bool | None = None
) -> None:
    """Set structlog and the standard library's logging to write to `stream` (stderr).

    `as_json` None means: JSON unless the stream is a terminal. Raises ValueError on an unknown level.
    """
    numeric = logging.getLevelNamesMapping().get(level.upper())
    if numeric is None:
        raise ValueError(f"log level {level!r} is none of debug, info, warning, error, critical")
    out = stream or sys.stderr
    json_lines = not out.isatty() if as_json is None else as_json
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if json_lines
        else [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(),
                exception_formatter=structlog.dev.plain_traceback,  # the rich one prints local variables
            )
        ]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(numeric)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def log_context(**ids: str) -> AbstractContextManager[None]:
    """Bind ids (call, camera, conference, participant ...) to the log lines of this task and its children."""
    return structlog.contextvars.bound_contextvars(**ids)


class DropCounter:
    """Counts what one bounded queue threw away; also visible as anshi_dropped_total{queue="..."}."""

    def __init__(self, queue: str, count: Callable[[float], None]) -> None:
        self.queue = queue
        self.count = 0
        self._publish = count

    def add(self, amount: int = 1) -> None:
        self.count += amount
        self._publish(amount)


class Telemetry:
    """One process's metrics, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._metrics: dict[str, tuple[MetricWrapperBase, tuple[str, ...]]] = {}

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return self._metric(Counter, name, text, labels)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return self._metric(Gauge, name, text, labels)

    def histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = Histogram.DEFAULT_BUCKETS
    ) -> Histogram:
        return self._metric(Histogram, name, text, labels, buckets=buckets)

    def drops(self, queue: str) -> DropCounter:
        """A counter for what the named queue drops."""
        dropped = self.counter("anshi_dropped", "Items thrown away by bounded queues", "queue")
        return DropCounter(queue, dropped.labels(queue).inc)

    def exposition(self) -> bytes:
        """The registry in the Prometheus text format."""
        return generate_latest(self.registry)

    def _metric(
        self, kind: type[_Metric], name: str, text: str, labels: tuple[str, ...], **options: Any
    ) -> _Metric:
        known = self._metrics.get(name)
        if known is None:
            metric = kind(name, text, labels, registry=self.registry, **options)
            self._metrics[name] = (metric, labels)
            return metric
        metric_known, labels_known = known
        if not isinstance(metric_known, kind) or labels_known != labels:
            raise ValueError(f"metric {name} exists as {type(metric_known).__name__}{labels_known}")
        return metric_known
