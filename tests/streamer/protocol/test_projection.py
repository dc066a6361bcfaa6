"""Tests of streamer/protocol/projection.py."""

from __future__ import annotations

import json

from streamer.protocol.events import Caption, TurnEnd, Word
from streamer.protocol.messages import (
    encode,
)
from streamer.protocol.options import SessionOptions
from streamer.protocol.projection import Projection


def caption(rev: int, stable: str = "", partial: str = "", turn: int = 0) -> Caption:
    """A caption whose words take one second each."""
    texts = [(text, True) for text in stable.split()] + [(text, False) for text in partial.split()]
    words = tuple(
        Word(text=text, start_s=float(i), end_s=i + 1.0, confidence=0.5, stable=is_stable)
        for i, (text, is_stable) in enumerate(texts)
    )
    return Caption(
        turn=turn, rev=rev, stable=stable, partial=partial, start_s=0.0, end_s=float(len(texts)), words=words
    )


class TestProjection:
    """Events as a client asked for them."""

    def test_everything_is_passed_by_default(self) -> None:
        """The default session gets captions with partials and words."""
        event = caption(0, "so", "the")

        assert Projection(SessionOptions()).project(event) == event

    def test_rev_rises_by_one_although_captions_were_dropped(self) -> None:
        """A full queue drops captions; the client sees no gap, and each turn counts for itself."""
        projection = Projection(SessionOptions())
        captions = [caption(4, "a"), caption(7, "a b"), caption(9, "a b c"), caption(0, "x", turn=1)]

        sent = [projection.project(event) for event in captions]

        assert [event.rev for event in sent if isinstance(event, Caption)] == [4, 5, 6, 0]

    def test_without_words(self) -> None:
        """`words` is left out of captions and turns, not sent empty."""
        projection = Projection(SessionOptions(words=False))
        end = TurnEnd(turn=0, text="so", start_s=0, end_s=1, language="en", reason="end", words=())

        for event in (caption(0, "so"), end):
            sent = projection.project(event)
            assert sent is not None
            assert "words" not in json.loads(encode(sent))

    def test_without_partials(self) -> None:
        """A caption comes only when stable text was added, and holds nothing that may change."""
        projection = Projection(SessionOptions(partials=False))
        captions = [
            caption(0, "", "so"),
            caption(1, "so", "the"),
            caption(2, "so", "then"),
            caption(3, "so then"),
        ]

        sent = [projection.project(event) for event in captions]

        assert [event.stable if isinstance(event, Caption) else None for event in sent] == [
            None,
            "so",
            None,
            "so then",
        ]
        assert isinstance(sent[1], Caption)
        assert sent[1].partial == ""
        assert sent[1].words == caption(0, "so").words
        assert sent[1].end_s == 1.0
