"""From a configuration to a scheduler that is ready to serve: weights, arithmetic, warm-up, measured cost."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch
from prometheus_client import CollectorRegistry, Info, ProcessCollector

from model import PUBLISHED_DIMENSIONS, ModelDimensions, Whisper, published_shapes
from streamer import __version__, weights
from streamer.config import Config, ModelConfig
from streamer.engine import WhisperEngine
from streamer.engine_options import EngineOptions
from streamer.errors import EngineError, ModelNotFoundError
from streamer.frontend import FrontEnd
from streamer.lane import Lane, LaneOptions
from streamer.load import LoadLimits, LoadMeter
from streamer.machine import bfloat16_features, cpuinfo, physical_cores
from streamer.mel import FRAMES_PER_SECOND, MelSpectrogram
from streamer.metrics import EngineMetrics, ServiceMetrics
from streamer.recording import RecordingOptions, Recordings
from streamer.recovery import RecoveringEngine
from streamer.scheduler import Scheduler, SchedulerOptions
from streamer.sound_window import CATCH_UP_S, WindowOptions
from streamer.stand_in import StandInEngine
from streamer.step import StepRequest
from streamer.tokenizer import Tokenizer
from streamer.tracing import NoSpans, OpenTelemetrySpans
from streamer.vad import VoiceDetector, read_weights

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
PROBE_WINDOWS_S = (5.0, 6.0, 7.0, 8.0)
"""A window as it grows under load, for the warm-up and the measurement of a step's cost."""
PROBE_PREFIX = 14
"""Committed tokens in it."""
PROBE_DRAFT = 6
"""Tokens of a typical hypothesis after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What serving needs."""

    scheduler: Scheduler
    engine_metrics: EngineMetrics
    tokenizer: Tokenizer
    registry: CollectorRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoders:
    """What hears and decodes, before anything schedules it."""

    engines: Sequence[WhisperEngine]
    """One for each lane, on the same weights."""
    new_engine: Callable[[], WhisperEngine]
    """One more like them."""
    front_end: FrontEnd
    model: Whisper
    tokenizer: Tokenizer
    options: EngineOptions
    metrics: EngineMetrics


def build(config: Config, *, random_weights: bool = False) -> Parts:
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
    return schedule(config, build_decoders(config, registry, random_weights=random_weights), registry)


def schedule(config: Config, decoders: Decoders, registry: CollectorRegistry) -> Parts:
    """Lanes for these decoders and a scheduler over them, after a measurement of what a step costs."""
    model, options = decoders.model, decoders.options
    lane_options, metrics = LaneOptions(), ServiceMetrics(registry)
    decoders.metrics.cache_sizes(lambda: [engine.cache_bytes for engine in decoders.engines])
    fixed_s, row_s = measure_costs(decoders.engines[0], model.dims.n_mels)
    tracer = OpenTelemetrySpans() if config.log.spans else NoSpans()
    lanes = [
        Lane(
            RecoveringEngine(engine, decoders.new_engine, probes(model.dims.n_mels, 1)[0], metrics),
            decoders.front_end,
            LoadMeter(_limits(config), options.max_batch, fixed_s, row_s),
            lane_options,
            metrics,
            tracer,
        )
        for engine in decoders.engines
    ]
    scheduler = Scheduler(
        config.model.name,
        lanes,
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
        lanes=len(lanes),
        row_cost_ms=round(scheduler.statistics().row_cost_s * 1e3, 1),
        capacity=scheduler.capacity,
    )
    return Parts(scheduler=scheduler, engine_metrics=decoders.metrics, tokenizer=decoders.tokenizer, registry=registry)


