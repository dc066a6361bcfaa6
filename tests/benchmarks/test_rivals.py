"""Tests of benchmarks/rivals: what was heard against what was said, what counts as sustained, and the page."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from benchmarks.rivals.figures import Figures, Outcome, Usage, figures, has_given_up, most_sustained, utterance_delays
from benchmarks.rivals.heard import Heard
from benchmarks.rivals.plot import plot
from benchmarks.rivals.serve_local_agreement import Agreement, Word
from benchmarks.rivals.streams import Stream, Utterance, make_stream
from benchmarks.rivals.systems import SYSTEMS
from benchmarks.rivals.table import page
from benchmarks.rivals.whisper_live import Segments
from streamer.audio.pcm import SAMPLE_RATE
from streamer.evaluation.bench import GAP_S, Clip
from streamer.evaluation.percentiles import Percentiles
from streamer.evaluation.scoring import word_scorer

SAID = Stream(
    np.zeros(10 * SAMPLE_RATE, np.int16),
    (Utterance("the old mill stood by the river", 3.0), Utterance("nobody had lived there for years", 8.0)),
)
RUN = Figures(
    system="one",
    n_streams=1,
    audio_s=40.0,
    n_utterances=20,
    n_without_final=0,
    wer=0.05,
    final_s=Percentiles(p50=1.0, p95=2.0),
    sight_s=Percentiles(p50=-0.5, p95=0.5),
    cpu_per_audio_s=0.5,
    peak_mb=300,
    n_rewritten=0,
    n_refused=0,
    n_failed=0,
    complaints=(),
)


def run(n_streams: int, **changes: object) -> Figures:
    """A good run, but for the changes."""
    return msgspec.structs.replace(RUN, n_streams=n_streams, **changes)


def hear(*messages: tuple[float, str, str]) -> Heard:
    """Messages of (when, final, tail)."""
    heard = Heard()
    for at_s, final, tail in messages:
        heard.see(final, tail, at_s)
    return heard


def words(text: str, start_s: float = 0.0) -> list[Word]:
    """One word a second, none between."""
    return [Word(word, start_s + i, start_s + i + 1) for i, word in enumerate(text.split())]


def recordings() -> list[Clip]:
    """Three, of 1, 2 and 3 s."""
    return [Clip(np.full(n * SAMPLE_RATE, 0.5, np.float32), f"number {n}") for n in (1, 2, 3)]


def test_a_final_word_keeps_the_time_at_which_it_came() -> None:
    """More text, and punctuation that changes, leave it alone."""
    heard = hear((1.0, "the old", ""), (2.0, "The old, mill", ""))

    assert (heard.words, heard.final_at_s, heard.n_rewritten) == (["the", "old", "mill"], [1.0, 1.0, 2.0], 0)


def test_a_final_word_that_changes_is_final_anew_with_all_behind_it() -> None:
    """And counted as rewritten."""
    heard = hear((1.0, "the cold mill", ""), (2.0, "the old mill", ""))

    assert (heard.final_at_s, heard.seen_at_s, heard.n_rewritten) == ([1.0, 2.0, 2.0], [1.0, 2.0, 2.0], 2)


def test_first_sight_is_of_the_place() -> None:
    """Whatever stood there first."""
    assert hear((1.0, "", "the cold"), (2.0, "", "the old mill"), (3.0, "the old mill", "")).seen_at_s == [
        1.0,
        1.0,
        2.0,
    ]


def test_an_utterance_is_final_with_the_last_of_its_last_words() -> None:
    """Seconds from the end of its sound to the final text, and to first sight."""
    first = "the old mill stood by the river"
    heard = hear(
        (2.0, "the old mill", "stood by"),
        (2.5, "the old mill", "stood by the rivet"),
        (4.0, first, ""),
        (9.5, f"{first} Nobody had lived there", ""),
    )

    assert utterance_delays(SAID, heard) == [(1.0, -0.5), (1.5, 1.5)]


def test_an_utterance_whose_last_words_were_lost_has_no_delay() -> None:
    """Its beginning alone does not make it final."""
    assert len(utterance_delays(SAID, hear((4.0, "the old mill stood by the river nobody had", "")))) == 1
    assert utterance_delays(SAID, hear((4.0, "", "the old mill"))) == []


def test_words_of_refused_streams_are_not_wrong_but_missing() -> None:
    """The other streams are scored; the refused one's utterances have no final text."""
    heard = hear((9.0, "the old mill stood by the river nobody had lived there for many years", ""))
    outcomes = [Outcome(SAID, heard), Outcome(SAID, Heard(), refusal="full"), Outcome(SAID, heard, failure="lost")]

    found = figures("one", outcomes, Usage(cpu_s=10.0, peak_mb=100.0), word_scorer())

    assert found.wer == round(1 / 13, 4)
    assert (found.n_utterances, found.n_without_final) == (6, 2)
    assert (found.audio_s, found.cpu_per_audio_s) == (20.0, 0.5)
    assert (found.n_refused, found.n_failed, found.complaints) == (1, 1, ("full", "lost"))


def test_nothing_is_said_of_a_server_that_refuses_all() -> None:
    """No rate, no delay, not sustained."""
    refused = figures("one", [Outcome(SAID, Heard(), refusal="full")], Usage(cpu_s=0.0, peak_mb=0.0), word_scorer())

    assert (refused.wer, refused.final_s, refused.cpu_per_audio_s, most_sustained([refused])) == (None, None, None, 0)


