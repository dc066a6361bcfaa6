"""Tests of streamer/gateways/overviews.py: the state of several gateways as that of one daemon."""

from __future__ import annotations

from dataclasses import replace

from streamer.gateways.overviews import joined
from streamer.server.state import Overview
from streamer.telemetry.statistics import EngineStatistics, SchedulerStatistics

ENGINE = EngineStatistics(name="0", pid=7, n_rows=5, row_cost_s=0.01, is_alive=True, n_restarts=0)
STATISTICS = SchedulerStatistics(
    n_sessions=3,
    n_speaking=1,
    capacity=8,
    interval_s=0.3,
    row_cost_s=0.01,
    worst_lag_s=0.5,
    n_steps=5,
    engines=(ENGINE,),
    sessions=(),
)


def test_what_gateways_have_is_summed() -> None:
    """Of what all see, the largest counts."""
    other = replace(STATISTICS, n_sessions=1, capacity=7, worst_lag_s=0.7)
    parts = [Overview(uptime_s=n, n_connections=n, statistics=each) for n, each in ((1, STATISTICS), (2, other))]

    found = joined(parts, 9.0)

    assert (found.uptime_s, found.n_connections) == (9.0, 3)
    of_all = found.statistics
    assert (of_all.n_sessions, of_all.n_steps, of_all.capacity, of_all.worst_lag_s) == (4, 10, 8, 0.7)
    assert of_all.engines == (replace(ENGINE, n_rows=10),)


def test_an_engine_is_alive_that_any_gateway_reaches() -> None:
    """It is shown as that one sees it, with the rows of all."""
    away = replace(ENGINE, pid=0, n_rows=1, is_alive=False, n_restarts=2)
    for engines in ((ENGINE, away), (away, ENGINE)):
        parts = [
            Overview(uptime_s=0.0, n_connections=0, statistics=replace(STATISTICS, engines=(each,))) for each in engines
        ]
        assert joined(parts, 0.0).statistics.engines == (replace(ENGINE, n_rows=6, n_restarts=2),)


def test_engines_are_in_order() -> None:
    """By number."""
    engines = tuple(replace(ENGINE, name=name) for name in ("10", "2", "0"))
    part = Overview(uptime_s=0.0, n_connections=0, statistics=replace(STATISTICS, engines=engines))
    assert [engine.name for engine in joined([part], 0.0).statistics.engines] == ["0", "2", "10"]


def test_no_gateway() -> None:
    """Nothing, and no error."""
    assert joined([], 1.0).statistics.capacity == 0
