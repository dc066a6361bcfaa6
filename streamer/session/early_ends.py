"""Texts that the decoder ended too early: voice follows the last word, so the rest is asked for again. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.session.window_text import WindowText
from streamer.session.words import SpokenWord
from streamer.step import StepResult

EARLY_END_S = 1.2
"""Voice after the last word from which on the end of a text is rejected, seconds."""
MAX_RETRIES = 3
"""Steps on the same audio that ask for the rest of a text."""


class EarlyEnds:
    """Decides after each step whether another step must ask for the rest of the text."""

    def __init__(self) -> None:
        self.awaits_rest = False
        """Whether the newest text ended too early and another step is due to ask for the rest."""
        self._n_retries, self._edge_frame = 0, 0

    def judge(
        self,
        result: StepResult,
        words: Sequence[SpokenWord],
        text: WindowText,
        *,
        voiced_after_s: float,
        edge_frame: int,
    ) -> None:
        """
        Judge the end of a step's text; where it came too early, the text may not end there again.

        Args:
            result: Of the step.
            words: The accepted words of the result.
            text: Text of the window; `words` are its tail.
            voiced_after_s: Voice between the last word and the newest audio of the step, seconds.
            edge_frame: One past the newest mel frame of the step: repeats on the same audio are limited.
        """
        is_early = ends_early(result, words, voiced_after_s)
        self.awaits_rest = is_early and self._may_retry(edge_frame) and text.forbid_eot()

    def reset(self) -> None:
        """Expect no rest: a new window begins."""
        self.awaits_rest = False

    def _may_retry(self, edge_frame: int) -> bool:
        self._n_retries = self._n_retries + 1 if edge_frame == self._edge_frame else 0
        self._edge_frame = edge_frame
        return self._n_retries < MAX_RETRIES


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
