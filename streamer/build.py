"""From a configuration to a scheduler that is ready to serve: weights, arithmetic, warm-up, measured cost."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
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
from streamer.engine.calibration import measure_costs, probes
from streamer.engine.engine import WhisperEngine
from streamer.engine.loading import load_model, random_model
from streamer.engine.options import EngineOptions
from streamer.engine.random_engine import RandomEngine
from streamer.engine.recovery import RecoveringEngine
from streamer.errors import EngineError
from streamer.host.cpu import bfloat16_features, cpuinfo, physical_cores
from streamer.scheduling.load import LoadLimits, LoadMeter
from streamer.scheduling.recording import RecordingOptions, Recordings
from streamer.scheduling.scheduler import Scheduler, SchedulerOptions
from streamer.scheduling.worker import Worker, WorkerOptions
from streamer.session.audio_window import CATCH_UP_S, WindowOptions
from streamer.telemetry.metrics import EngineMetrics, ServiceMetrics
from streamer.telemetry.tracing import NoSpans, OpenTelemetrySpans
from streamer.text.tokenizer import Tokenizer

log = structlog.get_logger()

GROWING_MEMORY = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""What a GPU remembers of a window is a little longer with each step: in fixed segments every length leaves a hole."""
COMPILED_SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "512", "LRU_CACHE_CAPACITY": "64"}
"""
Compiled matrix products kept on a CPU, by the process and, before that, by each thread for each kind of product.

Each takes a tenth to a whole megabyte. Both defaults are 1,024: an hour of speech then adds 200 MB of products that are
never used again.
"""
MOST_ROWS = 64
"""Of one step on a GPU; twice as many make a row only a tenth cheaper, and everybody waits twice as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What serving needs."""

    scheduler: Scheduler
    engine_metrics: EngineMetrics
    tokenizer: Tokenizer
    registry: CollectorRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """What hears and decodes, before anything schedules it."""

    engines: Sequence[WhisperEngine]
    """One for each worker, on the same weights."""
    new_engine: Callable[[], WhisperEngine]
    """One more like them."""
    front_end: FrontEnd
    model: Whisper
    tokenizer: Tokenizer
    options: EngineOptions
    metrics: EngineMetrics


