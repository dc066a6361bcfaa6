"""The state of several gateways as that of one daemon. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamer.server.state import Overview
from streamer.telemetry.statistics import EngineStatistics, SchedulerStatistics


def joined(parts: Sequence[Overview], uptime_s: float) -> Overview:
    """
    Join the overviews of gateways into one.

    Args:
        parts: Of each gateway; none while none serves.
        uptime_s: Of the daemon.
    """
    all_of = [part.statistics for part in parts]
    statistics = SchedulerStatistics(
        n_sessions=sum(one.n_sessions for one in all_of),
        n_speaking=sum(one.n_speaking for one in all_of),
        capacity=max((one.capacity for one in all_of), default=0),
        interval_s=max((one.interval_s for one in all_of), default=0.0),
        row_cost_s=max((one.row_cost_s for one in all_of), default=0.0),
        worst_lag_s=max((one.worst_lag_s for one in all_of), default=0.0),
        n_steps=sum(one.n_steps for one in all_of),
        engines=_engines([engine for one in all_of for engine in one.engines]),
        sessions=tuple(session for one in all_of for session in one.sessions),
    )
    return Overview(uptime_s=uptime_s, n_connections=sum(part.n_connections for part in parts), statistics=statistics)


def _engines(seen: Sequence[EngineStatistics]) -> tuple[EngineStatistics, ...]:
    """Each engine once: its rows for all gateways, the rest from a gateway that reaches it."""
    engines: dict[str, EngineStatistics] = {}
    for engine in sorted(seen, key=lambda engine: engine.is_alive):
        known = engines.get(engine.name, engine)
        n_rows = engine.n_rows + (known.n_rows if engine.name in engines else 0)
        n_restarts = max(known.n_restarts, engine.n_restarts)
        engines[engine.name] = replace(engine, n_rows=n_rows, n_restarts=n_restarts)
    return tuple(engines[name] for name in sorted(engines, key=lambda name: (len(name), name)))
