"""Tests of streamer/telemetry/families.py: metrics of several processes as those of one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from streamer.telemetry.families import WORST, Family, counted, families_of, summed, text_of
from streamer.telemetry.metrics import (
    ConnectionMetrics,
    EngineMetrics,
    GatewayMetrics,
    LoopMetrics,
    ServiceMetrics,
    SocketMetrics,
)


def registry(n: float) -> CollectorRegistry:
    """One of each kind, filled with a number."""
    made = CollectorRegistry()
    Counter("sessions", "Sessions.", ["outcome"], registry=made).labels("end").inc(n)
    Histogram("step", "Steps.", buckets=(1, 5), registry=made).observe(n)
    Gauge("streamer_sessions", "Open.", registry=made).set(n)
    Gauge("streamer_capacity_sessions", "Places.", registry=made).set(n)
    Gauge("process_start_time_seconds", "Start.", registry=made).set(n)
    Gauge("streamer_certificate_expires_timestamp_seconds", "Expiry.", registry=made).set(n)
    Gauge("process_open_fds", "Descriptors.", registry=made).set(n)
    Info("build", "What runs.", registry=made).info({"version": "1"})
    return made


def values(families: tuple[Family, ...]) -> dict[str, float]:
    """By name and labels, without times."""
    return {
        f"{value.name}{sorted(value.labels.values()) or ''}": value.value
        for family in families
        for value in family.values
        if not value.name.endswith("_created")
    }


def test_the_text_is_that_of_the_registry() -> None:
    """Nothing is lost on the way."""
    made = registry(3)
    assert text_of(families_of(made)) == generate_latest(made)


def test_each_series_is_there_once() -> None:
    """Counts are summed; of what all see, and of the worst, the largest counts; of times the first."""
    families = summed([families_of(registry(3)), families_of(registry(7))])

    assert len({family.name for family in families}) == len(families)
    assert values(families) == {
        "sessions_total['end']": 10.0,
        "step_bucket['1.0']": 0.0,
        "step_bucket['5.0']": 1.0,
        "step_bucket['+Inf']": 2.0,
        "step_count": 2.0,
        "step_sum": 10.0,
        "streamer_sessions": 10.0,
        "streamer_capacity_sessions": 7.0,
        "process_start_time_seconds": 3.0,
        "streamer_certificate_expires_timestamp_seconds": 3.0,
        "process_open_fds": 7.0,
        "build_info['1']": 2.0,
    }


def test_what_was_counted_stays() -> None:
    """Of a process that has ended; what it had open does not."""
    kept = counted(families_of(registry(3)))
    assert {family.name for family in kept} == {"sessions", "step"}


def test_labels_that_only_one_has() -> None:
    """Are those of the sum."""
    one, other = CollectorRegistry(), CollectorRegistry()
    for made, name in ((one, "0"), (other, "1")):
        Gauge("streamer_engine_alive", "Engine.", ["engine"], registry=made).labels(name).set(1)
    assert values(summed([families_of(one), families_of(other)])) == {
        "streamer_engine_alive['0']": 1.0,
        "streamer_engine_alive['1']": 1.0,
    }


def test_the_names_of_the_worst_are_names_of_gauges() -> None:
    """One that is renamed must be renamed here too."""
    made = CollectorRegistry()
    for metrics in (ConnectionMetrics, EngineMetrics, GatewayMetrics, LoopMetrics, ServiceMetrics, SocketMetrics):
        metrics(made)
    gauges = {family.name for family in families_of(made) if family.kind == "gauge"}

    assert {name for name in WORST if name.startswith(("streamer_", "whisper_"))} - gauges == {"streamer_build_info"}
