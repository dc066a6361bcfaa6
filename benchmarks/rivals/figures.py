"""From what was heard to the figures of a run, and the number of streams that a system sustains. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer
import msgspec

from benchmarks.rivals.heard import Heard, plain_words
from benchmarks.rivals.streams import Stream
from streamer.evaluation.percentiles import Percentiles, percentiles
from streamer.evaluation.scoring import Scorer

DELAY_BOUND_S = 4.0
"""P95 from the end of an utterance to its final text."""
WER_BOUND = 0.03
"""More word errors than with the fewest streams, as a part of the words."""
MISSING_BOUND = 0.05
"""Part of the utterances that never had a final text."""
N_LAST_WORDS = 3
"""An utterance is final when the last word came that aligns with one of so many last words of its text."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One stream as it went."""

    stream: Stream
    heard: Heard
    refusal: str = ""
    """Why the server did not take it."""
    failure: str = ""
    """Why it did not end as it should; what was heard until then counts."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the server's processes took."""

    cpu_s: float
    """From the first stream to the end of the last."""
    peak_mb: float
    """Resident, all processes added up."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """
    One system with one number of streams.

    Streams that were refused add nothing but utterances without final text, which have no delay.
    """

    system: str
    n_streams: int
    audio_s: float
    """Of the streams that were taken."""
    n_utterances: int
    n_without_final: int
    wer: float | None
    """None where no stream was taken."""
    final_s: Percentiles | None
    """From the end of an utterance to its final text."""
    sight_s: Percentiles | None
    """From the end of an utterance to anything being shown in that place; negative while it is spoken."""
    cpu_per_audio_s: float | None
    peak_mb: float
    n_rewritten: int
    """Final words that changed afterwards."""
    n_refused: int
    n_failed: int
    complaints: tuple[str, ...]
    """Each reason once."""


def figures(system: str, outcomes: Sequence[Outcome], usage: Usage, score: Scorer) -> Figures:
    """Everything measured in one run; texts are scored as whole streams, pooled."""
    taken = [o for o in outcomes if not o.refusal]
    scores = [score("en", o.stream.text, o.heard.text) for o in taken]
    words, errors = sum(s.words for s in scores), sum(s.errors for s in scores)
    delays = [delay for o in taken for delay in utterance_delays(o.stream, o.heard)]
    n_utterances = sum(len(o.stream.utterances) for o in outcomes)
    audio_s = sum(o.stream.duration_s for o in taken)
    return Figures(
        system=system,
        n_streams=len(outcomes),
        audio_s=round(audio_s, 1),
        n_utterances=n_utterances,
        n_without_final=n_utterances - len(delays),
        wer=round(errors / words, 4) if words else None,
        final_s=percentiles([final_s for final_s, _ in delays]),
        sight_s=percentiles([sight_s for _, sight_s in delays]),
        cpu_per_audio_s=round(usage.cpu_s / audio_s, 3) if audio_s else None,
        peak_mb=round(usage.peak_mb),
        n_rewritten=sum(o.heard.n_rewritten for o in taken),
        n_refused=len(outcomes) - len(taken),
        n_failed=sum(bool(o.failure) for o in taken),
        complaints=tuple(sorted({o.refusal or o.failure for o in outcomes} - {""})),
    )


def utterance_delays(stream: Stream, heard: Heard) -> list[tuple[float, float]]:
    """For each utterance with a final text: seconds from its end to that text, and to the first sight of the place."""
    said, owners = _last_words(stream)
    words = [(word, place) for place, text in enumerate(heard.words) for word in plain_words(text)]
    if not said or not words:
        return []
    aligned = jiwer.process_words(" ".join(said), " ".join(word for word, _ in words))
    places: dict[int, int] = {}
    for chunk in aligned.alignments[0]:
        if chunk.type in ("equal", "substitute"):
            for n in range(chunk.ref_end_idx - chunk.ref_start_idx):
                owner = owners[chunk.ref_start_idx + n]
                if owner is not None:
                    places[owner] = words[chunk.hyp_start_idx + n][1]
    ends_s = [utterance.end_s for utterance in stream.utterances]
    return [(heard.final_at_s[place] - ends_s[i], heard.seen_at_s[place] - ends_s[i]) for i, place in places.items()]


def _last_words(stream: Stream) -> tuple[list[str], list[int | None]]:
    """All words said, and for each the utterance of which it is one of the last words, or None."""
    said: list[str] = []
    owners: list[int | None] = []
    for i, utterance in enumerate(stream.utterances):
        words = plain_words(utterance.text)
        n_before = max(0, len(words) - N_LAST_WORDS)
        said += words
        owners += [None] * n_before + [i] * (len(words) - n_before)
    return said, owners


def is_sustained(run: Figures, fewest: Figures) -> bool:
    """Whether the delay, the words and the utterances are within the bounds; `fewest` is the run of fewest streams."""
    if run.wer is None or fewest.wer is None or run.final_s is None:
        return False
    is_complete = run.n_without_final <= MISSING_BOUND * run.n_utterances
    return is_complete and run.final_s.p95 <= DELAY_BOUND_S and run.wer <= fewest.wer + WER_BOUND


def most_sustained(runs: Sequence[Figures]) -> int:
    """The largest number of streams that one system sustains, 0 if none."""
    fewest = min(runs, key=lambda run: run.n_streams)
    return max((run.n_streams for run in runs if is_sustained(run, fewest)), default=0)


def has_given_up(runs: Sequence[Figures], after: int) -> bool:
    """Whether so many numbers of streams in a row were not sustained, so that larger ones are not worth the time."""
    return len(runs) >= after and not any(is_sustained(run, runs[0]) for run in runs[-after:])
