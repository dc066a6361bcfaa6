"""Tests of streamer/text/punctuation.py: turns and subtitles agree on where a sentence ends."""

from __future__ import annotations

import pytest

from streamer.session.transcript import Transcript
from streamer.subtitles.line_breaking import CLAUSE_ENDS
from streamer.text.punctuation import SENTENCE_ENDS
from tests.helpers.words import word


@pytest.mark.parametrize("mark", SENTENCE_ENDS)
def test_turns_and_subtitles_see_the_same_sentences(mark: str) -> None:
    """A turn that is too long ends at any mark at which a subtitle may end."""
    transcript = Transcript(words=False)
    transcript.commit([word(f" so{mark}")])

    assert transcript.ends_sentence
    assert mark in CLAUSE_ENDS


@pytest.mark.parametrize("mark", ["…", "\N{ARABIC FULL STOP}"])
def test_an_ellipsis_and_an_urdu_full_stop_end_a_sentence(mark: str) -> None:
    """Both are written as single characters, not as ASCII dots."""
    assert mark in SENTENCE_ENDS
