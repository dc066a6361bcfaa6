"""The figures of an evaluation, as JSON and as a table. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.recital import Recital
from streamer.scoring import Difference, Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A recording, what was heard of it, and the errors."""

    id: str
    kind: str
    language: str
    text: str
    """What is said in it."""
    recital: Recital
    score: Score
    one_shot: Score | None = None
    """Of the whole recording decoded at once, if that was asked for."""
    one_shot_text: str | None = None

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
    spoken = [p for p in played if p.score.words]
    n_committed = sum(len(p.recital.commit_s) for p in played)
    duration_s = sum(p.recital.duration_s for p in played)
    return {
        "model": model,
        "files": [_file(p) for p in played],
        "wer": rate(spoken),
        "words": sum(p.score.words for p in spoken),
        **({"one_shot": _one_shot(spoken)} if any(p.one_shot for p in played) else {}),
        "commit_latency_s": percentiles([x for p in played for x in p.recital.commit_s]),
        "first_partial_latency_s": percentiles([x for p in played for x in p.recital.first_sight_s]),
        "partial_churn": round(sum(p.recital.n_rewritten for p in played) / n_committed, 3) if n_committed else None,
        "rtf": round(elapsed_s / duration_s, 3),
        "decoder_token_ms": percentiles(token_ms),
        "hallucinated_words_nonspeech": sum(len(_plain_words(p.recital.text)) for p in played if not p.score.words),
    }


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
        "text": p.recital.text,
        "differences": [_difference(d) for d in p.score.differences],
        **({"one_shot": {"errors": whole.errors, "text": p.one_shot_text}} if whole else {}),
    }


def _difference(d: Difference) -> dict[str, Any]:
    return {"at": d.at, "said": d.said, "heard": d.heard}


def _one_shot(spoken: Sequence[Played]) -> dict[str, Any]:
    return {
        "wer": rate(spoken, one_shot=True),
        "errors_only_live": sum(len(p.only_live) for p in spoken),
        "errors_only_one_shot": sum(len(p.only_one_shot) for p in spoken),
    }


def rate(spoken: Sequence[Played], *, one_shot: bool = False) -> float | None:
    """Errors for each word said, all recordings together; None where nothing was said."""
    words = sum(p.score.words for p in spoken)
    return round(sum(_errors(p, one_shot) for p in spoken) / words, 5) if words else None


def _errors(p: Played, one_shot: bool) -> int:
    score = p.one_shot if one_shot else p.score
    return score.errors if score else 0


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


def table(figures: dict[str, Any], played: Sequence[Played]) -> str:
    """The figures for a reader, by kind and language."""
    compared = "one_shot" in figures
    head = f"{'kind':<12}{'files':>7}{'words':>8}{'errors':>8}{'wer %':>8}"
    lines = [head + (f"{'one-shot %':>12}{'only live':>11}{'only 1-shot':>13}" if compared else "")]
    for kind in sorted({(p.kind, p.language) for p in played}):
        group = [p for p in played if (p.kind, p.language) == kind]
        lines.append(_row(" ".join(filter(None, kind)) or "all", group, compared))
    if figures["wer"] is not None:
        lines.append(_row("all", played, compared))
    measured = [name for name in ("first_partial_latency_s", "commit_latency_s", "decoder_token_ms") if figures[name]]
    lines += [f"{name:<26} p50 {figures[name]['p50']:.3f}  p95 {figures[name]['p95']:.3f}" for name in measured]
    lines.append(f"{'partial_churn':<26} {figures['partial_churn']}   rtf {figures['rtf']}")
    lines.append(f"{'words said on non-speech':<26} {figures['hallucinated_words_nonspeech']}")
    return "\n".join(lines)


def _row(name: str, group: Sequence[Played], compared: bool) -> str:
    words, errors = sum(p.score.words for p in group), sum(p.score.errors for p in group)
    line = f"{name:<12}{len(group):>7}{words:>8}{errors:>8}{_percent(errors, words):>8}"
    if compared:
        whole = _percent(sum(_errors(p, one_shot=True) for p in group), words)
        only_live, only_whole = (
            sum(map(len, x)) for x in ([p.only_live for p in group], [p.only_one_shot for p in group])
        )
        line += f"{whole:>12}{only_live:>11}{only_whole:>13}"
    return line


def _percent(errors: int, words: int) -> str:
    return f"{100 * errors / words:.2f}" if words else "-"
