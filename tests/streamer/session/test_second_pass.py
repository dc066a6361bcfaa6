"""Tests of streamer/session/second_pass.py: which sound of a turn is decoded once more, and what becomes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.protocol.events import Bye, TurnRevised
from streamer.protocol.options import SessionOptions, Update
from streamer.session.audio_window import WindowOptions
from streamer.session.second_pass import MAX_OUTSTANDING, PART_S, Part, Revision
from streamer.step import StepResult
from tests.helpers.sessions import MODEL
from tests.helpers.talks import Hall, broken_promises, talk
from tests.helpers.words import TOKENIZER, phrase, plain, result

WINDOW = WindowOptions(max_window_s=8.0, keep_s=4.0)
REVISED = SessionOptions(language="en", endpoint_ms=500, revise=True)


def played(hall: Hall, until_s: float) -> list[Revision]:
    """What a talk asks to be decoded once more; nobody answers."""
    hall.play(until_s)
    return hall.session.take_revisions()


def frames_of(part: Part) -> range:
    """Numbers of the frames of a part: in a hall each frame holds its number."""
    numbers = part.log_mel[0].tolist()
    assert numbers == list(range(int(numbers[0]), int(numbers[-1]) + 1))
    return range(int(numbers[0]), int(numbers[-1]) + 1)


def answered(revision: Revision, text: str | None = None) -> list[StepResult]:
    """Results that say the live text, or another text in the first part."""
    results = []
    for part in revision.parts:
        words = phrase(part.text if text is None or results else f" {text}", part.start_s)
        results.append(result(words, part.start_s, logprob=-0.1))
    return results


def applied(revision: Revision, results: list[StepResult]) -> TurnRevised | None:
    """What becomes of these results."""
    return revision.apply(results, MODEL)


class TestSound:
    """Which sound belongs to a turn."""

    def test_a_turn_is_one_part_around_its_voice(self) -> None:
        """From the pre-roll before the first voice to the post-roll after the last one."""
        hall = Hall(talk(4.0, 1.5, 2.8), WINDOW, REVISED)
        first, second = played(hall, 12.0)
        for revision, (start_s, end_s) in [(first, (1.0, 5.0)), (second, (6.5, 9.3))]:
            (part,) = revision.parts
            frames = frames_of(part)
            assert frames[0] / 100 == pytest.approx(start_s - WINDOW.pre_roll_s, abs=0.07)
            assert frames[-1] / 100 == pytest.approx(end_s + WINDOW.post_roll_s, abs=0.07)
            assert part.start_s == pytest.approx(frames[0] / 100)
            assert plain(part.text) == plain(revision.turn.text)

    def test_turns_do_not_share_sound(self) -> None:
        """However short the pause between them is."""
        options = msgspec.structs.replace(REVISED, endpoint_ms=200)
        hall = Hall(talk(2.0, 0.4, 2.0, 0.4, 2.0), WINDOW, options)
        parts = [part for revision in played(hall, 12.0) for part in revision.parts]
        assert len(parts) == 3
        assert all(frames_of(a)[-1] <= frames_of(b)[0] for a, b in itertools.pairwise(parts))

    def test_silence_belongs_to_no_turn(self) -> None:
        """A turn after a minute of silence is one part, as long as its voice."""
        for revision in played(Hall(talk(2.0, 60.0, 2.0), WINDOW, REVISED), 68.0):
            (part,) = revision.parts
            assert part.log_mel.shape[1] / 100 == pytest.approx(2.7, abs=0.15)

    def test_nothing_is_asked_for_where_the_client_did_not_ask(self) -> None:
        """Before and after an update."""
        hall = Hall(talk(2.0, 2.0, 2.0, 2.0, 2.0), WINDOW, msgspec.structs.replace(REVISED, revise=False))
        assert played(hall, 4.5) == []
        hall.session.update(Update(revise=True))
        (revision,) = played(hall, 8.5)
        assert revision.turn.turn == 1
        hall.session.update(Update(revise=False))
        assert played(hall, 13.0) == []

    def test_the_request_depends_on_nothing_before_it(self) -> None:
        """No prefix, no window that is kept, the live text as draft, and what the client asked for."""
        options = msgspec.structs.replace(REVISED, prompt="Ray Serve", keyterms=("Ray",), revise="base")
        (revision,) = played(Hall(talk(3.0), WINDOW, options), 6.0)
        (request,) = revision.requests(MODEL, "revision")
        assert revision.model == "base"
        assert (request.prefix, request.window_start, request.settled_tokens) == ((), None, 0)
        assert TOKENIZER.decode(request.draft) == revision.parts[0].text
        assert (TOKENIZER.decode(request.prompt), request.keyterms, request.language) == (" Ray Serve", ("Ray",), "en")

    def test_a_turn_whose_beginning_is_no_longer_held_keeps_its_text(self) -> None:
        """Voice without words went on for so long that the rest of its sound would not say its words."""
        sung = [5.0 + 4.4 * n for n in range(9)]  # 0.4 s each, the last one until 40.6 s
        hall = Hall(
            talk(2.0),
            WINDOW,
            msgspec.structs.replace(REVISED, endpoint_ms=5000),
            voiced=lambda at_s: 1.0 <= at_s < 3.0 or any(at_s - 0.4 < begin_s <= at_s for begin_s in sung),
        )
        assert played(hall, 48.0) == []
        assert [plain(turn.text) for turn in hall.turns] == [hall.spoken()]

    @settings(max_examples=25)
    @given(
        st.lists(st.floats(0.5, 60.0), min_size=1, max_size=3),
        st.lists(st.floats(0.1, 3.0), min_size=3, max_size=3),
        st.integers(0, 3),
    )
    def test_every_word_of_a_turn_is_in_its_parts(
        self, spoken_s: list[float], pauses_s: list[float], late: int
    ) -> None:
        """Turns of any length: no part is longer than a window, none overlaps, and together they say the turn."""
        lengths = [x for pair in zip(spoken_s, pauses_s, strict=False) for x in pair]
        hall = Hall(talk(*lengths), WINDOW, REVISED, latency=late)
        revisions = played(hall, sum(lengths) + 8.0)
        assert [revision.turn for revision in revisions] == hall.turns
        parts = [part for revision in revisions for part in revision.parts]
        assert all(len(frames_of(part)) <= 3000 for part in parts)
        assert all(frames_of(a)[-1] <= frames_of(b)[0] for a, b in itertools.pairwise(parts))
        for revision in revisions:
            assert plain("".join(part.text for part in revision.parts)) == plain(revision.turn.text)
            assert all(len(part.log_mel[0]) <= 100 * (PART_S + 1.0) for part in revision.parts[:-1])
        for part in parts:
            said = plain(part.text)
            within = [w for w in hall.words if w.text.strip() in said]
            assert within[0].start_s >= part.start_s - 0.05
            assert within[-1].end_s <= part.start_s + len(part.log_mel[0]) / 100 + 0.05


class TestResult:
    """What becomes of a result."""

    @pytest.fixture
    def revision(self) -> Revision:
        """Of a turn of three words."""
        (revision,) = played(Hall(talk(1.2), WINDOW, REVISED), 4.0)
        return revision

    def test_another_text_revises_the_turn(self, revision: Revision) -> None:
        """With its words, their times, and the model that says it."""
        event = applied(revision, answered(revision, "One, two, three."))
        assert event is not None
        assert (event.turn, event.text, event.reason, event.model) == (0, "One, two, three.", "text", "toy")
        assert [word.text for word in event.words or ()] == ["One,", "two,", "three."]
        assert all(word.stable for word in event.words or ())

    def test_the_same_text_says_nothing(self, revision: Revision) -> None:
        """Times may differ."""
        assert applied(revision, answered(revision)) is None

    def test_no_part_of_a_character_is_said(self, revision: Revision) -> None:
        """A character that the decoder cuts off or damages is left out, as it is of live text."""
        cup = TOKENIZER.encode("\N{HOT BEVERAGE}")
        said = result(phrase(" One two", revision.parts[0].start_s), revision.parts[0].start_s, logprob=-0.1)
        cut = replace(
            said,
            tokens=(*said.tokens, *cup[:-1]),
            logprobs=(*said.logprobs, -0.1),
            starts_s=(*said.starts_s, said.starts_s[-1]),
        )
        event = applied(revision, [cut])
        assert event is not None
        assert event.text == "One two"

    @pytest.mark.parametrize(
        ("text", "is_decoded"), [("So it is. So it is!", False), ("no no", True), ("No, no, no", False)]
    )
    def test_speech_that_repeats_itself_is_not_decoded_again(
        self, revision: Revision, text: str, is_decoded: bool
    ) -> None:
        """Decoding it as a whole loses count, and live text does not."""
        said = replace(revision, turn=msgspec.structs.replace(revision.turn, text=f"{text} and more"))
        assert bool(said.requests(MODEL, "revision")) == is_decoded

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda r: replace(r, ended=False), id="cut"),
            pytest.param(lambda r: replace(r, no_speech_prob=0.9, logprobs=(-3.0,) * len(r.tokens)), id="no speech"),
            pytest.param(lambda r: replace(r, tokens=(), logprobs=(), starts_s=(0.0,)), id="nothing"),
            pytest.param(
                lambda r: replace(r, tokens=r.tokens[:2] * 40, logprobs=(-0.1,) * 80, starts_s=(0.0,) * 81), id="loop"
            ),
        ],
    )
    def test_a_doubtful_result_leaves_the_text(
        self, revision: Revision, spoil: Callable[[StepResult], StepResult]
    ) -> None:
        """The live text is worth more."""
        results = answered(revision, "something else again")
        assert applied(revision, [spoil(each) for each in results]) is None


class TestSession:
    """When a session says that a turn was revised, and when it is over."""

    def test_a_session_says_bye_after_its_last_revision(self) -> None:
        """It is not over before; what was said and the end of the turn stay as they were."""
        hall = Hall(talk(2.0, 1.5, 2.0), WINDOW, REVISED)
        hall.play(8.0)
        hall.say(hall.session.end())
        first, second = hall.session.take_revisions()
        before = list(hall.events)
        assert not hall.session.is_over
        hall.say(hall.session.revised(0, applied(first, answered(first, "zero"))))
        assert not hall.session.is_over
        hall.say(hall.session.revised(1, None))
        assert hall.session.is_over
        assert hall.events[: len(before)] == before
        assert type(hall.events[len(before)]) is TurnRevised
        assert [type(event) for event in hall.events if isinstance(event, Bye)] == [Bye]
        assert broken_promises(hall.events) == []
        assert second.turn.turn == 1

    def test_a_revision_is_answered_once(self) -> None:
        """A second answer, or one nobody waits for, changes nothing."""
        hall = Hall(talk(2.0), WINDOW, REVISED)
        (revision,) = played(hall, 5.0)
        event = applied(revision, answered(revision, "zero"))
        assert hall.session.revised(0, event) == [event]
        assert hall.session.revised(0, event) == []
        assert hall.session.revised(7, None) == []

    def test_a_recording_waits_for_its_revisions(self) -> None:
        """No more of it is taken while `MAX_OUTSTANDING` turns wait; live sound is always taken."""
        lengths = [1.0, 1.5] * (MAX_OUTSTANDING + 1)
        live, recorded = (
            Hall(talk(*lengths), WINDOW, REVISED, revises_all=revises_all) for revises_all in (False, True)
        )
        live.play(14.0)
        assert not live.session.is_full
        while not recorded.session.is_full:
            recorded.play(recorded.now_s + 0.1)
        assert len(recorded.session.take_revisions()) == MAX_OUTSTANDING
        recorded.session.revised(0, None)
        assert not recorded.session.is_full
