"""The figures for readers, as a page of Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.rivals.figures import DELAY_BOUND_S, MISSING_BOUND, WER_BOUND, Figures, is_sustained, most_sustained
from streamer.evaluation.percentiles import Percentiles

HEAD = (
    "| system | streams | WER % | final P50 | P95 | sight P50 | P95 | CPU s / audio s | MB | without final | rewritten "
    "| refused | failed | |\n|---|" + "---:|" * 12 + "---|"
)


def page(title: str, facts: Mapping[str, str], runs: Mapping[str, Sequence[Figures]]) -> str:
    """
    A page of its own.

    Args:
        title: Its heading.
        facts: What the figures are of: date, machine, commit, versions.
        runs: By system, from few to many streams; at least one each.
    """
    parts = [
        f"# {title}",
        "\n".join(f"- {name}: {fact}" for name, fact in facts.items()),
        "Sustained is the largest number of streams with P95 from the end of an utterance to its final text of "
        f"{DELAY_BOUND_S:g} s or less, word errors within {100 * WER_BOUND:g} points of the fewest streams, and at "
        f"most {100 * MISSING_BOUND:g} % of the utterances without final text. Delays are seconds from the end of an "
        "utterance; first sight of the place of its last word may come before (negative).",
        "| system | sustained streams |\n|---|---:|\n"
        + "\n".join(f"| {system} | {most_sustained(one)} |" for system, one in runs.items()),
        HEAD + "\n" + "\n".join(_row(run, one) for one in runs.values() for run in one),
    ]
    complaints = [
        f"- {run.system}, {run.n_streams}: {complaint}"
        for one in runs.values()
        for run in one
        for complaint in run.complaints
    ]
    return "\n\n".join([*parts, *(["Refused and failed:", "\n".join(complaints)] if complaints else [])]) + "\n"


def _row(run: Figures, runs: Sequence[Figures]) -> str:
    cells = (
        run.system,
        run.n_streams,
        "-" if run.wer is None else f"{100 * run.wer:.2f}",
        *_percentiles(run.final_s),
        *_percentiles(run.sight_s),
        "-" if run.cpu_per_audio_s is None else f"{run.cpu_per_audio_s:.3f}",
        f"{run.peak_mb:.0f}",
        f"{run.n_without_final} of {run.n_utterances}",
        run.n_rewritten,
        run.n_refused,
        run.n_failed,
        "sustained" if is_sustained(run, runs[0]) else "",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _percentiles(values: Percentiles | None) -> tuple[str, str]:
    return (f"{values.p50:.2f}", f"{values.p95:.2f}") if values else ("-", "-")
