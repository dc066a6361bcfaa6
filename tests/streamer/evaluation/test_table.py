"""Tests of streamer/evaluation/table.py: figures as text."""

from __future__ import annotations

from dataclasses import replace

from streamer.evaluation.report import report
from streamer.evaluation.scoring import word_scorer
from streamer.evaluation.table import difference_lines, table
from tests.helpers.judged import judged


def test_table_has_a_row_for_each_kind() -> None:
    """And one for all, with intervals; the comparison has columns only where there is one."""
    rows = [judged("red", "red"), judged("red", "rat", name="y"), judged("red", "red", kind="noisy", name="z")]
    plain = table(report("tiny.en", rows, [], 1.0))

    assert [line.split()[:2] for line in plain.splitlines()[1:4]] == [["noisy", "en"], ["short", "en"], ["all", "3"]]
    assert "[0.00, 100.00]" in plain.splitlines()[2]
    assert "one-shot" not in plain
    assert "100.00" in table(report("tiny.en", [judged("red", "red", "rat")], [], 1.0))


def test_table_has_a_row_for_each_tag() -> None:
    """Below those of the kinds, set in; without tags there is none."""
    rows = [judged("red", "red", tags=("phone",)), judged("red", "rat", name="y", tags=("babble5",))]

    lines = table(report("tiny.en", rows, [], 1.0)).splitlines()

    assert [line.split()[0] for line in lines[1:5]] == ["short", "babble5", "phone", "all"]
    assert lines[2].startswith("  babble5 ")


def test_percentiles_have_a_line_where_they_were_measured() -> None:
    """Those of times only where the manifest gives times."""
    timed = replace(judged("red", "red"), word_errors_s=[0.1])

    assert "word_start_error_s         p50 0.100  p95 0.100" in table(report("tiny.en", [timed], [], 1.0))
    assert "word_start_error_s" not in table(report("tiny.en", [judged("red", "red")], [], 1.0))


def test_wrong_words_are_listed_by_recording() -> None:
    """Recordings without wrong words are left out."""
    assert list(difference_lines([judged("red", "red"), judged("red", "rat")])) == ["x  red→rat"]


def test_errors_of_one_decoding_alone_are_listed_apart() -> None:
    """A word that both have wrong in the same way is in neither list."""
    assert list(difference_lines([judged("red blue green", "rat blue gray", "rat blew green")])) == [
        "x  live 2, one-shot 2",
        "    only live:     green→gray",
        "    only one-shot: blue→blew",
    ]


def test_revised_text_has_columns_where_it_was_asked_for() -> None:
    """Its rate, and how much more that is than of decoding at once."""
    one = judged("red blue", "rat blew", "red blew")
    revised = replace(one, revised=word_scorer()("en", "red blue", "red blue"))

    head, row, *_ = table(report("tiny.en", [revised], [], 1.0)).splitlines()

    assert "revised %" in head
    assert row.split()[-2:] == ["0.00", "-50.00"]
    assert "revised" not in table(report("tiny.en", [one], [], 1.0))
