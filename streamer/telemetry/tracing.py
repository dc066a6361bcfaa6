"""
An OpenTelemetry span for each step. Needs the extra `otel`.

OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT` and so on) say where spans go. A thread of the library
sends them: a collector that does not answer loses spans and never delays captions.
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
    """Makes a span for each step of a worker."""

    def step(self, n_rows: int, n_final: int) -> AbstractContextManager[object]:
        """A context manager around a step of `n_rows` rows, `n_final` of which end turns."""


class NoSpans:
    """Makes no spans: the default."""

    def step(self, n_rows: int, n_final: int) -> AbstractContextManager[object]:
        """A context manager that does nothing."""
        return contextlib.nullcontext()


class OpenTelemetrySpans:
    """
    Makes OpenTelemetry spans.

    Args:
        provider: Provider of tracers; None: a new one that exports by OTLP over HTTP.

    Raises:
        ConfigError: The extra `otel` is not installed.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = (provider or _exporting()).get_tracer("streamer")

    def step(self, n_rows: int, n_final: int) -> AbstractContextManager[object]:
        """A context manager of a span named `step`, with the number of rows and of rows that end turns."""
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
