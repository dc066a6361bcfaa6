"""Tests of streamer.cli.explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.cli.explained import COMMENT_WIDTH, explained, explanations
from streamer.config import KEYS, Config, ServerConfig, load
from streamer.protocol.options import SessionOptions


def test_every_key_has_its_explanation() -> None:
    """Sentences of the docstring, and what is allowed, right before the key."""
    lines = explained(Config()).splitlines()
    keys = [line.partition(" = ")[0] for line in lines if " = " in line and not line.startswith("#")]
    assert keys == [key for keys in KEYS.values() for key in keys]
    for n, line in enumerate(lines):
        if line and not line.startswith("#"):
            assert lines[n - 1].startswith("# "), line
        assert len(line) <= COMMENT_WIDTH + 2


@pytest.mark.parametrize("section", [ServerConfig, SessionOptions])
def test_explanations_are_the_docstrings_of_the_fields(section: type[ServerConfig | SessionOptions]) -> None:
    """One for each, on one line."""
    texts = explanations(section)
    assert list(texts) == list(section.__struct_fields__)
    assert all(text and "\n" not in text for text in texts.values())


def test_the_explained_configuration_is_a_configuration(tmp_path: Path) -> None:
    """It reads back equal, with values that are not the defaults, and names those."""
    config = load(None, {"STREAMER_SERVER_PORT": "9", "STREAMER_SESSION_PROMPT": 'a "b"\n# c'}, {})
    file = tmp_path / "shown.toml"
    file.write_text(explained(config), encoding="utf-8")
    assert load(file, {}, {}) == config
    assert (
        "# TCP port; 0: any free one.\n# Allowed: an integer from 0 to 65535. Default: 8000.\nport = 9\n"
        in file.read_text()
    )
