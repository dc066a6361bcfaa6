"""Tests of benchmarks/fuzz: every parser is tried, and a failure is told with its case."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest

from benchmarks.fuzz import dialects, ours, recordings
from benchmarks.fuzz.cases import Parser, mutated, run
from streamer.errors import ConfigError


def test_no_parser_breaks(tmp_path: Path) -> None:
    """A few hundred cases of each: most parsers refuse some, none fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of strange archives
        refused = {parser.name: run(parser, 20, seed=1) for parser in ours.parsers(tmp_path)}
        refused |= {parser.name: run(parser, 20, seed=1) for parser in recordings.parsers()}
        refused |= {parser.name: run(parser, 300 if parser.share == 1 else 20, seed=1) for parser in dialects.parsers()}
    assert len(refused) == 20
    assert refused["captions.v1"] > 0
    assert refused["openai realtime"] == 0, "it answers what it cannot take"


def test_cases_are_the_same_for_a_seed() -> None:
    """So that a failure can be had again."""
    inputs = [b"one two three", b"four"]
    first, again = ([mutated(inputs[0], inputs, random.Random(n)) for n in range(50)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 20


def test_a_failure_names_its_case() -> None:
    """Errors raised on purpose are counted, any other ends the run."""

    def refuse(data: bytes, _: random.Random) -> None:
        raise ConfigError(str(len(data)))

    assert run(Parser("refuses", [b"x"], refuse), 7, seed=0) == 7

    def fail(data: bytes, _: random.Random) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError) as caught:
        run(Parser("fails", [b"x"], fail), 7, seed=3)
    assert "parser fails, seed 3, case 0" in caught.value.__notes__[0]
