"""A short run of the fuzzer over every parser; `benchmarks/fuzz.py` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import fuzz

NAMES = (
    "captions.v1",
    "pcm",
    "configuration",
    "key file",
    "keys and tokens",
    "ctranslate2",
    "openai .pt",
    "safetensors",
    "config.json",
)


@pytest.mark.filterwarnings("ignore")  # torch warns of strange archives
@pytest.mark.parametrize("name", NAMES)
def test_broken_input_is_refused(tmp_path: Path, name: str) -> None:
    """A result, or an error raised on purpose; some of both, or the mutations would be no test."""
    parsers = {parser.name: parser for parser in fuzz.parsers(tmp_path)}
    assert tuple(parsers) == NAMES
    n_cases = max(20, int(1000 * parsers[name].share))

    n_refused = fuzz.run(parsers[name], n_cases, seed=1)

    assert 0 < n_refused < n_cases
