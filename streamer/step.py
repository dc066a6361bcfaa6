"""The interface of sessions and engines: one decoding step as plain values, self-contained requests and results."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from streamer.protocol.options import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """Everything needed to transcribe one window; the engine may cache the session's last window, but need not."""

    session: str
    """Key of the engine's cache: a session that is not cached costs a prefill, nothing else."""
    log_mel: Tensor
    """Unclamped log10 mel power of the window plus its gains, (n_mels, n_frames), on the CPU."""
    gains: tuple[float, ...] = ()
    """Gain added to each stretch of speech, log10 of power; none where nothing was added. The same audio with other
    gains is another window."""
    window_start: int | None = None
    """First frame of the window, which names it: a session's requests with the same start are one growing window. None
    for a window that is seen once."""
    prompt: tuple[int, ...] = ()
    """Text before the window; only its last `max_prompt` tokens are used."""
    prefix: tuple[int, ...] = ()
    """Committed tokens of the window: the decoder is forced to begin with them."""
    settled_tokens: int = 0
    """Leading prefix tokens whose words are too old to be read again: their cached keys and values are kept."""
    begins_sentence: bool = False
    """Whether the first word of a window without prefix begins a sentence, so that a capital is likelier."""
    draft: tuple[int, ...] = ()
    """Guessed tokens after the prefix: verified, and kept as far as greedy decoding chooses them."""
    no_eot_at: int | None = None
    """Draft tokens after which the text may not end, since voice without words follows; None: it may end anywhere."""
    rests_at: tuple[int, ...] = ()
    """Draft tokens after which the voice rests before the next word, so that a comma is likelier."""
    anchor_tokens: int = 0
    """Trailing prefix tokens that are aligned again, so that the alignment of the first new token has a neighbour."""
    anchor_s: float = 0.0
    """Start of the anchor tokens in the window, seconds; new words cannot begin earlier."""
    language: str | None = None
    """Language code; None asks for detection."""
    languages: tuple[str, ...] = ()
    """Codes that detection chooses from; those that the model does not know, and none, mean all."""
    language_before: str | None = None
    """Language that detection keeps unless another one is likely; None: the likeliest is found."""
    task: Task = "transcribe"
    keyterms: tuple[str, ...] = ()
    """Words and names that decoding favours."""
    final: bool = False
    """Whether the step ends a turn: it goes before partial steps."""
    is_probe: bool = False
    """Whether the request measures the engine and belongs to no session: the engine's metrics leave it out."""

    @property
    def window(self) -> Hashable | None:
        """Key of the window among those of its session; None for a window that is seen once."""
        return None if self.window_start is None else (self.window_start, self.gains)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The text of the window after its prefix."""

    tokens: tuple[int, ...]
    """Text tokens after the prefix, `eot` not included."""
    logprobs: tuple[float, ...]
    """Log probability of each token, never NaN."""
    starts_s: tuple[float, ...]
    """Start of each token in the window and the end of the last one, seconds, non-decreasing: one more than tokens."""
    n_verified: int
    """Draft tokens that greedy decoding confirmed."""
    ended: bool
    """Whether the decoder chose `eot`; otherwise a bound was reached first."""
    no_speech_prob: float
    language: str
    language_prob: float = 1.0
    """Probability of the language among those that detection chose from; 1 where it was given."""


class Engine(Protocol):
    """Transcribes batches of windows."""

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """
        Run one step; the results are in the order of the requests.

        Raises:
            EngineError: The step failed; no session was changed.
        """

    def forget(self, session: str) -> None:
        """Drop the cache of a session that is over."""


class CachingEngine(Engine, Protocol):
    """An engine that tells how much memory it holds."""

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Bytes of keys and values of text and of audio."""
