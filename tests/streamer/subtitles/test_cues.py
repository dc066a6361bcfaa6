"""Tests of streamer/subtitles/cues.py."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from streamer.protocol.events import TurnEnd, Word
from streamer.subtitles.cues import MAX_CUE_S, to_cues, to_srt, to_ttml, to_txt, to_vtt
from streamer.subtitles.line_breaking import LINE, width


def turn_of(text: str, start_s: float = 0.0, word_s: float = 0.3, *, words: bool = True) -> TurnEnd:
    """A turn whose words follow each other without a pause."""
    texts = text.split()
    timed = tuple(
        Word(text=word, start_s=start_s + i * word_s, end_s=start_s + (i + 1) * word_s, confidence=0.9)
        for i, word in enumerate(texts)
    )
    return TurnEnd(
        turn=0,
        text=text,
        start_s=start_s,
        end_s=start_s + len(texts) * word_s,
        language="en",
        reason="silence",
        words=timed if words else UNSET,
    )


VECTORS = json.loads((Path(__file__).parents[2] / "data" / "subtitles.json").read_text(encoding="utf-8"))
"""Turns and the files they make; `pages/subtitles.js` has to make the same."""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_files_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    """Line breaks, times, escapes, and scripts that are wide or go from right to left."""
    turns = msgspec.convert(vector["turns"], list[TurnEnd])

    assert to_txt(turns) == vector["txt"]
    assert to_srt(turns) == vector["srt"]
    assert to_vtt(turns) == vector["vtt"]
    assert to_ttml(turns) == vector["ttml"]
    ElementTree.fromstring(vector["ttml"])


def test_a_full_cue_ends_with_a_clause() -> None:
    """Not in the middle of the next one, though some of its words would still fit."""
    text = "Nobody there had seen anything like it before, and so they all stayed where they were until the morning"
    first, _ = to_cues([turn_of(text, word_s=0.2)])

    assert " ".join(first.lines).endswith("before,")


def test_cues_stay_long_enough_to_be_read() -> None:
    """Fast speech is shown longer than it was spoken, where nothing follows."""
    (cue,) = to_cues([turn_of("Why not, if nobody minds at all?", word_s=0.1)])

    assert cue.end_s == pytest.approx(32 / 17)


def test_srt_of_one_short_turn() -> None:
    """A short turn is one numbered cue with SubRip's comma."""
    srt = to_srt([turn_of("so the first thing", start_s=3661.2)])

    assert srt == "1\n01:01:01,200 --> 01:01:02,400\nso the first thing\n\n"


def test_vtt_escapes_markup() -> None:
    """Characters that WebVTT reads as markup are escaped, the arrow among them."""
    vtt = to_vtt([turn_of("a <b> & c --> d", start_s=1.0)])

    assert vtt == "WEBVTT\n\n00:00:01.000 --> 00:00:02.800\na &lt;b&gt; &amp; c --&gt; d\n\n"


def test_txt_has_one_line_per_turn() -> None:
    """Turns without words leave no empty line."""
    assert to_txt([turn_of("one two"), turn_of(""), turn_of(" three ")]) == "one two\nthree\n"


def test_no_turns_make_valid_files() -> None:
    """Nothing said is an empty file, in WebVTT a header."""
    assert (to_txt([]), to_srt([]), to_vtt([])) == ("", "", "WEBVTT\n\n")


def test_breaks_lines_after_a_clause() -> None:
    """The break goes after the comma although another would be more even."""
    (cue,) = to_cues([turn_of("when the rain had stopped, everybody went outside again", word_s=0.2)])

    assert cue.lines == ("when the rain had stopped,", "everybody went outside again")


def test_ends_a_cue_with_the_sentence() -> None:
    """A new sentence begins a new cue."""
    cues = to_cues([turn_of("This is the first sentence. And this is another one.", word_s=0.2)])

    assert [cue.lines for cue in cues] == [("This is the first sentence.",), ("And this is another one.",)]


def test_short_cues_stay_readable_without_overlap() -> None:
    """A cue is stretched to its least time, but not into the next one."""
    cues = to_cues([turn_of("Yes.", 1.0, 0.2), turn_of("No.", 1.5, 0.2)])

    assert [(cue.start_s, round(cue.end_s, 3)) for cue in cues] == [(1.0, 1.5), (1.5, 2.333)]


def test_a_language_without_spaces_gets_none() -> None:
    """Words are joined as they stand in the text of the turn."""
    words = tuple(Word(text=text, start_s=float(i), end_s=i + 1.0, confidence=0.9) for i, text in enumerate("今日は"))
    turn = TurnEnd(turn=0, text="今日は", start_s=0, end_s=3, language="ja", reason="end", words=words)

    assert to_cues([turn])[0].lines == ("今日は",)


def test_turn_without_words_is_spread_over_its_time() -> None:
    """A session without words still gets cues of readable length."""
    cues = to_cues([turn_of("word " * 40, words=False, word_s=0.25)])

    assert len(cues) == 3
    assert cues[0].start_s == 0
    assert cues[-1].end_s == pytest.approx(10, abs=0.2)


WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=60)
TURNS = st.lists(
    st.builds(
        lambda words, word_s, timed: turn_of(" ".join(words), word_s=word_s, words=timed),
        st.lists(WORDS, max_size=40),
        st.floats(0.05, 3.0),
        st.booleans(),
    ),
    max_size=3,
)


@given(TURNS)
def test_every_cue_fits_and_nothing_is_lost(turns: list[TurnEnd]) -> None:
    """Whatever is said: at most two full lines, and every character is there, in order."""
    cues = to_cues(turns)

    assert all(len(cue.lines) <= 2 for cue in cues)
    assert all(0 < width(line) <= LINE for cue in cues for line in cue.lines)
    shown = "".join("".join(cue.lines) for cue in cues)
    assert "".join(shown.split()) == "".join("".join(turn.text.split()) for turn in turns)


@given(st.lists(st.text("abc.", min_size=1, max_size=9), max_size=60), st.floats(0.05, 1.0))
def test_no_cue_is_shown_too_long(words: list[str], word_s: float) -> None:
    """As long as no single word lasts longer, no cue lasts more than seven seconds."""
    cues = to_cues([turn_of(" ".join(words), word_s=word_s)])

    assert all(cue.end_s - cue.start_s <= MAX_CUE_S + 1e-6 for cue in cues)
    assert all(cue.end_s <= following.start_s for cue, following in pairwise(cues))
