"""Judged recordings, made by hand."""

from __future__ import annotations

from streamer.evaluation.formatted import formatted_score
from streamer.evaluation.judge import JudgedRecording
from streamer.evaluation.latency import LiveTranscript
from streamer.evaluation.scoring import word_scorer
from streamer.protocol.events import TurnEnd, Word


def judged(
    said: str,
    heard: str,
    at_once: str | None = None,
    kind: str = "short",
    name: str = "x",
    tags: tuple[str, ...] = (),
) -> JudgedRecording:
    """A recording of two seconds, its live transcript, and its text as decoded at once."""
    score = word_scorer()
    words = tuple(Word(text=text, start_s=0.1, end_s=0.5, confidence=0.9, stable=True) for text in heard.split())
    turn = TurnEnd(turn=0, text=heard, start_s=0.0, end_s=1.0, language="en", reason="silence", words=words)
    return JudgedRecording(
        id=name,
        kind=kind,
        language="en",
        tags=tags,
        text=said,
        transcript=LiveTranscript(
            duration_s=2.0, turns=[turn], first_sight_s=[0.1], commit_s=[0.7, 0.9], n_rewritten=1
        ),
        score=score("en", said, heard),
        one_shot=None if at_once is None else score("en", said, at_once),
        one_shot_text=at_once,
        formatted=formatted_score("en", said, heard),
        one_shot_formatted=None if at_once is None else formatted_score("en", said, at_once),
    )
