"""Errors of the times of words and turns, against the times of a reference. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import msgspec

from streamer.protocol.events import TurnEnd, Word


class TimedWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word of a reference with its times in the recording, seconds."""

    word: str
    start_s: float
    end_s: float


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a recording in which somebody speaks, seconds."""

    start: float
    end: float


def word_start_errors(
    spoken: Sequence[TimedWord], heard: Sequence[Word], normalise: Callable[[str], str], lead_in_s: float = 0.0
) -> list[float]:
    """
    The error of the start of each right word, seconds: positive where the word begins too late.

    Args:
        spoken: The words of the reference with their times in the recording.
        heard: The words of the transcript; right are those that align with the same word of the reference.
        normalise: Applied to words before they are compared.
        lead_in_s: Silence that was played before the recording.
    """
    said, got = [normalise(w.word) for w in spoken], [normalise(w.text) for w in heard]
    blocks = difflib.SequenceMatcher(None, said, got, autojunk=False).get_matching_blocks()
    return [
        heard[block.b + n].start_s - lead_in_s - spoken[block.a + n].start_s
        for block in blocks
        for n in range(block.size)
        if said[block.a + n]
    ]


def utterances(segments: Sequence[Segment], min_pause_s: float, lead_in_s: float = 0.0) -> list[Segment]:
    """
    Join segments into utterances.

    Args:
        segments: Of a recording, in order.
        min_pause_s: Segments with less silence between them are one utterance.
        lead_in_s: Silence that was played before the recording: it is added to all times.
    """
    joined: list[Segment] = []
    for spoken in segments:
        segment = Segment(start=spoken.start + lead_in_s, end=spoken.end + lead_in_s)
        if joined and segment.start - joined[-1].end < min_pause_s:
            joined[-1] = Segment(start=joined[-1].start, end=segment.end)
        else:
            joined.append(segment)
    return joined


def utterance_errors(spoken: Sequence[Segment], turns: Sequence[TurnEnd]) -> tuple[list[float], list[float]]:
    """Errors of the start and of the end of the nearest turn, seconds, for each utterance; positive is too late."""
    if not turns:
        return [], []
    starts = [min((t.start_s - u.start for t in turns), key=abs) for u in spoken]
    ends = [min((t.end_s - u.end for t in turns), key=abs) for u in spoken]
    return starts, ends
