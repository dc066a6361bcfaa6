"""A scheduler that is ready to serve, with its engines in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, Info, ProcessCollector

from streamer import __version__
from streamer.build.costs import cost_memory, costs_key, idle_costs, step_clocks
from streamer.build.engines import Engines, build_engines
from streamer.build.options import load_limits, recording_options, scheduler_options, window_options
from streamer.config import Config
from streamer.engine.recovery import RecoveringEngine
from streamer.errors import ConfigError
from streamer.protocol.options import SessionOptions
from streamer.scheduling.calibration import CostProbe, probes
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.idle_calibration import IdleCalibration
from streamer.scheduling.load import LoadMeter
from streamer.scheduling.recording import Recordings
from streamer.scheduling.reviser import Reviser
from streamer.scheduling.revision_decoder import RevisionDecoder, RevisionThread
from streamer.scheduling.scheduler import Scheduler
from streamer.scheduling.worker import Worker, WorkerOptions
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from streamer.telemetry.tracing import NoSpans, OpenTelemetrySpans
from streamer.text.languages import expected_language, known_language
from streamer.text.tokenizer import Tokenizer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that serving needs."""

    scheduler: Scheduler
    engine_metrics: EngineMetrics
    tokenizer: Tokenizer
    registry: CollectorRegistry


def build(config: Config, *, random_weights: bool = False) -> Service:
    """
    Load the weights, choose device and dtype, run a real decode, and find what a step costs.

    Args:
        config: The configuration.
        random_weights: Use random weights in the shape of the published model instead of its weights: for speed alone.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be loaded.
        ConfigError: The model does not know the configured languages, or a model for second passes does not fit it.
        EngineError: The configured device does not work.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    engines = build_engines(config, registry, random_weights=random_weights)
    check_session(config.session, engines.languages, [model.facts.name for model in engines.revisers])
    return build_scheduler(config, engines, registry)


def check_session(session: SessionOptions, languages: Sequence[str], revisers: Sequence[str]) -> None:
    """
    Check the options that sessions have by default.

    Args:
        session: The options.
        languages: Codes of the model.
        revisers: Names of the models for second passes.

    Raises:
        ConfigError: The model does not know a language, or the model for second passes is not loaded.
    """
    check_language(session.language, languages)
    for language in session.languages:
        if language not in languages:
            raise ConfigError(f'session.languages = "{language}": {expected_language(language, languages)}')
    if isinstance(session.revise, str) and session.revise not in revisers:
        raise ConfigError(
            f'session.revise = "{session.revise}": expected true, false or a loaded model: {", ".join(revisers)}'
        )


def check_language(language: str, languages: Sequence[str]) -> None:
    """
    Check the language that sessions have by default.

    Args:
        language: `auto` or a language code.
        languages: Codes of the model.

    Raises:
        ConfigError: The model does not know the language.
    """
    if known_language(language, languages) != language:
        raise ConfigError(f'session.language = "{language}": {expected_language(language, languages)}')


def build_scheduler(
    config: Config, engines: Engines, registry: CollectorRegistry, decoder: RevisionDecoder | None = None
) -> Service:
    """
    Find what a step costs, and make a worker for each engine and a scheduler over them.

    Args:
        config: The configuration.
        engines: Built from it.
        registry: Where the scheduler's metrics are published.
        decoder: Makes the second passes; None: a new one.
    """
    metrics = ServiceMetrics(registry)
    probe, clocks = CostProbe(engines.facts.n_mels, engines.options.max_batch), step_clocks(engines.model.device)
    memory = cost_memory(costs_key(engines), probe.n_rows)
    costs = idle_costs(engines.engines[0], probe, clocks, memory)
    meter = LoadMeter(load_limits(config), engines.options.max_batch, costs)
    decoder = decoder or RevisionDecoder(engines.revisers)
    workers = _workers(config, engines, metrics, meter, decoder)
    measured = config.scheduler.max_sessions == 0
    scheduler = Scheduler(
        engines.facts,
        workers,
        scheduler_options(config),
        window_options(config, engines.facts),
        metrics,
        Recordings(recording_options(config), lambda reason: metrics.recordings_stopped.labels(reason).inc()),
        Reviser(RevisionThread(decoder), metrics),
        background=[IdleCalibration(workers, meter, probe, clocks, memory).run] if measured else [],
    )
    _announce(engines, scheduler, registry)
    return Service(scheduler=scheduler, engine_metrics=engines.metrics, tokenizer=engines.tokenizer, registry=registry)


def _workers(
    config: Config, engines: Engines, metrics: ServiceMetrics, meter: LoadMeter, decoder: RevisionDecoder
) -> list[Worker]:
    """A worker for each engine; the gauges of memory read the engines that the workers have at the time."""
    [probe] = probes("health", engines.facts.n_mels, 1)
    recovering = [RecoveringEngine(engine, engines.new_engine, probe, metrics) for engine in engines.engines]
    engines.metrics.cache_sizes(lambda: [*(engine.cache_bytes for engine in recovering), *decoder.cache_bytes])
    tracer = OpenTelemetrySpans() if config.log.spans else NoSpans()
    decoders = [LocalDecoder(str(i), engine, meter, DeviceThread()) for i, engine in enumerate(recovering)]
    return [Worker(decoder, engines.front_end, WorkerOptions(), metrics, tracer) for decoder in decoders]


def _announce(engines: Engines, scheduler: Scheduler, registry: CollectorRegistry) -> None:
    """Log and publish what is running."""
    dtype = str(engines.model.dtype).removeprefix("torch.")
    running = {"model": engines.facts.name, "device": str(engines.model.device), "dtype": dtype}
    Info("streamer_build", "What is running.", registry=registry).info({"version": __version__, **running})
    log.info(
        "engine_ready",
        **running,
        workers=len(engines.engines),
        row_cost_ms=round(scheduler.statistics().row_cost_s * 1e3, 1),
        capacity=scheduler.capacity,
    )
