"""From the sections of the configuration to the options of each component, and to device and arithmetic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from model import ModelDimensions, Whisper
from streamer.config import Config, ModelConfig
from streamer.engine.options import EngineOptions
from streamer.errors import EngineError
from streamer.host.cpu import bfloat16_features, cpuinfo
from streamer.scheduling.load import LoadLimits
from streamer.scheduling.options import SchedulerOptions
from streamer.scheduling.recording import RecordingOptions
from streamer.session.audio_window import CATCH_UP_S, WindowOptions
from streamer.session.spec import ModelFacts

MOST_ROWS = 64
"""Largest step on a GPU: twice as many rows make a row only a tenth cheaper, and every session waits twice as long."""
MOST_SERIAL = 64
"""Tokens that a live row may have beyond its draft. The others of its step wait for each of them, and speech makes a
few a second: more are a text that begins anew, or that the decoder makes up. The rest comes with the next step."""
MEGABYTE = 10**6


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


def engine_options(
    config: Config, model: Whisper, sharing: int = 1, second: Sequence[ModelDimensions] = ()
) -> EngineOptions:
    """
    Sizes of an engine; on a GPU they fit the memory that is free, less what second passes may take of it.

    Args:
        config: The configuration.
        model: Loaded.
        sharing: Processes with an engine on the same GPU, this one among them: each takes its part.
        second: Models for second passes beside this one.
    """
    options = EngineOptions(
        max_window_s=config.scheduler.max_window_s + CATCH_UP_S,
        kv_reuse=config.scheduler.kv_reuse == "committed",
        max_serial=MOST_SERIAL,
    )
    if model.device.type == "cuda":
        revised_bytes = sum(
            kept_bytes(dims, model.dtype, n_texts=config.revise.beams) for dims in (model.dims, *second)
        )
        free_bytes = torch.cuda.mem_get_info(model.device)[0] // sharing
        free_bytes -= min(revised_bytes, free_bytes // 2)  # live captions come first
        max_batch = rows_that_fit(model.dims, free_bytes, model.dtype)
        options = replace(options, max_batch=max_batch, max_remembered=4096, max_remembered_bytes=free_bytes // 2)
    return options


def rows_that_fit(dims: ModelDimensions, free_bytes: int, dtype: torch.dtype) -> int:
    """
    Rows of one step on a GPU: their keys and values take at most a quarter of its free memory.

    Args:
        dims: Of the model.
        free_bytes: Memory that is free once the weights are loaded.
        dtype: Of the keys and values.
    """
    return max(1, min(MOST_ROWS, free_bytes // 4 // kept_bytes(dims, dtype)))


def kept_bytes(dims: ModelDimensions, dtype: torch.dtype, n_texts: int = 1) -> int:
    """
    Bytes of the keys and values of a window of 30 s in the encoder, and in the decoder with those of its texts.

    Args:
        dims: Of the model.
        dtype: Of the keys and values.
        n_texts: Slots of the decoder, each with the window and a text: the beams of a search.
    """
    encoder = dims.n_audio_layer * dims.n_audio_state * dims.n_audio_ctx
    decoder = dims.n_text_layer * dims.n_text_state * (dims.n_audio_ctx + dims.n_text_ctx)
    return 2 * dtype.itemsize * (encoder + n_texts * decoder)


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


@contextlib.contextmanager
def device_errors(name: str, device: torch.device) -> Iterator[None]:
    """
    While a model is loaded: a GPU that is too small for it, or that does not work, is an error with a remedy.

    Args:
        name: Of the model.
        device: Where it is loaded.

    Raises:
        EngineError: The device is a GPU, and torch reports an error of it.
    """
    try:
        yield
    except RuntimeError as error:  # torch reports a failing device as RuntimeError
        if device.type == "cpu":
            raise
        reason = str(error).partition("\n")[0]
        raise EngineError(
            f"{name} cannot be loaded on the GPU: {reason}; free its memory, or set model.name to a smaller model or "
            "model.device to cpu"
        ) from error


def choose_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """The configured dtype; `auto` is float16 on a GPU, bfloat16 on a CPU that multiplies it natively, else float32."""
    if config.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[config.dtype]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if bfloat16_features(cpuinfo()) else torch.float32
