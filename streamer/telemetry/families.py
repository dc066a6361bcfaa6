"""Metrics of several processes as plain values, and their sum: each series once, as if there were one process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

WORST = frozenset(
    {
        "process_max_fds",
        "process_open_fds",
        "streamer_backlog_seconds",
        "streamer_build_info",
        "streamer_capacity_sessions",
        "streamer_engine_alive",
        "streamer_engine_resident_memory_bytes",
        "streamer_lag_seconds",
        "streamer_loop_held_longest_seconds",
        "streamer_step_interval_seconds",
        "streamer_unread_events",
        "whisper_attention_memory_bytes",
        "whisper_kv_cache_size_bytes",
    }
)
"""Gauges of which the largest counts: what all processes see of one thing, and what tells of the worst."""
FIRST = ("process_start_time_seconds", "streamer_certificate_expires_timestamp_seconds", "_created")
"""Ends of the names of samples of which the smallest counts: times."""
COUNTED = ("counter", "histogram", "summary")
"""Kinds of metrics that only grow: what a process has counted stays counted when it ends."""


class Value(msgspec.Struct, frozen=True, array_like=True):
    """One sample."""

    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True):
    """One metric with its samples."""

    name: str
    documentation: str
    kind: str
    values: tuple[Value, ...]


def families_of(registry: CollectorRegistry) -> tuple[Family, ...]:
    """All metrics of a registry as they are now."""
    return tuple(
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            tuple(Value(sample.name, dict(sample.labels), float(sample.value)) for sample in metric.samples),
        )
        for metric in registry.collect()
    )


def summed(parts: Iterable[Sequence[Family]]) -> tuple[Family, ...]:
    """
    The metrics of several processes as those of one.

    Args:
        parts: Those of each process.
    """
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Value]] = {}
    for family in (family for part in parts for family in part):
        families.setdefault(family.name, family)
        known = values.setdefault(family.name, {})
        for value in family.values:
            key = value.name, tuple(sorted(value.labels.items()))
            known[key] = _joined(known[key], value) if key in known else value
    return tuple(
        msgspec.structs.replace(family, values=tuple(values[name].values())) for name, family in families.items()
    )


def _joined(one: Value, other: Value) -> Value:
    if one.name in WORST:
        value = max(one.value, other.value)
    elif one.name.endswith(FIRST):
        value = min(one.value, other.value)
    else:
        value = one.value + other.value
    return Value(one.name, one.labels, value)


def counted(families: Sequence[Family]) -> tuple[Family, ...]:
    """What stays of the metrics of a process that has ended."""
    return tuple(family for family in families if family.kind in COUNTED)


def text_of(families: Sequence[Family]) -> bytes:
    """The text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.documentation, family.kind)
            for value in family.values:
                metric.add_sample(value.name, value.labels, value.value)
            yield metric

    def describe(self) -> Iterable[Metric]:
        return ()
