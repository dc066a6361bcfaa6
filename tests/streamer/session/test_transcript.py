"""Tests of streamer/session/transcript.py: the promises a client relies on."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamer.protocol.events import Caption, TurnEnd
from streamer.session.transcript import Transcript
from streamer.session.words import SpokenWord
from streamer.text.punctuation import without_leading_marks
from tests.helpers.words import phrase, plain, word

PIECES = [" so", " Then", " well,", " stop.", ".", " ...", ",", "好", " don", "'t", " 3", ".5"]
DOINGS = st.lists(
    st.tuples(st.sampled_from(["commit", "show", "show", "end"]), st.lists(st.sampled_from(PIECES), max_size=4)),
    max_size=25,
)


def spoken(pieces: list[str], start_s: float) -> list[SpokenWord]:
    """One word a piece, a tenth of a second each."""
    return [word(piece, start_s + i / 10, start_s + (i + 1) / 10) for i, piece in enumerate(pieces)]


@given(doings=DOINGS)
def test_promises(doings: list[tuple[str, list[str]]]) -> None:
    """Stable text only grows, revisions rise by one, turns have no gaps, and a turn's text begins with its stable."""
    transcript = Transcript(words=True)
    turn, rev, stable, now_s = 0, 0, "", 0.0
    for what, pieces in doings:
        words = spoken(pieces, now_s)
        if what == "commit":
            transcript.commit(words)
            now_s += 0.1 * len(pieces)
            continue
        for event in transcript.show(words) if what == "show" else transcript.end_turn("en", "silence"):
            assert event.turn == turn
            if isinstance(event, Caption):
                assert event.rev == rev + 1
                assert event.stable.startswith(stable)
                rev, stable = event.rev, event.stable
            else:
                # by letters: "so" and "好" are one word
                assert "".join(plain(event.text)).startswith("".join(plain(stable)))
                turn, rev, stable = turn + 1, 0, ""
    assert transcript.n_turns == turn


@given(doings=DOINGS)
def test_every_turn_that_was_seen_ends(doings: list[tuple[str, list[str]]]) -> None:
    """A turn with stable or shown text is ended, one event each; one that nobody saw is not numbered."""
    transcript, has_text = Transcript(words=False), False
    for what, pieces in [*doings, ("end", [])]:
        if what == "commit":
            transcript.commit(spoken(pieces, 0.0))
            has_text = has_text or bool(without_leading_marks("".join(pieces)))
        elif what == "show":
            has_text = bool(transcript.show(spoken(pieces, 0.0))) or has_text
        else:
            assert len(transcript.end_turn("en", "end")) == has_text
            assert not transcript.is_open
            has_text = False


@given(doings=DOINGS)
def test_no_turn_begins_with_a_mark(doings: list[tuple[str, list[str]]]) -> None:
    """Marks that come after their turn has ended are left out, of text and of words, shown or final."""
    transcript = Transcript(words=True)
    for what, pieces in doings:
        if what == "commit":
            transcript.commit(spoken(pieces, 0.0))
            continue
        for event in transcript.show(spoken(pieces, 0.0)) if what == "show" else transcript.end_turn("en", "limit"):
            text = f"{event.stable}{event.partial}" if isinstance(event, Caption) else event.text
            assert text == without_leading_marks(text)
            assert all(each.text == without_leading_marks(each.text) for each in list(event.words or ())[:1])


def test_a_mark_joins_the_turn_that_it_ends() -> None:
    """The same mark opens no turn: only the text behind it does."""
    transcript = Transcript(words=True)
    transcript.commit(phrase(" so it"))
    transcript.commit([word(",")])
    [ended] = transcript.end_turn("en", "limit")
    transcript.commit([word("."), *phrase(" In this")])
    [following] = transcript.end_turn("en", "end")

    assert (ended.text, following.text) == ("so it,", "In this")


def test_nothing_new_is_not_shown_again() -> None:
    """An unchanged text is no event."""
    transcript = Transcript(words=True)
    assert transcript.show([]) == []
    assert len(transcript.show(phrase(" so it"))) == 1
    assert transcript.show(phrase(" so it")) == []


def test_caption_holds_both_parts() -> None:
    """Stable and partial text together are what was said, without the first space; times span all words."""
    transcript = Transcript(words=True)
    transcript.commit(phrase(" so it", start_s=1.0))
    [caption] = transcript.show(phrase(" is late.", start_s=1.8))
    assert (caption.stable, caption.partial) == ("so it", " is late.")
    assert (caption.start_s, caption.end_s) == (1.0, 2.6)
    assert [(w.text, w.stable) for w in caption.words] == [("so", True), ("it", True), ("is", False), ("late.", False)]
    [first] = Transcript(words=True).show(phrase(" so"))
    assert (first.stable, first.partial) == ("", "so")


def test_words_stay_where_they_are_when_marks_join() -> None:
    """A mark that arrives later becomes part of the word before it; no index moves."""
    transcript = Transcript(words=True)
    transcript.commit(phrase(" so it"))
    [before] = transcript.show([word(".")])
    transcript.commit([word(".")])
    [after] = transcript.show(phrase(" Then"))
    assert [w.text for w in before.words] == ["so", "it"]
    assert [w.text for w in after.words] == ["so", "it.", "Then"]
    assert before.partial == "."
    assert after.stable == "so it."


