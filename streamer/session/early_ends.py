"""Texts that stop too early, by the decoder or by its token budget: the rest is asked for again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.session.window_text import WindowText
from streamer.session.words import SpokenWord
from streamer.step import StepResult

EARLY_END_S = 1.2
"""Voice after the last word from which on the end of a text is rejected, seconds."""
MAX_RETRIES = 3
"""Steps on the same audio that ask for the rest of a text that the decoder ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """What is believed of a step's result."""

    words: Sequence[SpokenWord]
    """The accepted words, stream time."""
    is_cut: bool
    """Whether the token budget or the decoder's context cut the text: words are missing, not only wrong."""
    edge_frame: int
    """One past the newest mel frame of the step: repeats on the same audio are limited."""
    last_probability: float = 0.0
    """Probability of the last believed token; 0 without any."""


class EarlyEnds:
    """Decides after each step whether another step must ask for the rest of the text."""

    def __init__(self) -> None:
        self.awaits_rest = False
        """Whether the newest text stops too early and another step is due to ask for the rest."""
        self.is_cut = False
        """Whether the newest text was cut by its budget or by the decoder's context."""
        self.is_stuck = False
        """Whether a cut text did not grow when its rest was asked for: the window has no room for more."""
        self._n_retries, self._edge_frame = 0, 0
        self._cut_edge_frame, self._longest_cut = 0, 0

    def judge(self, result: StepResult, hypothesis: Hypothesis, text: WindowText, voiced_after_s: float) -> None:
        """
        Judge the end of a step's text; where the decoder ended it too early, it may not end there again.

        Args:
            result: Of the step.
            hypothesis: What is believed of the result.
            text: Text of the window; the accepted words are its tail.
            voiced_after_s: Voice between the last word and the newest audio of the step, seconds.
        """
        self.is_cut = hypothesis.is_cut
        self.is_stuck = self.is_cut and not self._has_grown(len(text.prefix) + len(text.draft), hypothesis)
        if self.is_cut:
            self.awaits_rest = not self.is_stuck
        else:
            is_early = ends_early(result, hypothesis.words, voiced_after_s)
            self.awaits_rest = is_early and self._may_retry(hypothesis.edge_frame) and text.forbid_eot()

    def moved(self) -> None:
        """The window begins later now: its text may be cut sooner and still have grown."""
        self._longest_cut = 0

    def reset(self) -> None:
        """Expect no rest: a new window begins."""
        self.awaits_rest = self.is_cut = self.is_stuck = False
        self.moved()

    def _may_retry(self, edge_frame: int) -> bool:
        self._n_retries = self._n_retries + 1 if edge_frame == self._edge_frame else 0
        self._edge_frame = edge_frame
        return self._n_retries < MAX_RETRIES

    def _has_grown(self, n_tokens: int, hypothesis: Hypothesis) -> bool:
        """Whether a cut text is longer than the longest cut text on the same audio."""
        longest = self._longest_cut if hypothesis.edge_frame == self._cut_edge_frame else 0
        self._cut_edge_frame, self._longest_cut = hypothesis.edge_frame, max(n_tokens, longest)
        return n_tokens > longest


def ends_early(result: StepResult, words: Sequence[SpokenWord], voiced_after_s: float) -> bool:
    """
    Whether the decoder ended a text although much voice follows its last word.

    Args:
        result: Of the step.
        words: The accepted words of the result. None of its tokens accepted means no speech, which ends anywhere.
        voiced_after_s: Voice between the last word and the newest audio of the step, seconds.
    """
    is_no_speech = bool(result.tokens) and not words
    return result.ended and not is_no_speech and voiced_after_s >= EARLY_END_S
