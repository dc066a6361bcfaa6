"""From judged recordings to the figures of an evaluation. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from msgspec import UNSET, UnsetType, structs
from msgspec.structs import asdict

from streamer.evaluation.confidence import rate_interval
from streamer.evaluation.figures import (
    Figures,
    FileFigures,
    HeardTurn,
    HeardWord,
    Interval,
    KindFigures,
    OneShotRates,
    OneShotText,
    Rates,
    TagFigures,
)
from streamer.evaluation.judge import JudgedRecording
from streamer.evaluation.percentiles import Percentiles, percentiles
from streamer.evaluation.scoring import Score
from streamer.protocol.events import TurnEnd

RATE_DIGITS, FILE_RATE_DIGITS = 5, 4


def report(model: str, judged: Sequence[JudgedRecording], token_ms: Sequence[float], elapsed_s: float) -> Figures:
    """
    The figures of one evaluation, without `delays`.

    Args:
        model: Its name.
        judged: All recordings that were played; a recording may occur several times.
        token_ms: Latencies of decoder tokens, milliseconds.
        elapsed_s: How long it took to play the recordings.
    """
    transcripts = [one.transcript for one in judged]
    n_committed = sum(len(transcript.commit_s) for transcript in transcripts)
    n_rewritten = sum(transcript.n_rewritten for transcript in transcripts)
    return Figures(
        model=model,
        files=tuple(map(_file, judged)),
        kinds=_kinds(judged),
        tags=_tags(judged),
        **asdict(_rates(judged)),
        commit_latency_s=percentiles([x for transcript in transcripts for x in transcript.commit_s]),
        first_partial_latency_s=percentiles([x for transcript in transcripts for x in transcript.first_sight_s]),
        partial_churn=round(n_rewritten / n_committed, 3) if n_committed else None,
        rtf=round(elapsed_s / sum(transcript.duration_s for transcript in transcripts), 3),
        decoder_token_ms=percentiles(token_ms),
        hallucinated_words_nonspeech=sum(_n_words(one.transcript.text) for one in judged if not one.score.words),
        word_start_error_s=_absolute([one.word_errors_s for one in judged]),
        utterance_start_error_s=_absolute([one.utterance_errors_s[0] for one in judged]),
        utterance_end_error_s=_absolute([one.utterance_errors_s[1] for one in judged]),
    )


def _absolute(errors: Sequence[Sequence[float]]) -> Percentiles | UnsetType:
    return percentiles([abs(error) for one in errors for error in one]) or UNSET


def _n_words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def _kinds(judged: Sequence[JudgedRecording]) -> tuple[KindFigures, ...]:
    groups: dict[tuple[str, str], list[JudgedRecording]] = {}
    for one in sorted(judged, key=lambda one: (one.kind, one.language)):
        groups.setdefault((one.kind, one.language), []).append(one)
    return tuple(
        KindFigures(kind=kind, language=language, **asdict(_rates(group))) for (kind, language), group in groups.items()
    )


def _tags(judged: Sequence[JudgedRecording]) -> tuple[TagFigures, ...]:
    tags = sorted({tag for one in judged for tag in one.tags})
    return tuple(TagFigures(tag=tag, **asdict(_rates([one for one in judged if tag in one.tags]))) for tag in tags)


def _rates(judged: Sequence[JudgedRecording]) -> Rates:
    spoken = [one for one in judged if one.score.words]
    rate, interval = _rate(spoken, lambda one: one.score)
    formatted_rate, formatted_interval = _rate(spoken, lambda one: one.formatted)
    rates = Rates(
        recordings=len(judged),
        wer=rate,
        wer_interval=interval,
        words=sum(one.score.words for one in spoken),
        errors=sum(one.score.errors for one in spoken),
        formatted_wer=formatted_rate,
        formatted_wer_interval=formatted_interval,
        formatted_words=sum(one.formatted.words for one in spoken if one.formatted),
        one_shot=_one_shot_rates(spoken) if any(one.one_shot for one in spoken) else UNSET,
    )
    return structs.replace(rates, **_revised_rates(spoken))


def _revised_rates(spoken: Sequence[JudgedRecording]) -> dict[str, float | Interval | None]:
    """Of the text after the second pass, and of its difference to decoding at once; empty where none was asked for."""
    if not all(one.revised for one in spoken):
        return {}
    rate, interval = _rate(spoken, lambda one: one.revised)
    rates: dict[str, float | Interval | None] = {"revised_wer": rate, "revised_wer_interval": interval}
    if spoken and all(one.one_shot for one in spoken):
        difference, difference_interval = _rate(spoken, lambda one: one.revised, lambda one: one.one_shot)
        rates |= {"revised_difference": difference, "revised_difference_interval": difference_interval}
    return rates


def _one_shot_rates(spoken: Sequence[JudgedRecording]) -> OneShotRates:
    """Of decoding at once, and of the difference to the live path, paired by recording."""
    rate, interval = _rate(spoken, lambda one: one.one_shot)
    difference, difference_interval = _rate(spoken, lambda one: one.score, lambda one: one.one_shot)
    formatted_difference, formatted_difference_interval = _rate(
        spoken, lambda one: one.formatted, lambda one: one.one_shot_formatted
    )
    return OneShotRates(
        wer=rate,
        wer_interval=interval,
        difference=difference,
        difference_interval=difference_interval,
        errors_only_live=sum(len(one.only_live) for one in spoken),
        errors_only_one_shot=sum(len(one.only_one_shot) for one in spoken),
        formatted_wer=_rate(spoken, lambda one: one.one_shot_formatted)[0],
        formatted_difference=formatted_difference,
        formatted_difference_interval=formatted_difference_interval,
    )


_NO_ERRORS = Score("", "", 0, ())
_ScoreOf = Callable[[JudgedRecording], Score | None]


def _rate(
    judged: Sequence[JudgedRecording], of: _ScoreOf, less: _ScoreOf = lambda _: _NO_ERRORS
) -> tuple[float | None, Interval | None]:
    """
    The error rate of some scores with its interval, over the recordings that have them.

    Args:
        judged: The recordings.
        of: The score of a recording.
        less: Scores whose errors are subtracted: the difference of two rates, paired by recording.
    """
    errors, words = Counter[str](), Counter[str]()  # added up where a recording was played several times
    for one in judged:
        score, other = of(one), less(one)
        if score and other:
            errors[one.id] += score.errors - other.errors
            words[one.id] += score.words
    rate = round(errors.total() / words.total(), RATE_DIGITS) if words.total() else None
    return rate, rate_interval([*errors.values()], [*words.values()])


def _file(one: JudgedRecording) -> FileFigures:
    score = one.score
    return FileFigures(
        id=one.id,
        kind=one.kind,
        language=one.language,
        wer=round(score.errors / score.words, FILE_RATE_DIGITS) if score.words else None,
        errors=score.errors,
        words=score.words,
        reference=one.text,
        text=one.transcript.text,
        turns=tuple(map(_turn, one.transcript.turns)),
        differences=score.differences,
        formatted_wer=round(one.formatted.errors / one.formatted.words, FILE_RATE_DIGITS) if one.formatted else None,
        formatted_differences=one.formatted.differences if one.formatted else (),
        one_shot=OneShotText(errors=one.one_shot.errors, text=one.one_shot_text) if one.one_shot else UNSET,
        revised_errors=one.revised.errors if one.revised else UNSET,
        revised_text=one.transcript.revised_text if one.revised else UNSET,
    )


def _turn(turn: TurnEnd) -> HeardTurn:
    words = [
        HeardWord(text=word.text, start_s=word.start_s, end_s=word.end_s, confidence=word.confidence)
        for word in turn.words or ()
    ]
    return HeardTurn(
        start_s=turn.start_s, end_s=turn.end_s, reason=turn.reason, language=turn.language, words=tuple(words)
    )
