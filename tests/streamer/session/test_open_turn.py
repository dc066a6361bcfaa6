"""Tests of streamer/session/open_turn.py: when a step is wanted, and where the turn ends."""

from __future__ import annotations

import pytest

from streamer.protocol.options import PAUSE_MS, SessionOptions
from streamer.session.audio_window import CATCH_UP_S, WindowOptions
from streamer.session.endpointing import FINISHED_PAUSE_MS, LONG_PAUSE_MS
from streamer.session.open_turn import OpenTurn
from streamer.session.window import USUAL_WORD_S
from tests.helpers.windows import Listener, listener
from tests.helpers.words import phrase

OPTIONS = WindowOptions(max_window_s=4.0)


def heard(voice_s: float, silence_s: float = 0.0, *, endpoint_ms: int | None = None) -> tuple[Listener, OpenTurn]:
    """A turn with so much voice, and silence behind it."""
    hall = listener(window=OPTIONS)
    hall.hear(voice_s, silence_s)
    return hall, OpenTurn(OPTIONS, hall.audio, hall.voice, hall.window, endpoint_ms=endpoint_ms)


def seconds(frame: int) -> float:
    """Stream time of a frame."""
    return frame / 100


class TestSteps:
    """How far the next step reaches, and when it is wanted."""

    def test_silence_behind_the_voice_is_not_decoded(self) -> None:
        """Only as much as a word may fade in."""
        _, turn = heard(1.6, 1.6)

        assert seconds(turn.target) == pytest.approx(1.6 + OPTIONS.post_roll_s)
        assert turn.lag_s == pytest.approx(1.9)

    def test_a_step_reaches_to_the_end_that_was_asked_for(self) -> None:
        """What is said behind it is another turn."""
        hall, turn = heard(1.6)
        turn.ends.request("flush", turn.target)
        hall.hear(1.6)

        assert seconds(turn.edge) == pytest.approx(1.6)
        assert seconds(turn.target) == pytest.approx(3.2)

    def test_one_step_takes_a_bounded_part_of_a_late_session(self) -> None:
        """The next one is wanted at once."""
        hall, turn = heard(16.0)

        assert seconds(turn.edge) == pytest.approx(OPTIONS.max_window_s + CATCH_UP_S)
        hall.audio.seen = turn.edge
        assert turn.wants_step(interval_s=100.0)

    def test_new_sound_wants_a_step_once_an_interval_of_it_is_there(self) -> None:
        """Less of it waits."""
        hall, turn = heard(1.6)
        hall.audio.seen = turn.target
        assert not turn.wants_step(interval_s=0.3)
        hall.hear(0.32)

        assert turn.wants_step(interval_s=0.3)
        assert not turn.wants_step(interval_s=0.4)

    def test_a_turn_has_waited_since_its_first_word_that_is_not_stable(self) -> None:
        """Before the first step for what none has seen, and where all words are stable for the voice behind them."""
        hall, turn = heard(2.56)
        assert turn.waiting_s == pytest.approx(turn.lag_s) == pytest.approx(2.56)
        hall.read(phrase(" one two three", 0.0, 0.5))
        assert turn.waiting_s == pytest.approx(2.06)
        hall.window.commit(2, closes=False)
        assert turn.waiting_s == pytest.approx(1.06)
        hall.window.commit(1, closes=False)

        assert turn.waiting_s == pytest.approx(1.06 - USUAL_WORD_S)

    def test_words_with_a_delay_that_was_asked_for_have_time(self) -> None:
        """Their turn waits for what no step has seen, as if there were none."""
        hall = listener(SessionOptions(language="en", delay="high"), window=OPTIONS)
        hall.hear(2.56)
        hall.read(phrase(" one two three", 0.0, 0.5))
        turn = OpenTurn(OPTIONS, hall.audio, hall.voice, hall.window, endpoint_ms=None)

        assert turn.waiting_s == turn.lag_s == 0.0

    def test_a_pause_wants_a_step_at_once_and_one_only(self) -> None:
        """The last word is probably complete."""
        hall, turn = heard(1.6)
        hall.audio.seen = turn.target
        hall.hear(0.0, 0.25)
        assert turn.wants_step(interval_s=100.0)
        hall.audio.seen = turn.target

        assert not turn.wants_step(interval_s=100.0)
        assert turn.may_end

    def test_an_end_that_was_asked_for_wants_a_step(self) -> None:
        """Its text is awaited."""
        hall, turn = heard(1.6)
        hall.audio.seen = turn.target
        turn.ends.request("flush", turn.target)

        assert turn.wants_step(interval_s=100.0)
        assert turn.is_complete

    def test_a_window_that_begins_now_wants_no_step(self) -> None:
        """It holds no sound."""
        hall, turn = heard(1.6)
        hall.window.open(1.6)

        assert not turn.wants_step(interval_s=0.0)


class TestPauses:
    """What a pause does to the turn."""

    @pytest.mark.parametrize(("silence_s", "ends"), [(0.4, False), (0.8, True)])
    def test_an_endpoint_that_the_client_names_needs_no_text(self, silence_s: float, ends: bool) -> None:
        """The silence alone counts."""
        _, turn = heard(1.6, silence_s, endpoint_ms=600)

        assert turn.is_at_endpoint is ends
        assert not turn.is_in_inner_pause

    @pytest.mark.parametrize(("text", "pause_ms"), [(" it is so.", FINISHED_PAUSE_MS), (" it is so", LONG_PAUSE_MS)])
    def test_without_an_endpoint_the_text_decides(self, text: str, pause_ms: int) -> None:
        """A finished sentence ends after a short pause, any other text after a long one."""
        hall, turn = heard(1.6, 0.3)
        hall.read(phrase(text), logprobs=(-0.01,) * len(text.replace(".", " .").split()))
        assert turn.has_seen_pause
        assert turn.is_in_inner_pause
        hall.hear(0.0, pause_ms / 1000 - 0.35)
        assert not turn.is_at_endpoint
        hall.hear(0.0, 0.1)

        assert turn.is_at_endpoint

    def test_a_pause_that_no_step_has_seen_asks_one(self) -> None:
        """Its text is not known yet."""
        _, turn = heard(1.6, PAUSE_MS / 1000 + 0.1)

        assert turn.is_at_endpoint
        assert not turn.is_in_inner_pause

    def test_a_pause_inside_a_sentence_is_no_end(self) -> None:
        """The step that it asked for finds that the sentence goes on."""
        hall, turn = heard(1.6, 0.6)
        turn.ends.request("silence", turn.target)
        assert not turn.closes
        hall.read(phrase(" it is so"))

        assert turn.is_complete
        assert turn.goes_on

    @pytest.mark.parametrize("reason", ["flush", "end"])
    def test_an_end_that_the_client_asks_for_ends_any_text(self, reason: str) -> None:
        """Nothing is asked of it."""
        hall, turn = heard(1.6, 0.6)
        turn.ends.request("flush" if reason == "flush" else "end", turn.target)
        hall.read(phrase(" it is so"), closes=turn.closes)

        assert turn.closes
        assert not turn.goes_on
