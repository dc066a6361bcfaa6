"""Engines on published weights, and on random weights so small that hundreds of steps cost nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from model import ModelDimensions, Whisper
from streamer.audio.mel import MelSpectrogram
from streamer.engine.engine import WhisperEngine
from streamer.engine.loading import load_model
from streamer.engine.options import EngineOptions
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.tokenizer import Tokenizer
from tests.helpers.random_weights import random_tensors
from tests.helpers.recordings import Recording

SCREENED_LOGPROB = 0.05
"""
Log-probability by which a row may differ from itself in other company or after other passes, float32 on a CPU: the sum
under a probability is screened in 8 bits, and a hidden state that differs in its last bit may be rounded otherwise.
"""


@functools.cache
def published(name: str, dtype: torch.dtype = torch.float32) -> tuple[Whisper, Tokenizer]:
    """A published network and its tokenizer."""
    return load_model(name, dtype, torch.device("cpu"))


@functools.cache
def rounded(name: str) -> tuple[Whisper, Tokenizer]:
    """A published network in float32 whose encoder multiplies in 8 bits, and its tokenizer."""
    return load_model(name, torch.float32, torch.device("cpu"), rounds_encoder=True)


@functools.cache
def toy() -> tuple[Whisper, Tokenizer]:
    """Random weights over a vocabulary of single bytes; windows of up to 2 s, 48 tokens of context."""
    tokenizer = Tokenizer([bytes([byte]) for byte in range(256)], n_languages=1)
    dims = ModelDimensions(
        n_mels=5,
        n_audio_ctx=100,
        n_audio_state=16,
        n_audio_head=4,
        n_audio_layer=2,
        n_vocab=tokenizer.n_vocab,
        n_text_ctx=48,
        n_text_state=16,
        n_text_head=2,
        n_text_layer=3,
    )
    return Whisper.from_tensors(dims, random_tensors(dims)), tokenizer


def engine_on(network: tuple[Whisper, Tokenizer], **options: Any) -> WhisperEngine:
    """A fresh engine; options are those of `EngineOptions`."""
    return WhisperEngine(*network, EngineOptions(**options), EngineMetrics(CollectorRegistry()))


def intact(engine: WhisperEngine) -> Iterator[WhisperEngine]:
    """For a fixture: an engine whose counters must agree with what it holds once its tests are over."""
    yield engine
    engine.check_integrity()


def log_mel(recording: Recording, seconds: float | None = None, n_mels: int = 80) -> Tensor:
    """The first seconds of a recording as an engine hears them, (n_mels, n_frames)."""
    samples = torch.from_numpy(recording.samples)
    whole = MelSpectrogram(n_mels).whole(samples)
    return whole if seconds is None else whole[:, : int(seconds * 100)]


def request(window: Tensor, session: str = "s", **fields: Any) -> StepRequest:
    """A request in English."""
    return StepRequest(**{"session": session, "log_mel": window, "language": "en"} | fields)


def without_draft(asked: StepRequest) -> StepRequest:
    """The same question, nothing guessed."""
    return replace(asked, draft=())


def alone(engine: WhisperEngine, asked: StepRequest) -> StepResult:
    """The result of a batch of one."""
    return engine.step([asked])[0]


def forget(engine: WhisperEngine) -> WhisperEngine:
    """A fresh engine like this one."""
    return WhisperEngine(engine.model, engine.tokenizer, engine.options, EngineMetrics(CollectorRegistry()))
