"""Tests of streamer/session/acks.py: which audio a client may forget, and where a session ends."""

from __future__ import annotations

from streamer.protocol.events import Ack
from streamer.session.acks import NOTICE_S, UNFINISHED_S, Acks, Progress
from tests.helpers.words import word

PRE_ROLL_S = 0.5


def progress(received_s: float, final_s: float = 0.0, speech_start_s: float | None = None) -> Progress:
    """A session without lag."""
    return Progress(received_s=received_s, final_s=final_s, speech_start_s=speech_start_s, lag_s=0.0)


def stable_s(where: Progress) -> float:
    """Where the ack says that audio is still needed."""
    return Acks(PRE_ROLL_S, 0.0).current(where).stable_s


def test_an_open_turn_needs_its_audio_from_the_pre_roll_on() -> None:
    """A lost daemon can decode the turn again; its final words are not needed any more."""
    assert stable_s(progress(9.0, speech_start_s=4.0)) == 4.0 - PRE_ROLL_S
    assert stable_s(progress(9.0, final_s=7.5, speech_start_s=4.0)) == 7.5


def test_the_newest_silence_is_needed() -> None:
    """Voice is detected a little after it began, and its window begins before it."""
    assert stable_s(progress(9.0, final_s=2.0)) == round(9.0 - PRE_ROLL_S - NOTICE_S, 3)


def test_an_ack_each_half_second_of_audio() -> None:
    """Counted from the audio of the last one; however late it comes, it is one."""
    acks = Acks(PRE_ROLL_S, 10.0)

    assert [len(acks.due(progress(at_s))) for at_s in (10.25, 10.5, 10.75, 11.0, 15.0, 15.25)] == [0, 1, 0, 1, 1, 0]


def test_the_last_ack_covers_the_audio_alone() -> None:
    """Padding is not the client's audio, but where it was acknowledged already the ack does not go back."""
    acks = Acks(PRE_ROLL_S, 0.0)
    acks.due(progress(8.0))
    acks.end(7.9, continues_elsewhere=False)

    assert acks.last() == Ack(received_s=8.0, stable_s=7.9, lag_s=0.0)


def test_another_session_gets_what_is_not_final() -> None:
    """Audio that the client must keep is not this session's; without another session all of it is."""
    for continues_elsewhere, audio_s in ((True, 4.0 - PRE_ROLL_S), (False, 8.0)):
        acks = Acks(PRE_ROLL_S, 0.0)
        acks.end(8.0, continues_elsewhere=continues_elsewhere)
        acks.leave_rest(progress(8.0, speech_start_s=4.0))

        assert acks.audio_s == audio_s


def test_a_word_that_the_end_cuts_off_is_left_to_the_other_session() -> None:
    """Two sessions would hear two halves of it."""
    whole, cut = word(" so", 7.0, 8.0 - UNFINISHED_S - 0.01), word(" it", 7.8, 8.0)
    for continues_elsewhere, n in ((True, 1), (False, 2)):
        acks = Acks(PRE_ROLL_S, 0.0)
        acks.end(8.0, continues_elsewhere=continues_elsewhere)

        assert acks.n_finished([whole, cut]) == n
