"""The figures of an evaluation as text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import UNSET

from streamer.evaluation.figures import Figures, Interval, Rates
from streamer.evaluation.judge import JudgedRecording
from streamer.evaluation.scoring import Difference

MEASURED = (
    "first_partial_latency_s",
    "commit_latency_s",
    "decoder_token_ms",
    "word_start_error_s",
    "utterance_start_error_s",
    "utterance_end_error_s",
)
"""Fields of `Figures` with percentiles, a line each where they were measured."""


def table(figures: Figures) -> str:
    """
    A row for each kind and language, for each tag and for all, in percent with 95 % intervals; then delays and counts.
    """
    head = f"{'kind':<14}{'files':>6}{'words':>7}{'errors':>7}{'wer %':>8}{'':>15}{'formatted %':>12}"
    if figures.one_shot is not UNSET:
        head += f"{'one-shot %':>12}{'more %':>8}{'':>15}{'only live':>11}{'only 1-shot':>13}{'formatted more %':>17}"
    if figures.revised_wer is not UNSET:
        head += f"{'revised %':>11}{'':>15}"
        if figures.revised_difference is not UNSET:
            head += f"{'more %':>8}{'':>15}"
    lines = [head, *(_row(f"{kind.kind} {kind.language}".strip() or "all", kind) for kind in figures.kinds)]
    lines += [_row(f"  {tag.tag}", tag) for tag in figures.tags]
    if figures.wer is not None:
        lines.append(_row("all", figures))
    measured = [(name, found) for name in MEASURED if (found := getattr(figures, name))]
    lines += [f"{name:<26} p50 {found.p50:.3f}  p95 {found.p95:.3f}" for name, found in measured]
    lines.append(f"{'partial_churn':<26} {figures.partial_churn}   rtf {figures.rtf}")
    if figures.revision_s_per_audio_s is not UNSET:
        lines.append(f"{'second pass, CPU s per s':<26} {figures.revision_s_per_audio_s}")
    lines.append(f"{'words said on non-speech':<26} {figures.hallucinated_words_nonspeech}")
    return "\n".join(lines)


def _row(name: str, rates: Rates) -> str:
    line = f"{name:<14}{rates.recordings:>6}{rates.words:>7}{rates.errors:>7}{_percent(rates.wer, rates.wer_interval)}"
    line += f"{_rate(rates.formatted_wer):>12}"
    if at_once := rates.one_shot:
        # there is a rate where there is a word, and only then is there a comparison
        line += f"{100 * (at_once.wer or 0.0):>12.2f}{_percent(at_once.difference, at_once.difference_interval)}"
        line += f"{at_once.errors_only_live:>11}{at_once.errors_only_one_shot:>13}"
        line += f"{_rate(at_once.formatted_difference):>17}"
    if rates.revised_wer is not UNSET and rates.revised_wer_interval is not UNSET:
        line += f"   {_percent(rates.revised_wer, rates.revised_wer_interval)}"
    if rates.revised_difference is not UNSET and rates.revised_difference_interval is not UNSET:
        line += _percent(rates.revised_difference, rates.revised_difference_interval)
    return line


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2f}"


def _percent(rate: float | None, interval: Interval | None) -> str:
    """A rate and its interval, 23 columns."""
    between = f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else ""
    return f"{100 * rate:>8.2f}{between:>15}" if rate is not None else f"{'-':>8}{'':>15}"


def difference_lines(judged: Sequence[JudgedRecording]) -> Iterator[str]:
    """The wrong words of each recording; where it was decoded at once too, only errors that one of the two makes."""
    for one in judged:
        if one.one_shot is None and one.score.differences:
            yield f"{one.id}  {_listed(one.score.differences)}"
        elif one.only_live or one.only_one_shot:
            yield f"{one.id}  live {one.score.errors}, one-shot {one.one_shot.errors if one.one_shot else 0}"
            yield f"    only live:     {_listed(one.only_live)}"
            yield f"    only one-shot: {_listed(one.only_one_shot)}"


def _listed(differences: Sequence[Difference]) -> str:
    return "  ".join(map(str, differences)) or "-"
