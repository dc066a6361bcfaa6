"""
A span for each step, by OpenTelemetry, for who already watches other services so. Needs the extra `otel`.

Where spans go is said by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT` and so on). They are sent by a
thread of the library; a collector that does not answer costs spans, never captions.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from streamer.errors import ConfigError
from streamer.extras import pip_install

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class StepTracer(Protocol):
    """What a worker needs."""

    def step(self, n_rows: int, n_final: int) -> AbstractContextManager[object]:
        """Around a step of so many rows, so many of them ends of turns."""


class NoSpans:
    """The default."""

    def step(self, n_rows: int, n_final: int) -> AbstractContextManager[object]:
        """Nothing."""
        return contextlib.nullcontext()


class OpenTelemetrySpans:
    """
    Args:
        provider: Makes tracers; None: one that exports by OTLP over HTTP.

    Raises:
        ConfigError: The extra is not installed.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = (provider or _exporting()).get_tracer("streamer")

    def step(self, n_rows: int, n_final: int) -> AbstractContextManager[object]:
        """A span named `step`."""
        return self._tracer.start_as_current_span("step", attributes={"rows": n_rows, "final_rows": n_final})


def _exporting() -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError(f"log.spans = true needs packages that are not installed: {pip_install('otel')}") from None
    provider = TracerProvider(resource=Resource.create({"service.name": "streamer"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
