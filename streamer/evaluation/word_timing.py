"""When words and utterances were heard, against when they were spoken. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import msgspec

from streamer.protocol.events import TurnEnd, Word


class TimedWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word of a reference with its times in the recording."""

    word: str
    start_s: float
    end_s: float


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a recording in which somebody speaks, seconds."""

    start: float
    end: float


def word_start_errors(
    spoken: Sequence[TimedWord], heard: Sequence[Word], normalise: Callable[[str], str], lead_in_s: float = 0.0
) -> list[float]:
    """Seconds by which each word heard right, after so much silence, begins too late (or, negative, too early)."""
    said, got = [normalise(w.word) for w in spoken], [normalise(w.text) for w in heard]
    blocks = difflib.SequenceMatcher(None, said, got, autojunk=False).get_matching_blocks()
    return [
        heard[block.b + n].start_s - lead_in_s - spoken[block.a + n].start_s
        for block in blocks
        for n in range(block.size)
        if said[block.a + n]
    ]


def utterances(segments: Sequence[Segment], min_pause_s: float, lead_in_s: float = 0.0) -> list[Segment]:
    """Segments with less than `min_pause_s` between them are one utterance; all of them after so much silence."""
    joined: list[Segment] = []
    for spoken in segments:
        segment = Segment(start=spoken.start + lead_in_s, end=spoken.end + lead_in_s)
        if joined and segment.start - joined[-1].end < min_pause_s:
            joined[-1] = Segment(start=joined[-1].start, end=segment.end)
        else:
            joined.append(segment)
    return joined


def utterance_errors(spoken: Sequence[Segment], turns: Sequence[TurnEnd]) -> tuple[list[float], list[float]]:
    """Seconds by which the nearest turn begins and ends too late (or too early), for each utterance."""
    if not turns:
        return [], []
    starts = [min((t.start_s - u.start for t in turns), key=abs) for u in spoken]
    ends = [min((t.end_s - u.end for t in turns), key=abs) for u in spoken]
    return starts, ends
