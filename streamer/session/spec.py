"""What a session is made from: its model, its options and the point in the stream where it begins. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.protocol.options import SessionOptions
from streamer.session.audio_window import WindowOptions
from streamer.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What sessions know of the model."""

    name: str
    """Name of the published model, or the path of its checkpoint."""
    tokenizer: Tokenizer
    n_mels: int
    """Mel bands."""
    alignment_lag_s: float = 0.0
    """Delay of the model's attention after the beginning of a word, seconds; negative where it is early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """Everything that determines a session before its first sample."""

    name: str
    """Names the session to the engine and to clients."""
    options: SessionOptions
    """What the client asked for."""
    window: WindowOptions
    model: ModelFacts
    offset_s: float = 0.0
    """Stream time of the first sample, seconds: not 0 where a client resumes."""
    context: str = ""
    """Text before the first sample."""
    revises_all: bool = False
    """Whether no turn may miss its second pass, as of a recording: the audio waits for it. A live session goes on, and
    a turn without one keeps its text."""
