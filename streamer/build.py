"""Build a scheduler that is ready to serve from a configuration: weights, device, dtype, warm-up, measured cost."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch
from prometheus_client import CollectorRegistry, Info, ProcessCollector

from model import ModelDimensions, Whisper
from streamer import __version__, weights
from streamer.audio.frontend import FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.config import Config, ModelConfig
from streamer.engine.engine import WhisperEngine
from streamer.engine.loading import load_model, random_model
from streamer.engine.options import EngineOptions
from streamer.engine.random_engine import RandomEngine
from streamer.engine.recovery import RecoveringEngine
from streamer.errors import ConfigError, EngineError
from streamer.host.cpu import bfloat16_features, cpu_name, cpuinfo, physical_cores
from streamer.protocol.options import SessionOptions
from streamer.scheduling.calibration import Clocks, CostProbe, measure_costs, probes
from streamer.scheduling.cost_memory import CostMemory
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.idle_calibration import IdleCalibration
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.options import SchedulerOptions
from streamer.scheduling.recording import RecordingOptions, Recordings
from streamer.scheduling.reviser import Reviser
from streamer.scheduling.revision_decoder import RevisingModel, RevisionDecoder, RevisionThread
from streamer.scheduling.scheduler import Scheduler
from streamer.scheduling.worker import Worker, WorkerOptions
from streamer.session.audio_window import CATCH_UP_S, WindowOptions
from streamer.session.spec import ModelFacts
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics, StepObserver
from streamer.telemetry.tracing import NoSpans, OpenTelemetrySpans
from streamer.text.languages import expected_language, known_language
from streamer.text.tokenizer import Tokenizer

log = structlog.get_logger()

GROWING_MEMORY = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""Cached windows grow a little with each step: with segments of fixed sizes, every length would leave a hole."""
COMPILED_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "512", "LRU_CACHE_CAPACITY": "64"}
"""
Bounds of oneDNN's caches of compiled matrix products on a CPU: of the process, and of each thread and kind of product.

A product takes 0.1 to 1 MB. Both defaults are 1,024, which makes an hour of speech add 200 MB of products that are not
used again.
"""
MOST_ROWS = 64
"""Largest step on a GPU: twice as many rows make a row only a tenth cheaper, and every session waits twice as long."""
MEGABYTE = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that serving needs."""

    scheduler: Scheduler
    engine_metrics: EngineMetrics
    tokenizer: Tokenizer
    registry: CollectorRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The loaded model with an engine for each worker, not scheduled yet."""

    engines: Sequence[WhisperEngine]
    """One for each worker, on the same weights. A scheduler replaces them when their device fails: to free their
    memory, this object must not outlive its building."""
    new_engine: Callable[[], WhisperEngine]
    """Makes one more engine on the same weights."""
    front_end: FrontEnd
    model: Whisper
    facts: ModelFacts
    options: EngineOptions
    metrics: EngineMetrics
    revisers: Sequence[RevisingModel]
    """Models for second passes, the default one first."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return self.facts.tokenizer

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model knows."""
        return tuple(self.facts.tokenizer.languages)


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


def build_engines(
    config: Config, registry: CollectorRegistry, *, random_weights: bool = False, observer: StepObserver | None = None
) -> Engines:
    """
    Load the weights, choose device and dtype, and make an engine for each worker; nothing runs yet.

    Args:
        config: The configuration.
        registry: Where the engines' metrics are published.
        random_weights: See `build`.
        observer: Told of every step in place of these metrics.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be loaded.
        ConfigError: The model for second passes has another number of mel bands.
        EngineError: The configured device does not work.
    """
    for name, value in (COMPILED_SHAPES | GROWING_MEMORY).items():  # read at the first product and the first allocation
        os.environ.setdefault(name, value)
    device = choose_device(config.model)
    n_workers = 1 if device.type == "cuda" else config.model.threads or physical_cores()
    # this thread builds and measures on behalf of a worker, so it computes like a worker
    torch.set_num_threads(1)
    dtype = choose_dtype(config.model, device)
    load, engine_type = (random_model, RandomEngine) if random_weights else (load_model, WhisperEngine)
    model, tokenizer = load(config.model.name, dtype, device, rounds_encoder=config.model.encoder != "exact")
    # before the options: on a GPU, what it takes is not free for the caches of live sessions
    second = second_model(config, model.dims.n_mels, dtype, device)
    options, metrics = engine_options(config, model), EngineMetrics(registry)
    new_engine = functools.partial(engine_type, model, tokenizer, options, observer or metrics)
    return Engines(
        engines=[new_engine() for _ in range(n_workers)],
        new_engine=new_engine,
        front_end=FrontEnd(MelSpectrogram(model.dims.n_mels, device), VoiceDetector(read_weights(), device)),
        model=model,
        facts=model_facts(config.model.name, model, tokenizer),
        options=options,
        metrics=metrics,
        revisers=[
            revising_model(facts, network, options, config.revise.beams, engine_type)
            for facts, network in (*second, (model_facts(config.model.name, model, tokenizer), model))
        ],
    )


