"""Tests of streamer/telemetry/metrics.py: names that dashboards rely on, and what is observed."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """A sample by name."""
    return registry.get_sample_value(name, labels)


def test_published_names() -> None:
    """The four names of the contract are published, with their types, from the first scrape on."""
    registry = CollectorRegistry()
    EngineMetrics(registry)
    exposition = generate_latest(registry).decode()
    for name, kind in (
        ("whisper_encoder_forward_latency_ms", "histogram"),
        ("whisper_decoder_token_latency_ms", "histogram"),
        ("whisper_attention_memory_bytes", "gauge"),
        ("whisper_kv_cache_size_bytes", "gauge"),
    ):
        assert f"# TYPE {name} {kind}\n" in exposition


def test_service_names() -> None:
    """Session, queue, lag, step and capacity metrics stand beside them without a clash."""
    registry = CollectorRegistry()
    EngineMetrics(registry)
    ServiceMetrics(registry)
    exposition = generate_latest(registry).decode()
    names = ("sessions", "capacity_sessions", "step_queue", "lag_seconds", "step_latency_ms", "commit_latency_seconds")
    for name in names:
        assert f"# TYPE streamer_{name} " in exposition


def test_token_latency() -> None:
    """A pass is one observation in milliseconds, with its rows and guesses counted."""
    registry = CollectorRegistry()
    metrics = EngineMetrics(registry)
    metrics.decoded(0.004, n_rows=3, n_drafted=7)
    metrics.decoded(0.020, n_rows=1, n_drafted=0)
    assert value(registry, "whisper_decoder_token_latency_ms_count") == 2
    assert value(registry, "whisper_decoder_token_latency_ms_sum") == pytest.approx(24.0)
    assert value(registry, "whisper_decoder_token_latency_ms_bucket", le="10.0") == 1
    assert value(registry, "streamer_decoder_passes_total") == 2
    assert value(registry, "streamer_decoder_rows_total") == 4
    assert value(registry, "streamer_draft_tokens_total") == 7
    assert metrics.recent_token_ms() == pytest.approx([4.0, 20.0])


def test_encoder_latency_is_for_one_window() -> None:
    """Windows encoded together count one each, with an even share of the time."""
    registry = CollectorRegistry()
    EngineMetrics(registry).encoded(0.12, n_windows=4)
    assert value(registry, "whisper_encoder_forward_latency_ms_count") == 4
    assert value(registry, "whisper_encoder_forward_latency_ms_sum") == pytest.approx(120.0)


def test_cache_sizes() -> None:
    """Self-attention and cross-attention are told apart, and the engines of all workers summed."""
    registry = CollectorRegistry()
    EngineMetrics(registry).cache_sizes(lambda: [(10, 20), (1, 2)])
    assert value(registry, "whisper_kv_cache_size_bytes") == 11
    assert value(registry, "whisper_attention_memory_bytes") == 22


def test_registries_are_independent() -> None:
    """Two daemons in one process do not share their numbers."""
    one, other = CollectorRegistry(), CollectorRegistry()
    ServiceMetrics(one).words.inc()
    ServiceMetrics(other)
    assert value(one, "streamer_words_total") == 1
    assert value(other, "streamer_words_total") == 0