def build_decoders(config: Config, registry: CollectorRegistry, *, random_weights: bool = False) -> Decoders:
    """
    Load the weights and choose the arithmetic; nothing is run yet.

    Raises:
        As `build`.
    """
    for name, value in (COMPILED_SHAPES | GROWING_MEMORY).items():  # read at the first product and the first allocation
        os.environ.setdefault(name, value)
    device = choose_device(config.model)
    n_lanes = 1 if device.type == "cuda" else config.model.threads or physical_cores()
    # this thread builds and measures on behalf of a lane, so it works like one
    torch.set_num_threads(1)
    dtype = choose_dtype(config.model, device)
    load, engine_type = (random_model, StandInEngine) if random_weights else (load_model, WhisperEngine)
    model, tokenizer = load(config.model.name, dtype, device)
    options, metrics = _engine_options(config, model), EngineMetrics(registry)
    new_engine = functools.partial(engine_type, model, tokenizer, options, metrics)
    return Decoders(
        engines=[new_engine() for _ in range(n_lanes)],
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


def load_model(name: str, dtype: torch.dtype, device: torch.device) -> tuple[Whisper, Tokenizer]:
    """
    The network and the tokenizer of a model name or path.

    Raises:
        ModelNotFoundError, CheckpointError: The weights cannot be had.
    """
    checkpoint = weights.load(weights.resolve(name))
    model = Whisper.from_tensors(
        checkpoint.dims,
        checkpoint.tensors,
        alignment_heads=checkpoint.alignment_heads,
        dtype=dtype,
        device=device,
    )
    return model, weights.load_tokenizer(checkpoint)


def random_model(name: str, dtype: torch.dtype, device: torch.device) -> tuple[Whisper, Tokenizer]:
    """
    A network of a published size with random weights: right in speed, wrong in text.

    Raises:
        ModelNotFoundError: No such size.
        CheckpointError: No vocabulary is on this machine.
    """
    if name not in PUBLISHED_DIMENSIONS:
        sizes = ", ".join(PUBLISHED_DIMENSIONS)
        raise ModelNotFoundError(f"no published size {name!r}: random weights need one of {sizes}")
    dims = PUBLISHED_DIMENSIONS[name]
    generator = torch.Generator(device).manual_seed(0)
    tensors = {
        key: torch.randn(shape, generator=generator, device=device, dtype=dtype) * 0.02
        for key, shape in published_shapes(dims).items()
    }
    heads = weights.published_alignment_heads(name, dims)
    model = Whisper.from_tensors(dims, tensors, alignment_heads=heads, dtype=dtype, device=device)
    return model, weights.build_tokenizer(weights.find_vocabulary(dims), dims.n_vocab)


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


def probes(n_mels: int, n_rows: int, window_s: float = PROBE_WINDOWS_S[0]) -> list[StepRequest]:
    """Typical requests, which any healthy engine answers; longer ones of one session go on with its window."""
    generator = torch.Generator().manual_seed(0)
    sound = torch.randn(n_rows, int(PROBE_WINDOWS_S[-1] * FRAMES_PER_SECOND), n_mels, generator=generator) - 1.0
    return [
        StepRequest(
            session=f"probe-{row}",
            log_mel=log_mel[: int(window_s * FRAMES_PER_SECOND)].T,
            window_start=0,
            prefix=tuple(range(1000, 1000 + PROBE_PREFIX)),
            draft=tuple(range(2000, 2000 + PROBE_DRAFT)),
            language="en",
        )
        for row, log_mel in enumerate(sound)
    ]


def measure_costs(engine: WhisperEngine, n_mels: int) -> tuple[float, float]:
    """
    Device time of a typical step: its fixed part and what each row adds, seconds.

    The first step is the warm-up, and proves that a decode works. The fastest of several counts: load on the machine
    only ever adds to them, and the meter follows what steps really cost later.
    """
    n_rows = -(-engine.options.max_batch // 2)
    one_s = _fastest_s(engine, n_mels, 1)
    all_s = max(_fastest_s(engine, n_mels, n_rows), one_s)
    row_s = (all_s - one_s) / (n_rows - 1) if n_rows > 1 else one_s
    return max(one_s - row_s, 0.0), max(row_s, one_s / (4 * n_rows))


def _fastest_s(engine: WhisperEngine, n_mels: int, n_rows: int) -> float:
    """Of the steps of growing windows, the first, which has nothing settled, not counted."""
    times = []
    for window_s in PROBE_WINDOWS_S:
        requests = probes(n_mels, n_rows, window_s)
        started = time.perf_counter()
        engine.step(requests)
        times.append(time.perf_counter() - started)
    for request in requests:
        engine.forget(request.session)
    return min(times[1:])
