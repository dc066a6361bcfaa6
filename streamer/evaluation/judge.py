"""The judgement of an evaluation: each transcript against the text and the times that the manifest gives. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamer.evaluation.formatted import formatted_score
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.manifest import ManifestRow
from streamer.evaluation.scoring import Difference, Score, text_normaliser, word_scorer
from streamer.evaluation.word_timing import TimedWord, utterance_errors, utterances, word_start_errors

MIN_PAUSE_S = 0.5
"""Silence between two segments of a recording that makes them two utterances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRecording:
    """A recording, its live transcript, and the errors of the transcript."""

    id: str
    kind: str
    language: str
    tags: Sequence[str]
    """Conditions of the recording."""
    text: str
    """The reference, not normalised."""
    transcript: LiveTranscript
    score: Score
    revised: Score | None = None
    """Of the text after the second pass, if that was asked for."""
    one_shot: Score | None = None
    """Of the whole recording decoded at once, if that was asked for."""
    formatted: Score | None = None
    """With case and punctuation counted; None where the reference has neither."""
    one_shot_formatted: Score | None = None
    """As `formatted`, of the whole recording decoded at once."""
    one_shot_text: str | None = None
    word_errors_s: Sequence[float] = ()
    """Of the start of each word that is right and whose time is known: positive where the word begins too late."""
    utterance_errors_s: tuple[Sequence[float], Sequence[float]] = ((), ())
    """Of the starts and the ends of utterances, where they are known."""

    @property
    def only_live(self) -> list[Difference]:
        """Errors that decoding at once does not make."""
        return _without(self.score, self.one_shot)

    @property
    def only_one_shot(self) -> list[Difference]:
        """Errors that only decoding at once makes."""
        return _without(self.one_shot, self.score)


def _without(score: Score | None, other: Score | None) -> list[Difference]:
    known = set(other.differences) if other else set()
    return [d for d in score.differences if d not in known] if score else []


class Judge:
    """
    Compares transcripts with their references.

    Args:
        word_times: Words with their times, by the id of a recording.

    Raises:
        ConfigError: The extra `eval` is not installed.
    """

    def __init__(self, word_times: Mapping[str, Sequence[TimedWord]]) -> None:
        self._score, self._normaliser, self._word_times = word_scorer(), text_normaliser(), word_times

    def judge(
        self,
        rows: Sequence[ManifestRow],
        transcripts: Sequence[LiveTranscript],
        one_shot: Sequence[str] | None,
        *,
        is_revised: bool = False,
    ) -> list[JudgedRecording]:
        """
        Every recording with its errors, in the order of `rows`.

        Args:
            rows: The recordings.
            transcripts: One for each row.
            one_shot: Their texts as decoded at once, one for each row; None if there is no such comparison.
            is_revised: Whether the transcripts hold the text after the second pass.
        """
        texts: Sequence[str | None] = one_shot or [None] * len(rows)
        return [self._judged(*each, is_revised=is_revised) for each in zip(rows, transcripts, texts, strict=True)]

    def _judged(
        self, row: ManifestRow, transcript: LiveTranscript, one_shot: str | None, *, is_revised: bool
    ) -> JudgedRecording:
        words = [word for turn in transcript.turns for word in turn.words or ()]
        spoken = utterances(row.segments, MIN_PAUSE_S, row.lead_in_s)
        timed = self._word_times.get(row.id, ())
        return JudgedRecording(
            id=row.id,
            kind=row.kind,
            language=row.language,
            tags=row.tags,
            text=row.text,
            transcript=transcript,
            score=self._score(row.language, row.text, transcript.text),
            revised=self._score(row.language, row.text, transcript.revised_text) if is_revised else None,
            one_shot=None if one_shot is None else self._score(row.language, row.text, one_shot),
            one_shot_text=one_shot,
            formatted=formatted_score(row.language, row.text, transcript.text),
            one_shot_formatted=None if one_shot is None else formatted_score(row.language, row.text, one_shot),
            word_errors_s=word_start_errors(timed, words, self._normaliser(row.language), row.lead_in_s),
            utterance_errors_s=utterance_errors(spoken, transcript.turns),
        )
