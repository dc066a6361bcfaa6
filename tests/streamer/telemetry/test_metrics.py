"""Tests of streamer/telemetry/metrics.py: names that dashboards rely on, and what is observed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streamer.telemetry.metrics import DecoderPass, EngineMetrics, ServiceMetrics, StepTimes


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


STEP = StepTimes(
    encode_s=0.12,
    detect_s=None,
    passes=[
        DecoderPass(kind="verify", seconds=0.020, n_rows=3, n_drafted=7),
        DecoderPass(kind="decode", seconds=0.004, n_rows=1),
    ],
    align_s=0.003,
    rows=[(0.020, 0), (0.020, 1), (0.024, 4)],
)
"""Three rows: one only confirms its draft, one decides a token in the first pass, one decides four in two passes."""


def test_token_latency_is_for_newly_decided_tokens() -> None:
    """A row's passes are shared among its new tokens; a row without new tokens is no observation."""
    registry = CollectorRegistry()
    metrics = EngineMetrics(registry)
    metrics.stepped(STEP)
    assert value(registry, "whisper_decoder_token_latency_ms_count") == 5
    assert value(registry, "whisper_decoder_token_latency_ms_sum") == pytest.approx(20.0 + 24.0)
    assert value(registry, "whisper_decoder_token_latency_ms_bucket", le="10.0") == 4
    assert metrics.recent_token_ms() == pytest.approx([20.0, 6.0, 6.0, 6.0, 6.0])


def test_passes_have_metrics_of_their_own() -> None:
    """Each pass of the decoder is one observation of its kind, with its rows and draft tokens counted."""
    registry = CollectorRegistry()
    EngineMetrics(registry).stepped(STEP)
    assert value(registry, "whisper_decoder_pass_latency_ms_sum", kind="verify") == pytest.approx(20.0)
    assert value(registry, "whisper_decoder_pass_latency_ms_sum", kind="decode") == pytest.approx(4.0)
    assert value(registry, "streamer_decoder_passes_total") == 2
    assert value(registry, "streamer_decoder_rows_total") == 4
    assert value(registry, "streamer_draft_tokens_total") == 7


def test_encoder_latency_is_for_one_pass() -> None:
    """A pass over the windows of several rows is one observation of all its time: every row waits for it."""
    registry = CollectorRegistry()
    metrics = EngineMetrics(registry)
    metrics.stepped(STEP)
    assert value(registry, "whisper_encoder_forward_latency_ms_count") == 1
    assert value(registry, "whisper_encoder_forward_latency_ms_sum") == pytest.approx(120.0)
    assert metrics.recent_encoder_ms() == pytest.approx([120.0])


def test_alignment_and_language_detection_are_measured() -> None:
    """Word times in every step; detection only in steps with rows that ask for it."""
    registry = CollectorRegistry()
    metrics = EngineMetrics(registry)
    metrics.stepped(STEP)
    assert value(registry, "whisper_alignment_latency_ms_sum") == pytest.approx(3.0)
    assert value(registry, "whisper_language_detection_latency_ms_count") == 0

    metrics.stepped(replace(STEP, detect_s=0.005))
    assert value(registry, "whisper_language_detection_latency_ms_sum") == pytest.approx(5.0)


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