@given(doings=DOINGS)
def test_stable_words_keep_their_index(doings: list[tuple[str, list[str]]]) -> None:
    """A stable word stays at its place for the rest of the turn; at most a mark is added to it."""
    transcript = Transcript(words=True)
    stable: list[str] = []
    for what, pieces in doings:
        words = spoken(pieces, 0.0)
        if what == "commit":
            transcript.commit(words)
            continue
        for event in transcript.show(words) if what == "show" else transcript.end_turn("en", "limit"):
            assert not isinstance(event.words, msgspec.UnsetType)
            now = [w.text for w in event.words if w.stable]
            assert all(plain(a) == plain(b) for a, b in zip(stable, now, strict=False))
            assert len(now) >= len(stable)
            stable = now if isinstance(event, Caption) else []


def test_no_words_unless_asked_for() -> None:
    """Without words the field is left out, in captions and at the end."""
    transcript = Transcript(words=False)
    transcript.commit(phrase(" so"))
    [caption] = transcript.show([])
    [end] = transcript.end_turn("en", "silence")
    assert "words" not in msgspec.to_builtins(caption)
    assert "words" not in msgspec.to_builtins(end)


def test_end_of_a_turn() -> None:
    """The end carries text, language, reason and times; the next turn starts afresh."""
    transcript = Transcript(words=True)
    transcript.commit(phrase(" so it is.", start_s=2.0))
    [end] = transcript.end_turn("de", "flush")
    assert isinstance(end, TurnEnd)
    assert (end.turn, end.text, end.language, end.reason) == (0, "so it is.", "de", "flush")
    assert (end.start_s, end.end_s) == (2.0, 3.2)
    assert [w.stable for w in end.words] == [True] * 3
    [caption] = transcript.show(phrase(" next"))
    assert (caption.turn, caption.rev, caption.stable) == (1, 1, "")


def test_turn_that_was_withdrawn_ends_empty() -> None:
    """Text that was shown and then withdrawn ends as a turn without text, so that it can be taken off the screen."""
    transcript = Transcript(words=True)
    transcript.show(phrase(" ghost"))
    transcript.show([])
    [end] = transcript.end_turn("en", "silence")
    assert (end.turn, end.text, end.words) == (0, "", ())
    assert transcript.end_turn("en", "silence") == []
    assert transcript.n_turns == 1


def test_a_withdrawn_turn_of_a_session_that_goes_on_is_no_earlier_than_it() -> None:
    """Before the first stable word nothing else is known of its time."""
    transcript = Transcript(words=True, offset_s=1000.0)
    transcript.show(phrase(" so", start_s=1001.0))

    [caption] = transcript.show([])
    [turn] = transcript.end_turn("en", "silence")

    assert (caption.start_s, caption.end_s, turn.start_s, turn.end_s) == (1000.0, 1000.0, 1000.0, 1000.0)


def test_withdrawn_text_leaves_the_screen() -> None:
    """A partial that the next hypothesis drops is shown as dropped, not kept until the turn ends."""
    transcript = Transcript(words=True)
    transcript.show(phrase(" ghost"))
    [caption] = transcript.show([])
    assert (caption.rev, caption.stable, caption.partial, caption.words) == (2, "", "", ())


def test_sentence_ends() -> None:
    """Only stable text ends a sentence, in any script."""
    transcript = Transcript(words=True)
    assert not transcript.ends_sentence
    transcript.show(phrase(" so."))
    assert not transcript.ends_sentence
    for text, ends in ((" so", False), (" it.", True), (" is,", False), (" 好。", True), (" क।", True), (" no?", True)):
        transcript.commit([word(text)])
        assert transcript.ends_sentence is ends


def test_a_long_turn_ends_with_its_sentence_and_an_overlong_one_anywhere() -> None:
    """A turn without stable text is never too long."""
    transcript = Transcript(words=False)
    assert not transcript.is_overlong(0.0)
    transcript.commit(phrase(" so it goes on", word_s=1.0))
    assert not transcript.is_overlong(3.0)
    assert transcript.is_overlong(2.5)
    transcript.commit([word(".", 4.0, 4.0)])
    assert transcript.is_overlong(4.0)
    assert not transcript.is_overlong(4.1)


def test_a_turn_begins_a_sentence_behind_one_that_was_finished() -> None:
    """Or behind one without text; the first turn as it was said."""
    transcript = Transcript(words=False, begins_sentence=False)
    assert not transcript.begins_sentence
    for text, begins in ((" it is", False), (" late.", True), ("", True), (" and", False)):
        transcript.commit(phrase(text))
        transcript.end_turn("en", "silence")
        assert transcript.begins_sentence is begins


def test_stable_until_never_falls_back() -> None:
    """The end of stable text moves forward only, over turns too."""
    transcript = Transcript(words=True)
    transcript.commit(phrase(" a b", start_s=5.0))
    assert transcript.stable_until_s == 5.8
    transcript.end_turn("en", "silence")
    transcript.commit(phrase(" c", start_s=1.0))
    assert transcript.stable_until_s == 5.8


def test_clients_are_told_when_words_were_said() -> None:
    """Not where the attention found them; what may be forgotten ends where the attention left."""
    late = [replace(each, said_s=(each.start_s - 0.1, each.end_s - 0.1)) for each in phrase(" so it is", start_s=1.0)]
    transcript = Transcript(words=True)
    transcript.commit(late[:2])

    [caption] = transcript.show(late[2:])

    assert (caption.start_s, caption.end_s) == (0.9, 2.1)
    assert not isinstance(caption.words, msgspec.UnsetType)
    assert [(w.start_s, w.end_s) for w in caption.words] == [(0.9, 1.3), (1.3, 1.7), (1.7, 2.1)]
    assert transcript.stable_until_s == 1.8