def model_facts(name: str, model: Whisper, tokenizer: Tokenizer) -> ModelFacts:
    """
    What sessions know of a model.

    Args:
        name: As in the configuration.
        model: Loaded.
        tokenizer: Of the same checkpoint.
    """
    lag_s = weights.alignment_lag_s(model.dims, model.decoder.alignment_heads)
    return ModelFacts(name=name, tokenizer=tokenizer, n_mels=model.dims.n_mels, alignment_lag_s=lag_s)


def second_model(
    config: Config, n_mels: int, dtype: torch.dtype, device: torch.device
) -> list[tuple[ModelFacts, Whisper]]:
    """
    The model that is configured for second passes, loaded; none where that is the first model.

    Args:
        config: The configuration.
        n_mels: Mel bands of the first model, whose frames both read.
        dtype: Of its weights.
        device: Where it runs.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be loaded.
        ConfigError: It has another number of mel bands.
    """
    name = config.revise.model
    if name in ("", config.model.name):
        return []
    model, tokenizer = load_model(name, dtype, device)
    if model.dims.n_mels != n_mels:
        raise ConfigError(
            f'revise.model = "{name}" has {model.dims.n_mels} mel bands: expected {n_mels}, as {config.model.name}; '
            "large-v3 and large-v3-turbo have 128, all other sizes 80"
        )
    return [(model_facts(name, model, tokenizer), model)]


def revising_model(
    facts: ModelFacts,
    model: Whisper,
    options: EngineOptions,
    beams: int,
    engine_type: type[WhisperEngine] = WhisperEngine,
) -> RevisingModel:
    """
    A loaded model as one for second passes; its engine is built when it is needed, and is in no metric of live steps.

    Args:
        facts: Of the model.
        model: Its network.
        options: Of the live engines.
        beams: Hypotheses of its beam search; 1: greedy decoding.
        engine_type: The class of its engine.
    """
    alone = replace(options, max_batch=1, beams=beams, max_window_s=30.0, settle_s=None, kv_reuse=False, captures=False)
    metrics = EngineMetrics(CollectorRegistry())
    return RevisingModel(facts=facts, new_engine=functools.partial(engine_type, model, facts.tokenizer, alone, metrics))


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
        IdleCalibration(workers, meter, probe, clocks, memory) if measured else None,
        reviser=Reviser(RevisionThread(decoder), metrics),
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


def idle_costs(engine: WhisperEngine, probe: CostProbe, clocks: Clocks, memory: CostMemory) -> StepCosts:
    """
    Costs of the idle machine: those that earlier starts remember, otherwise measured now.

    In either case a real step has proved that decoding works. What is remembered is measured again as soon as nobody
    speaks (`IdleCalibration`).

    Args:
        engine: Runs the probe.
        probe: The steps to measure.
        clocks: What measures them.
        memory: Of earlier starts; remembers this one too.

    Raises:
        EngineError: A step failed.
    """
    remembered = memory.recall()
    if remembered:
        probe.prove(engine)
        return remembered
    measured = measure_costs(engine, probe, clocks)
    memory.note(measured)
    return measured


def cost_memory(key: Mapping[str, str], n_rows: int) -> CostMemory:
    """What earlier starts measured, for what the costs depend on (`costs_key`) and a step of so many rows."""
    return CostMemory(weights.default_store().parent / "costs", key, n_rows)


