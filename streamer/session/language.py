"""
The language of each turn of one session: asked for by the client, or detected. Pure.

Where detection was asked for, each turn may be in another language. The first steps of a turn detect it, until they are
sure: little sound tells little. Before that nothing is committed, because text in a wrong language is a translation,
and nothing is shown but text in the language of the turn before.
"""

from __future__ import annotations

from streamer.protocol.options import SessionOptions
from streamer.step import StepRequest, StepResult

MIN_VOICE_S, SURE = 1.5, 0.7
"""Voice, in seconds, and probability from which on a language is believed. Of 70 recordings in eight languages base
finds 48 right with 0.3 s of voice, 62 with 1 s, 66 of 68 with 1.5 s and all with 2 s; the wrong ones are at 90 % with
1 s, and below 60 % with 1.5 s."""
MAX_VOICE_S = 3.0
"""Voice with which the likeliest language is believed, whatever its probability, seconds."""
KEPT = 0.5
"""Probability from which on the language of the turn before is believed, and its text shown with less voice. Another
one takes its place with `CHANGES` of the engine, or with `MAX_VOICE_S`."""


class TurnLanguage:
    """
    Decides the language of the open turn.

    Args:
        options: Of the session.
        is_multilingual: Whether the model knows more than English.
    """

    def __init__(self, options: SessionOptions, *, is_multilingual: bool) -> None:
        self._is_multilingual = is_multilingual
        self._turn: str | None = None
        """Language of the open turn, once it is sure."""
        self.spoken = ""
        """Language of the newest step; empty before the first."""
        self._before = ""
        """Language of the turn before; empty in the first one."""
        self._is_as_before = False
        """Whether the newest step found that language, as far as its sound can tell."""
        self.ask(options)

    def ask(self, options: SessionOptions) -> None:
        """Take over the language that is asked for now, and the languages that detection may find."""
        language, languages = options.language, options.languages
        self._asked = languages[0] if language == "auto" and len(languages) == 1 else language
        self.languages = languages
        """What detection chooses from; empty: all languages."""
        if self._turn is not None and not self._is_allowed(self._turn):
            self._turn = None

    @property
    def may_change(self) -> bool:
        """Whether the next turn may be in another language."""
        return self._asked == "auto" and self._is_multilingual

    @property
    def is_sure(self) -> bool:
        """Whether the language of the open turn is decided."""
        return not self.may_change or self._turn is not None

    @property
    def may_show(self) -> bool:
        """Whether the text of the newest step may be shown, as one that may still change."""
        return self.is_sure or self._is_as_before

    def end_turn(self) -> None:
        """The turn has ended with a pause, so the next one may be in another language."""
        self._before, self._turn = self._turn or self._before, None
        self._is_as_before = False

    def of_step(self, voiced_s: float, *, may_end: bool) -> str | None:
        """
        Language of the next step; None: it detects one.

        A turn that ends after little voice is in the language of the turn before.

        Args:
            voiced_s: Voice of the open turn, seconds.
            may_end: Whether the turn may end without another step.
        """
        if not self.may_change:
            return "en" if self._asked == "auto" else self._asked
        if self._turn is None and may_end and voiced_s < MIN_VOICE_S and self._is_allowed(self._before):
            return self._before
        return self._turn

    def before(self, voiced_s: float) -> str | None:
        """Language that detection keeps unless another one is likely; `voiced_s` as in `of_step`."""
        return self._before if voiced_s < MAX_VOICE_S and self._is_allowed(self._before) else None

    def apply(self, request: StepRequest, result: StepResult, voiced_s: float) -> None:
        """
        Take what a step found.

        Args:
            request: Of the step.
            result: Of the step.
            voiced_s: Voice that the step has seen of the open turn, seconds.
        """
        self.spoken = result.language
        self._is_as_before = result.language == self._before and result.language_prob >= KEPT
        if self._turn is None and request.language is None and self._believes(result, voiced_s):
            self._turn = result.language

    def _believes(self, result: StepResult, voiced_s: float) -> bool:
        if voiced_s >= MAX_VOICE_S:
            return True
        wanted = KEPT if result.language == self._before else SURE
        return result.language_prob >= wanted and voiced_s >= MIN_VOICE_S

    def _is_allowed(self, language: str) -> bool:
        return bool(language) and (not self.languages or language in self.languages)
