"""The figures of an evaluation, as JSON and as a table. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.evaluation.confidence import rate_interval
from streamer.evaluation.playback import LiveTranscript
from streamer.evaluation.scoring import Difference, Score
from streamer.protocol.events import TurnEnd, Word

MEASURED = (
    "first_partial_latency_s",
    "commit_latency_s",
    "decoder_token_ms",
    "word_start_error_s",
    "utterance_start_error_s",
    "utterance_end_error_s",
)
"""Percentiles that the table shows, where they were measured."""
MIN_PAUSE_S = 0.5
"""Silence between two segments of a recording that makes them two utterances."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A recording, what was heard of it, and the errors."""

    id: str
    kind: str
    language: str
    text: str
    """What is said in it."""
    transcript: LiveTranscript
    score: Score
    one_shot: Score | None = None
    """Of the whole recording decoded at once, if that was asked for."""
    one_shot_text: str | None = None
    word_errors_s: Sequence[float] = ()
    """Of the start of each word that was heard right and whose time is known."""
    utterance_errors_s: tuple[Sequence[float], Sequence[float]] = ((), ())
    """Of the starts and the ends of utterances, where they are known."""

    @property
    def heard(self) -> list[Word]:
        """All words of all turns."""
        return [word for turn in self.transcript.turns for word in turn.words or ()]

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


def report(model: str, played: Sequence[Played], token_ms: Sequence[float], elapsed_s: float) -> dict[str, Any]:
    """Everything measured, as built-in values."""
    n_committed = sum(len(p.transcript.commit_s) for p in played)
    duration_s = sum(p.transcript.duration_s for p in played)
    starts, ends = zip(*(p.utterance_errors_s for p in played), strict=True) if played else ((), ())
    times = {
        "word_start_error_s": [abs(x) for p in played for x in p.word_errors_s],
        "utterance_start_error_s": [abs(x) for errors in starts for x in errors],
        "utterance_end_error_s": [abs(x) for errors in ends for x in errors],
    }
    return {
        "model": model,
        "files": [_file(p) for p in played],
        **_rates(played),
        "kinds": [
            {"kind": kind, "language": language, **_rates(group)}
            for (kind, language), group in _by_kind(played).items()
        ],
        "commit_latency_s": percentiles([x for p in played for x in p.transcript.commit_s]),
        "first_partial_latency_s": percentiles([x for p in played for x in p.transcript.first_sight_s]),
        "partial_churn": round(sum(p.transcript.n_rewritten for p in played) / n_committed, 3) if n_committed else None,
        "rtf": round(elapsed_s / duration_s, 3),
        "decoder_token_ms": percentiles(token_ms),
        "hallucinated_words_nonspeech": sum(len(_plain_words(p.transcript.text)) for p in played if not p.score.words),
        **{name: percentiles(errors) for name, errors in times.items() if errors},
    }


def _by_kind(played: Sequence[Played]) -> dict[tuple[str, str], list[Played]]:
    groups: dict[tuple[str, str], list[Played]] = {}
    for p in sorted(played, key=lambda p: (p.kind, p.language)):
        groups.setdefault((p.kind, p.language), []).append(p)
    return groups


def _rates(played: Sequence[Played]) -> dict[str, Any]:
    """Error rates with their intervals; beside one-shot decoding, of it and of the paired difference too."""
    spoken = [p for p in played if p.score.words]
    live = [p.score.errors for p in spoken]
    rates: dict[str, Any] = {"recordings": len(played), **_rate("wer", live, spoken)}
    rates |= {"words": sum(p.score.words for p in spoken), "errors": sum(live)}
    if any(p.one_shot for p in spoken):
        whole = [p.one_shot.errors if p.one_shot else 0 for p in spoken]
        more = [a - b for a, b in zip(live, whole, strict=True)]
        rates["one_shot"] = {
            **_rate("wer", whole, spoken),
            **_rate("difference", more, spoken),
            "errors_only_live": sum(len(p.only_live) for p in spoken),
            "errors_only_one_shot": sum(len(p.only_one_shot) for p in spoken),
        }
    return rates


def _rate(name: str, errors: Sequence[int], spoken: Sequence[Played]) -> dict[str, Any]:
    n_words = sum(p.score.words for p in spoken)
    rate = round(sum(errors) / n_words, 5) if n_words else None
    return {name: rate, f"{name}_interval": rate_interval(*_by_recording(errors, spoken))}


