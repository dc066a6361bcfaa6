"""Tests of streamer/client/resumption.py: audio that can be sent again, and one merger out of several sessions."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.client.resumption import MAX_BLOCK_BYTES, Backlog, EventMerger, RevisionCounter
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Speech, TurnEnd, TurnRevised, Word
from streamer.protocol.messages import AudioFormat, End, Flush, Resume
from streamer.protocol.options import Update

FORMAT = AudioFormat(rate=8000, encoding="mulaw")
"""A byte is a sample."""


def everything(backlog: Backlog) -> bytes:
    """The audio that is still to be sent."""
    sent = b""
    while (message := backlog.take()) is not None:
        sent += message if isinstance(message, bytes) else b""
    return sent


class TestBacklog:
    """Bytes and commands, in order, as often as they are needed."""

    @given(
        blocks=st.lists(st.integers(1, 400), min_size=1, max_size=20),
        actions=st.lists(st.tuples(st.sampled_from(["take", "rewind", "forget"]), st.floats(0, 1)), max_size=40),
    )
    def test_a_daemon_gets_every_byte(self, blocks: list[int], actions: list[tuple[str, float]]) -> None:
        """However often connections break: what was received, continued from where it ended, is what was put in."""
        backlog, put, received, stable = Backlog(FORMAT, 60.0), b"", b"", 0
        for block in blocks:
            audio = bytes((len(put) + i) % 251 for i in range(block))
            backlog.put(audio)
            put += audio
        for action, share in actions:
            if action == "take" and (message := backlog.take()) is not None:
                received += message
            elif action == "forget":
                stable = max(stable, int(share * len(received)))
                backlog.forget(stable / 8000)
            elif action == "rewind":
                received = received[: stable + round(share * (len(received) - stable))]
                assert backlog.rewind(len(received) / 8000) is None
        assert received + everything(backlog) == put

    def test_long_audio_is_split(self) -> None:
        """No message is longer than a daemon takes, and each is whole frames."""
        backlog = Backlog(AudioFormat(channels=3), 60.0)
        backlog.put(bytes(6 * 20_000))
        sizes = []
        while (message := backlog.take()) is not None:
            sizes.append(len(message))
        assert max(sizes) <= MAX_BLOCK_BYTES
        assert sum(sizes) == 120_000
        assert not any(size % 6 for size in sizes)

    def test_part_of_a_sample_is_refused(self) -> None:
        """It is refused before anything is kept."""
        with pytest.raises(ValueError, match="3 bytes of audio: expected a multiple of 2"):
            Backlog(AudioFormat(), 60.0).put(bytes(3))

    def test_a_container_is_refused(self) -> None:
        """A recording cannot be taken up in its middle."""
        with pytest.raises(ValueError, match="webm_opus: expected raw samples"):
            Backlog(AudioFormat(encoding="webm_opus"), 60.0)

    def test_only_unsent_audio_takes_room(self) -> None:
        """Only what is unsent takes room; what was sent is kept beside it."""
        backlog = Backlog(FORMAT, 1.0)
        for _ in range(2):
            assert backlog.has_room
            backlog.put(bytes(4000))
        assert not backlog.has_room
        backlog.take()
        assert backlog.has_room
        backlog.put(bytes(4000))
        assert (backlog.start_s, backlog.end_s) == (0.0, 1.5)

    def test_a_source_that_is_faster_than_the_daemon_costs_no_sound(self) -> None:
        """A file fills the queue at once and keeps it full: what the daemon has not taken yet is held all the same."""
        backlog = Backlog(FORMAT, 20.0)
        for sent_s in range(1, 101):
            while backlog.has_room:
                backlog.put(bytes(8000))
            assert backlog.take() is not None
            backlog.note_received(max(0, sent_s - 8))
        assert backlog.rewind(92.0) is None
        assert backlog.start_s >= 75.0, "what the daemon has had for long is not kept"

    def test_audio_that_the_daemon_has_not_taken_takes_room(self) -> None:
        """A daemon reads ahead of its sessions: what it has not taken must not be pushed out by what follows."""
        backlog = Backlog(FORMAT, 20.0)
        for _ in range(10):
            assert backlog.has_room
            backlog.put(bytes(8000))
            backlog.take()
        assert not backlog.has_room
        backlog.note_received(1.0)
        assert backlog.has_room
        backlog.put(bytes(8000))
        backlog.take()
        assert not backlog.has_room
        backlog.rewind(9.0)
        assert backlog.has_room, "a new connection says what the daemon has"

    def test_audio_that_is_not_held_is_replaced_by_silence(self) -> None:
        """Times stay true, the stretch is named, and it does not come again as if it were held."""
        backlog = Backlog(FORMAT, 10.0)
        for value in (1, 2, 3, 4):
            backlog.put(bytes([value]) * 32_000)
            backlog.take()
        skipped = backlog.rewind(2.0)
        assert skipped is not None
        assert (skipped.start_s, skipped.end_s) == (2.0, 4.0)
        assert everything(backlog) == b"\xff" * 16_000 + b"".join(bytes([value]) * 32_000 for value in (2, 3, 4))
        backlog.forget(2.4)
        assert backlog.start_s == 4.0

    def test_commands_keep_their_place(self) -> None:
        """One that lies where the daemon stopped may not have arrived: it is sent again."""
        backlog = Backlog(FORMAT, 60.0)
        update = Update(language="de")
        for message in (b"a" * 8000, update, b"b" * 8000, End()):
            backlog.put(message)
        while backlog.take() is not None:
            pass
        backlog.forget(1.0)
        backlog.rewind(1.0)
        assert [backlog.take() for _ in range(4)] == [update, b"b" * 8000, End(), None]

    def test_an_unanswered_flush_is_sent_again_once(self) -> None:
        """An unanswered flush goes first, unless it is still on its way."""
        backlog = Backlog(FORMAT, 60.0)
        backlog.put(b"a")
        backlog.put(Flush(id=2))
        backlog.repeat(Flush(id=1))
        backlog.repeat(Flush(id=2))
        assert [backlog.take() for _ in range(4)] == [Flush(id=1), b"a", Flush(id=2), None]


def words(text: str, start_s: float, n_stable: int) -> tuple[Word, ...]:
    """A word every half second."""
    return tuple(
        Word(text=word, start_s=start_s + i / 2, end_s=start_s + (i + 1) / 2, confidence=1.0, stable=i < n_stable)
        for i, word in enumerate(text.split())
    )


def caption(turn: int, rev: int, stable: str, partial: str = "", start_s: float = 0.0) -> Caption:
    """A caption with its words."""
    said = words(f"{stable} {partial}", start_s, len(stable.split()))
    end_s = said[-1].end_s if said else start_s
    return Caption(turn=turn, rev=rev, stable=stable, partial=partial, start_s=start_s, end_s=end_s, words=said)


def turn_end(turn: int, text: str, start_s: float = 0.0) -> TurnEnd:
    """A turn of these words."""
    said = words(text, start_s, 99)
    return TurnEnd(
        turn=turn, text=text, start_s=start_s, end_s=said[-1].end_s, language="en", reason="silence", words=said
    )


class TestStory:
    """What a user is told."""

    def test_events_of_one_session_pass_unchanged(self) -> None:
        """Events pass as they are."""
        merger = EventMerger()
        assert merger.begin("s_1", "r_1") == []
        events: list[Event] = [
            Speech(state="started", at_s=0.1),
            caption(0, 1, "", "so"),
            caption(0, 2, "so", "the"),
            turn_end(0, "so the"),
            caption(1, 1, "", "first"),
            Ack(received_s=3.0, stable_s=2.5, lag_s=0.1),
        ]
        assert [told for event in events for told in merger.merge(event)] == events
        assert (merger.n_turns, merger.stable_s) == (1, 2.5)

    def test_repeated_events_of_a_known_session_are_dropped(self) -> None:
        """What is said again is not told again."""
        merger = EventMerger()
        merger.begin("s_1", "r_1")
        for event in (turn_end(0, "so the first"), caption(1, 1, "thing", "is", 2.0)):
            merger.merge(event)
        assert merger.resume(0.0) == Resume(session="s_1", token="r_1", stable_s=2.5, context="so the first thing")
        assert merger.begin("s_1", "r_1") == []
        assert merger.merge(turn_end(0, "so the first")) == []
        assert merger.merge(caption(1, 1, "thing", "is", 2.0)) == []
        assert merger.merge(caption(1, 4, "thing is", "", 2.0)) == [caption(1, 4, "thing is", "", 2.0)]

    def test_a_new_session_ends_the_open_turn_and_continues_the_numbers(self) -> None:
        """The open turn ends with its stable text, and numbers go on."""
        merger = EventMerger()
        merger.begin("s_1", "r_1")
        merger.merge(turn_end(0, "so the first"))
        merger.merge(caption(1, 1, "thing", "is", 2.0))
        [cut] = merger.begin("s_2", "r_2")
        assert isinstance(cut, TurnEnd)
        assert (cut.turn, cut.text, cut.start_s, cut.end_s) == (1, "thing", 2.0, 2.5)
        assert merger.merge(caption(0, 1, "", "is late", 2.5)) == [caption(2, 1, "", "is late", 2.5)]
        assert merger.merge(turn_end(0, "is late", 2.5)) == [turn_end(2, "is late", 2.5)]
        assert merger.merge(Bye(reason="end", audio_s=4.0, turns=1)) == [Bye(reason="end", audio_s=4.0, turns=3)]

    def test_partial_text_is_said_again_in_the_same_turn(self) -> None:
        """The new session says it again, in the same turn."""
        merger = EventMerger()
        merger.begin("s_1", "r_1")
        merger.merge(caption(0, 1, "", "so"))
        assert merger.begin("s_2", "r_2") == []
        assert merger.merge(caption(0, 1, "", "so the")) == [caption(0, 1, "", "so the")]

    def test_a_revision_comes_once_under_the_merged_number(self) -> None:
        """Repeated after a resume it is dropped; a turn of a later session is revised under its merged number."""
        revision = TurnRevised(turn=0, text="One.", language="en", reason="text", model="base")
        merger = EventMerger()
        merger.begin("s_1", "r_1")
        end = TurnEnd(turn=0, text="one", start_s=0.0, end_s=1.0, language="en", reason="silence")
        assert [*merger.merge(end), *merger.merge(revision)] == [end, revision]
        merger.begin("s_1", "r_1")
        assert [*merger.merge(end), *merger.merge(revision)] == []
        merger.begin("s_2", "r_2")
        merger.merge(end)
        assert [event.turn for event in merger.merge(revision)] == [1]  # type: ignore[attr-defined]

    def test_a_flush_is_answered_once(self) -> None:
        """It may have been sent twice."""
        merger = EventMerger()
        merger.expect_flushed(1)
        assert merger.merge(Flushed(id=1)) == [Flushed(id=1)]
        assert merger.merge(Flushed(id=1)) == []
        assert merger.flushes == []

    def test_a_speaker_tells_the_room_what_was_said(self) -> None:
        """Every turn and the stable words of the open one, numbered over all sessions; nobody else tells anything."""
        merger, alone = EventMerger(keeps_turns=True), EventMerger()
        for one in (merger, alone):
            one.begin("s_1", "r_1")
            one.merge(turn_end(0, "so the first"))
            one.merge(caption(1, 1, "thing", "is", 2.0))
        resume = merger.resume(0.0, 1000)
        assert resume is not None
        told = [(past.turn, past.text, past.open) for past in resume.turns]
        assert told == [(0, "so the first", False), (1, "thing", True)]
        merger.begin("s_2", "r_2")
        merger.merge(turn_end(0, "is late", 2.5))
        again = merger.resume(0.0, 1000)
        assert again is not None
        assert [past.turn for past in again.turns] == [0, 1, 2]
        assert (resume.first_turn, again.first_turn) == (0, 2)
        told_alone = alone.resume(0.0, 1000)
        assert told_alone is not None
        assert told_alone.turns == ()

    @given(st.lists(st.text(max_size=30), max_size=20), st.integers(0, 3000))
    def test_past_turns_fit_into_a_message(self, texts: list[str], max_bytes: int) -> None:
        """The newest ones, as many as fit."""
        merger = EventMerger(keeps_turns=True)
        merger.begin("s_1", "r_1")
        for n, text in enumerate(texts):
            merger.merge(msgspec.structs.replace(turn_end(n, "a"), text=text))
        resume = merger.resume(0.0, max_bytes)
        assert resume is not None
        n_told = len(resume.turns)
        assert [past.text for past in resume.turns] == texts[len(texts) - n_told :]
        assert n_told == 0 or len(msgspec.json.encode(resume.turns)) <= max_bytes + 1
        with_one_more = [*texts[len(texts) - n_told - 1 :]] if n_told < len(texts) else ["x" * max_bytes]
        assert len(msgspec.json.encode(with_one_more)) + 150 * len(with_one_more) > max_bytes

    def test_resume_begins_where_audio_is_held(self) -> None:
        """A new session begins where there is audio again."""
        merger = EventMerger()
        merger.begin("s_1", "r_1")
        resume = merger.resume(7.5)
        assert resume is not None
        assert resume.stable_s == 7.5


def test_revisions_rise_by_one_in_each_turn() -> None:
    """Numbers rise by one in each turn, whatever was dropped on the way."""
    revisions = RevisionCounter()
    events = [caption(0, 4, "so"), caption(0, 9, "so the"), turn_end(0, "so the"), caption(1, 2, "first")]
    expected = [caption(0, 1, "so"), caption(0, 2, "so the"), turn_end(0, "so the"), caption(1, 1, "first")]
    assert [revisions.number(event) for event in events] == expected
