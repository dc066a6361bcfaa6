"""The state of the daemon that `/metrics` and `/statz` show: of this process, or of all processes of the daemon."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, generate_latest

from streamer.server.connection import Connections
from streamer.server.interfaces import SessionService
from streamer.telemetry.statistics import SchedulerStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What `/statz` shows."""

    uptime_s: float
    n_connections: int
    """Of `captions.v1`."""
    statistics: SchedulerStatistics


class DaemonState(Protocol):
    """Tells the state of the daemon."""

    async def metrics(self) -> bytes:
        """All metrics, in the text format of Prometheus."""
        ...

    async def overview(self) -> Overview:
        """What runs now."""
        ...


class LocalState:
    """
    The state of a daemon of one process.

    Args:
        scheduler: Tells statistics.
        connections: Of `captions.v1`.
        registry: Of the metrics.
    """

    def __init__(self, scheduler: SessionService, connections: Connections, registry: CollectorRegistry) -> None:
        self._scheduler, self._connections, self._registry = scheduler, connections, registry
        self._started_s = time.monotonic()

    async def metrics(self) -> bytes:
        """As `DaemonState.metrics`."""
        return generate_latest(self._registry)

    async def overview(self) -> Overview:
        """As `DaemonState.overview`."""
        return self.now()

    def now(self) -> Overview:
        """As `overview`, without a wait."""
        return Overview(
            uptime_s=time.monotonic() - self._started_s,
            n_connections=len(self._connections),
            statistics=self._scheduler.statistics(),
        )
