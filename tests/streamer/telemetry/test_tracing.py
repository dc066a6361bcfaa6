"""Tests of streamer/telemetry/tracing.py."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streamer.errors import ConfigError
from streamer.telemetry.tracing import OpenTelemetrySpans
from tests.helpers.scripted_engine import recite, serving, story


async def test_a_span_for_each_step() -> None:
    """How many rows it had, and how many of them ended a turn."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with serving(tracer=OpenTelemetrySpans(provider)) as service:
        await recite(service.open(), story(10))
    spans = exporter.get_finished_spans()
    provider.shutdown()

    assert len(spans) == service.worker.n_steps
    assert {span.name for span in spans} == {"step"}
    assert {span.attributes["rows"] for span in spans} == {1}
    n_final = sum(asked.final for batch in service.engine.batches for asked in batch)
    assert sum(span.attributes["final_rows"] for span in spans) == n_final


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(ConfigError, match=r"log\.spans = true needs packages .*: .* -m pip install 'opentelemetry-sdk"):
        OpenTelemetrySpans()