def build(config: Config, *, random_weights: bool = False) -> Service:
    """
    Load the weights, choose the arithmetic, run a real decode, and measure what a step costs.

    Args:
        config: Everything that can be set.
        random_weights: Take the shape of the published size of this name instead of its weights; for speed alone.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be had.
        EngineError: The device that was asked for does not work.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return build_scheduler(config, build_engines(config, registry, random_weights=random_weights), registry)


def build_scheduler(config: Config, decoders: Engines, registry: CollectorRegistry) -> Service:
    """Workers for these decoders and a scheduler over them, after a measurement of what a step costs."""
    model, options = decoders.model, decoders.options
    worker_options, metrics = WorkerOptions(), ServiceMetrics(registry)
    decoders.metrics.cache_sizes(lambda: [engine.cache_bytes for engine in decoders.engines])
    fixed_s, row_s = measure_costs(decoders.engines[0], model.dims.n_mels)
    tracer = OpenTelemetrySpans() if config.log.spans else NoSpans()
    workers = [
        Worker(
            RecoveringEngine(engine, decoders.new_engine, probes(model.dims.n_mels, 1)[0], metrics),
            decoders.front_end,
            LoadMeter(_limits(config), options.max_batch, fixed_s, row_s),
            worker_options,
            metrics,
            tracer,
        )
        for engine in decoders.engines
    ]
    scheduler = Scheduler(
        config.model.name,
        workers,
        decoders.tokenizer,
        model.dims.n_mels,
        SchedulerOptions(
            max_sessions=config.scheduler.max_sessions,
            max_backlog_s=config.server.max_backlog_s,
            max_unread=config.limits.max_unread_events,
            max_per_caller=config.limits.max_sessions_per_key,
            resume_s=config.server.resume_s,
        ),
        window_options(config, model),
        metrics,
        Recordings(_recording_options(config), lambda reason: metrics.recordings_stopped.labels(reason).inc()),
    )
    dtype = str(model.dtype).removeprefix("torch.")
    about = {"version": __version__, "model": config.model.name, "device": str(model.device), "dtype": dtype}
    Info("streamer_build", "What is running.", registry=registry).info(about)
    log.info(
        "engine_ready",
        model=config.model.name,
        device=str(model.device),
        dtype=dtype,
        workers=len(workers),
        row_cost_ms=round(scheduler.statistics().row_cost_s * 1e3, 1),
        capacity=scheduler.capacity,
    )
    return Service(
        scheduler=scheduler, engine_metrics=decoders.metrics, tokenizer=decoders.tokenizer, registry=registry
    )


def build_engines(config: Config, registry: CollectorRegistry, *, random_weights: bool = False) -> Engines:
    """
    Load the weights and choose the arithmetic; nothing is run yet.

    Raises:
        As `build`.
    """
    for name, value in (COMPILED_SHAPES | GROWING_MEMORY).items():  # read at the first product and the first allocation
        os.environ.setdefault(name, value)
    device = choose_device(config.model)
    n_workers = 1 if device.type == "cuda" else config.model.threads or physical_cores()
    # this thread builds and measures on behalf of a worker, so it works like one
    torch.set_num_threads(1)
    dtype = choose_dtype(config.model, device)
    load, engine_type = (random_model, RandomEngine) if random_weights else (load_model, WhisperEngine)
    model, tokenizer = load(config.model.name, dtype, device)
    options, metrics = _engine_options(config, model), EngineMetrics(registry)
    new_engine = functools.partial(engine_type, model, tokenizer, options, metrics)
    return Engines(
        engines=[new_engine() for _ in range(n_workers)],
        new_engine=new_engine,
        front_end=FrontEnd(MelSpectrogram(model.dims.n_mels, device), VoiceDetector(read_weights(), device)),
        model=model,
        tokenizer=tokenizer,
        options=options,
        metrics=metrics,
    )


def window_options(config: Config, model: Whisper) -> WindowOptions:
    """How much sound a step of these sessions sees, and how late its words are."""
    lag_s = weights.alignment_lag_s(model.dims, model.decoder.alignment_heads)
    return WindowOptions(max_window_s=config.scheduler.max_window_s, alignment_lag_s=lag_s)


def rows_that_fit(dims: ModelDimensions, free_bytes: int, dtype: torch.dtype) -> int:
    """
    Rows of one step on a GPU: as many as fill it, if what they attend to takes no more than a quarter of its memory.

    A row lays out the keys and values of a window for the encoder and for the decoder, and those of its text.
    """
    encoder = dims.n_audio_layer * dims.n_audio_state * dims.n_audio_ctx
    decoder = dims.n_text_layer * dims.n_text_state * (dims.n_audio_ctx + dims.n_text_ctx)
    row_bytes = 2 * dtype.itemsize * (encoder + decoder)
    return max(1, min(MOST_ROWS, free_bytes // 4 // row_bytes))


def _engine_options(config: Config, model: Whisper) -> EngineOptions:
    options = EngineOptions(
        max_window_s=config.scheduler.max_window_s + CATCH_UP_S,
        kv_reuse=config.scheduler.kv_reuse == "committed",
    )
    if model.device.type == "cuda":
        free_bytes, _ = torch.cuda.mem_get_info(model.device)
        max_batch = rows_that_fit(model.dims, free_bytes, model.dtype)
        options = replace(options, max_batch=max_batch, max_remembered=4096, max_remembered_bytes=free_bytes // 2)
    return options


def _recording_options(config: Config) -> RecordingOptions:
    megabyte = 10**6
    return RecordingOptions(
        folder=Path(config.recording.folder) if config.recording.folder else None,
        max_session_bytes=config.recording.max_session_mb * megabyte,
        max_folder_bytes=config.recording.max_folder_mb * megabyte,
    )


def _limits(config: Config) -> LoadLimits:
    return LoadLimits(
        min_interval_s=config.scheduler.step_interval_ms / 1e3,
        max_interval_s=config.scheduler.max_step_interval_ms / 1e3,
    )


def choose_device(config: ModelConfig) -> torch.device:
    """
    The device asked for, or the best there is.

    Raises:
        EngineError: A GPU was asked for and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("model.device = cuda, but torch sees no GPU: install its driver and a CUDA build of torch")
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def choose_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """The arithmetic asked for; `auto` is float16 on a GPU, and bfloat16 on a CPU that multiplies it natively."""
    if config.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[config.dtype]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if bfloat16_features(cpuinfo()) else torch.float32
