"""One step of the engine as plain values: self-contained requests in, results out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from streamer.protocol.options import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """Everything needed to transcribe one window; the engine may remember the session, but need not."""

    session: str
    """Key of the soft state: a session not remembered costs a prefill, nothing else."""
    log_mel: Tensor
    """Unclamped log10 mel power of the window, raised by its gain, (n_mels, n_frames), on the CPU."""
    gain: float = 0.0
    """How much quiet sound was raised, log10 of power: the same sound raised otherwise is another window."""
    window_start: int | None = None
    """Names the window: of one session, windows that begin at the same frame are one window that grows. None for a
    window that is seen once."""
    prompt: tuple[int, ...] = ()
    """Text before the window; only its last `max_prompt` tokens are used."""
    prefix: tuple[int, ...] = ()
    """Committed tokens of the window: forced, never questioned."""
    settled_tokens: int = 0
    """Leading prefix tokens whose words end so long before the newest sound that reading them again is of no use."""
    draft: tuple[int, ...] = ()
    """Tokens guessed after the prefix: kept as far as greedy decoding would have chosen them."""
    no_eot_at: int | None = None
    """Draft tokens after which the text may not end: sound that no word accounts for was heard beyond them."""
    anchor_tokens: int = 0
    """Trailing prefix tokens that are aligned again, so that the first new token has a neighbour."""
    anchor_s: float = 0.0
    """Where those begin in the window, seconds; new words cannot begin earlier."""
    language: str | None = None
    """Language code; None asks for detection."""
    task: Task = "transcribe"
    keyterms: tuple[str, ...] = ()
    """Names to favour."""
    final: bool = False
    """The end of a turn: goes before partial steps."""

    @property
    def window(self) -> Hashable | None:
        """What names the window among those of its session; None for a window that is seen once."""
        return None if self.window_start is None else (self.window_start, self.gain)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What the window says after its prefix."""

    tokens: tuple[int, ...]
    """Text tokens after the prefix, `eot` not included."""
    logprobs: tuple[float, ...]
    """Of each token; NaN is never among them."""
    starts_s: tuple[float, ...]
    """Start of each token in the window, and one more: the end of the last token. Non-decreasing."""
    n_verified: int
    """Draft tokens that greedy decoding confirmed."""
    ended: bool
    """The network said `eot`; otherwise a bound was reached first."""
    no_speech_prob: float
    language: str


class Engine(Protocol):
    """What a scheduler needs: batches in, results in the same order out."""

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """
        Run one step.

        Raises:
            EngineError: The step failed; no session was changed.
        """

    def forget(self, session: str) -> None:
        """Forget a session that is over."""