def step_clocks(device: torch.device) -> Clocks:
    """Clocks for steps on this device: where it is the CPU, other work on the machine hardly adds to thread time."""
    return Clocks() if device.type == "cpu" else Clocks(work=time.perf_counter)


def costs_key(engines: Engines) -> dict[str, str]:
    """What the cost of a step depends on: machine, shape of the network, arithmetic, and versions."""
    model, options = engines.model, engines.options
    gpu = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else "no GPU"
    return {
        "machine": f"{cpu_name(cpuinfo())}, {physical_cores()} cores, {gpu}",
        "model": repr(model.dims),
        "engine": type(engines.engines[0]).__name__,
        "options": f"{options.max_batch} rows, {options.max_window_s} s, kv_reuse {options.kv_reuse}",
        "dtype": str(model.dtype).removeprefix("torch."),
        "encoder": "8-bit" if model.encoder.is_rounded else "exact",
        "version": f"{__version__}, torch {torch.__version__}",
    }


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


# --- from the sections of the configuration to the options of each component


def scheduler_options(config: Config) -> SchedulerOptions:
    """The bounds of all sessions."""
    return SchedulerOptions(
        max_sessions=config.scheduler.max_sessions,
        max_backlog_s=config.server.max_backlog_s,
        max_unread=config.limits.max_unread_events,
        max_per_caller=config.limits.max_sessions_per_key,
        resume_s=config.server.resume_s,
    )


def load_limits(config: Config) -> LoadLimits:
    """The bounds of the step interval."""
    return LoadLimits(
        min_interval_s=config.scheduler.step_interval_ms / 1e3,
        max_interval_s=config.scheduler.max_step_interval_ms / 1e3,
    )


def recording_options(config: Config) -> RecordingOptions:
    """Where sessions are recorded, and the bounds of recordings."""
    return RecordingOptions(
        folder=Path(config.recording.folder) if config.recording.folder else None,
        max_session_bytes=config.recording.max_session_mb * MEGABYTE,
        max_folder_bytes=config.recording.max_folder_mb * MEGABYTE,
    )


def window_options(config: Config, facts: ModelFacts) -> WindowOptions:
    """How much audio a step sees, and the delay of the model's word times."""
    return WindowOptions(max_window_s=config.scheduler.max_window_s, alignment_lag_s=facts.alignment_lag_s)


def engine_options(config: Config, model: Whisper) -> EngineOptions:
    """Sizes of an engine; on a GPU they fit the memory that is free."""
    options = EngineOptions(
        max_window_s=config.scheduler.max_window_s + CATCH_UP_S,
        kv_reuse=config.scheduler.kv_reuse == "committed",
    )
    if model.device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(model.device)
        max_batch = rows_that_fit(model.dims, free_bytes, model.dtype)
        options = replace(options, max_batch=max_batch, max_remembered=4096, max_remembered_bytes=free_bytes // 2)
    return options


def rows_that_fit(dims: ModelDimensions, free_bytes: int, dtype: torch.dtype) -> int:
    """
    Rows of one step on a GPU: their keys and values take at most a quarter of its free memory.

    A row holds the keys and values of a window in the encoder and in the decoder, and those of its text.

    Args:
        dims: Of the model.
        free_bytes: Memory that is free once the weights are loaded.
        dtype: Of the keys and values.
    """
    encoder = dims.n_audio_layer * dims.n_audio_state * dims.n_audio_ctx
    decoder = dims.n_text_layer * dims.n_text_state * (dims.n_audio_ctx + dims.n_text_ctx)
    row_bytes = 2 * dtype.itemsize * (encoder + decoder)
    return max(1, min(MOST_ROWS, free_bytes // 4 // row_bytes))


def choose_device(config: ModelConfig) -> torch.device:
    """
    The configured device; `auto` is the GPU if there is one.

    Raises:
        EngineError: A GPU is configured and torch sees none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("model.device = cuda, but torch sees no GPU: install its driver and a CUDA build of torch")
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def choose_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """The configured dtype; `auto` is float16 on a GPU, bfloat16 on a CPU that multiplies it natively, else float32."""
    if config.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[config.dtype]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if bfloat16_features(cpuinfo()) else torch.float32