def _by_recording(errors: Sequence[int], spoken: Sequence[Played]) -> tuple[list[int], list[int]]:
    """Errors and words of each recording, however often it was played: its performances are not independent."""
    totals: dict[str, tuple[int, int]] = {}
    for p, n_errors in zip(spoken, errors, strict=True):
        before = totals.get(p.id, (0, 0))
        totals[p.id] = before[0] + n_errors, before[1] + p.score.words
    return [n for n, _ in totals.values()], [n for _, n in totals.values()]


def _file(p: Played) -> dict[str, Any]:
    whole = p.one_shot
    return {
        "id": p.id,
        "kind": p.kind,
        "language": p.language,
        "wer": round(p.score.errors / p.score.words, 4) if p.score.words else None,
        "errors": p.score.errors,
        "words": p.score.words,
        "reference": p.text,
        "text": p.transcript.text,
        "turns": [_turn(turn) for turn in p.transcript.turns],
        "differences": [_difference(d) for d in p.score.differences],
        **({"one_shot": {"errors": whole.errors, "text": p.one_shot_text}} if whole else {}),
    }


def _turn(turn: TurnEnd) -> dict[str, Any]:
    words = turn.words or ()
    return {
        "start_s": turn.start_s,
        "end_s": turn.end_s,
        "reason": turn.reason,
        "language": turn.language,
        "words": [{"text": w.text, "start_s": w.start_s, "end_s": w.end_s, "confidence": w.confidence} for w in words],
    }


def _difference(d: Difference) -> dict[str, Any]:
    return {"at": d.at, "said": d.said, "heard": d.heard}


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """P50 and P95, or None of nothing."""
    if not values:
        return None
    p50, p95 = np.percentile(np.asarray(values), [50, 95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _plain_words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def difference_lines(played: Sequence[Played]) -> Iterator[str]:
    """For each recording its wrong words; beside a whole decoding, those that only one of the two has."""
    for p in played:
        if p.one_shot is None and p.score.differences:
            yield f"{p.id}  {_listed(p.score.differences)}"
        elif p.only_live or p.only_one_shot:
            yield f"{p.id}  live {p.score.errors}, one-shot {p.one_shot.errors if p.one_shot else 0}"
            yield f"    only live:     {_listed(p.only_live)}"
            yield f"    only one-shot: {_listed(p.only_one_shot)}"


def _listed(differences: Sequence[Difference]) -> str:
    return "  ".join(map(str, differences)) or "-"


def table(figures: dict[str, Any]) -> str:
    """The figures for a reader, by kind and language; rates in percent, with their 95 % intervals."""
    compared = "one_shot" in figures
    head = f"{'kind':<14}{'files':>6}{'words':>7}{'errors':>7}{'wer %':>8}{'':>15}"
    lines = [
        head + (f"{'one-shot %':>12}{'more %':>8}{'':>15}{'only live':>11}{'only 1-shot':>13}" if compared else "")
    ]
    lines += [_row(f"{kind['kind']} {kind['language']}".strip() or "all", kind) for kind in figures["kinds"]]
    if figures["wer"] is not None:
        lines.append(_row("all", figures))
    measured = [name for name in MEASURED if figures.get(name)]
    lines += [f"{name:<26} p50 {figures[name]['p50']:.3f}  p95 {figures[name]['p95']:.3f}" for name in measured]
    lines.append(f"{'partial_churn':<26} {figures['partial_churn']}   rtf {figures['rtf']}")
    lines.append(f"{'words said on non-speech':<26} {figures['hallucinated_words_nonspeech']}")
    return "\n".join(lines)


def _row(name: str, rates: dict[str, Any]) -> str:
    line = f"{name:<14}{rates['recordings']:>6}{rates['words']:>7}{rates['errors']:>7}{_percent(rates, 'wer')}"
    if whole := rates.get("one_shot"):
        line += f"{100 * whole['wer']:>12.2f}{_percent(whole, 'difference')}"
        line += f"{whole['errors_only_live']:>11}{whole['errors_only_one_shot']:>13}"
    return line


def _percent(rates: dict[str, Any], name: str) -> str:
    """A rate and its interval, 23 columns."""
    rate, interval = rates[name], rates[f"{name}_interval"]
    between = f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else ""
    return f"{100 * rate:>8.2f}{between:>15}" if rate is not None else f"{'-':>8}{'':>15}"