@pytest.mark.parametrize(
    "changes",
    [{"final_s": Percentiles(p50=1.0, p95=4.1)}, {"wer": 0.081}, {"n_without_final": 2}, {"wer": None}],
    ids=["late", "wrong", "missing", "refused"],
)
def test_what_is_late_or_wrong_or_missing_is_not_sustained(changes: dict[str, object]) -> None:
    """The bounds are 4 s, 3 points more than the fewest streams, and one utterance in twenty."""
    within = run(4, final_s=Percentiles(p50=1.0, p95=4.0), wer=0.08, n_without_final=1)

    assert most_sustained([RUN, run(2), within]) == 4
    assert most_sustained([RUN, run(2), run(4, **changes)]) == 2


def test_larger_numbers_are_not_tried_after_failures_in_a_row() -> None:
    """A number that is sustained between two that are not starts the count again."""
    late = Percentiles(p50=5.0, p95=9.0)

    assert has_given_up([RUN, run(2, final_s=late), run(3, final_s=late)], 2)
    assert not has_given_up([RUN, run(2, final_s=late)], 2)
    assert not has_given_up([RUN, run(2, final_s=late), run(3)], 2)


def test_a_stream_is_the_same_in_any_company() -> None:
    """Utterances end where their sound does, and differ between streams."""
    one, other = make_stream(recordings(), 20.0, 7, 1), make_stream(recordings(), 20.0, 7, 2)

    assert one.utterances == make_stream(recordings(), 20.0, 7, 1).utterances != other.utterances
    assert one.duration_s >= 20.0
    for utterance in one.utterances:
        end = int(utterance.end_s * SAMPLE_RATE)
        assert one.pcm[end - 1] > 0
        assert not one.pcm[end : end + int(GAP_S * SAMPLE_RATE)].any()


def test_the_plain_loop_makes_final_what_two_hypotheses_agree_on() -> None:
    """Case and punctuation aside; the last hypothesis is final as a whole."""
    agreement = Agreement()

    assert agreement.hear(words("the old male"), False) == []
    assert [w.text for w in agreement.hear(words("The old mill stood"), False)] == ["The", "old"]
    assert [w.text for w in agreement.hear(words("the old mill stood by"), True)] == ["mill", "stood", "by"]


def test_the_plain_loop_does_not_say_words_twice_at_the_seam() -> None:
    """Words that a cut buffer repeats are dropped."""
    agreement = Agreement(final=words("by the river"))

    assert [w.text for w in agreement.hear(words("the river flows", 2.95), True)] == ["flows"]


def test_the_plain_loop_cuts_its_buffer_behind_final_segments() -> None:
    """Past 15 s; never behind the last segment or text that is not final, unless it grows on."""
    agreement = Agreement(final=words("a b c d e f g h"))

    assert agreement.cut_s(0.0, 14.0, [4.0, 8.0, 14.0]) == 0.0
    assert agreement.cut_s(0.0, 16.0, [4.0, 9.0, 16.0]) == 4.0
    assert agreement.cut_s(0.0, 21.0, [21.0]) == 8.0
    assert Agreement().cut_s(0.0, 26.0, [26.0]) == 21.0


def test_segments_sent_again_are_no_news() -> None:
    """WhisperLive repeats its newest ones; the open one is shown, not final."""
    done = {"start": "0.0", "end": "3.0", "text": "the old mill", "completed": True}
    open_one = {"start": "3.0", "end": "4.0", "text": "stood", "completed": False}
    segments = Segments()

    assert segments.take([done, open_one])
    assert not segments.take([done, open_one])
    assert (segments.final, segments.open) == ("the old mill", "stood")


def test_the_page_names_every_system_and_what_it_sustains() -> None:
    """With a row for each run, and reasons of refusals."""
    runs = {"one": [RUN, run(2, wer=0.5)], "two": [run(1), run(4, n_refused=1, complaints=("full",))]}

    text = page("Side by side", {"date": "2026-11-24"}, runs)

    assert "| one | 1 |" in text
    assert "| two | 4 |" in text
    assert "| one | 2 | 50.00 | 1.00 | 2.00 | -0.50 | 0.50 | 0.500 | 300 | 0 of 20 | 0 | 0 | 0 |  |" in text
    assert "- one, 4: full" in text


def test_the_plot_draws_later_higher_and_hollow_where_not_sustained() -> None:
    """A dot for each run, and one in the legend."""
    drawn = ElementTree.fromstring(plot("Side by side", {"one": [RUN, run(4, final_s=Percentiles(p50=5.0, p95=9.0))]}))

    good, late, _ = [circle.attrib for circle in drawn.iter("{http://www.w3.org/2000/svg}circle")]
    assert float(good["cx"]) < float(late["cx"])
    assert float(good["cy"]) > float(late["cy"])
    assert (good["fill"], late["fill"]) == (good["stroke"], "white")


def test_systems_have_names_of_their_own_and_pinned_releases() -> None:
    """Figures of different releases, or of two settings under one name, could not be told apart."""
    environments = {system.environment for system in SYSTEMS} - {None}

    assert len({system.name for system in SYSTEMS}) == len(SYSTEMS)
    assert all("==" in "".join(environment.requirements) for environment in environments if environment)
