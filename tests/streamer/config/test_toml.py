"""Tests of streamer.config.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.config import KEYS, load, to_toml
from streamer.config.toml import shown


def test_what_is_shown_reads_back_equal(file: Path) -> None:
    """`to_toml` writes every key, and `load` gives the same configuration again."""
    flags = {
        "session.prompt": 'Grüße, "Ω" 🎙\n\t\\',
        "server.allowed_origins": ["https://a.org"],
        "session.words": False,
    }
    config = load(None, {}, flags)
    file.write_text(to_toml(config), encoding="utf-8")
    assert load(file, {}, {}) == config
    keys = [line.partition(" = ")[0] for line in to_toml(config).splitlines() if " = " in line]
    assert keys == [key for keys in KEYS.values() for key in keys]


@pytest.mark.parametrize("value", [0, 300])
@pytest.mark.parametrize("source", ["file", "variable"])
def test_zero_is_no_value_where_a_key_needs_none(file: Path, source: str, value: int) -> None:
    """TOML has no null: 0 is None, and what is shown reads back equal."""
    file.write_text(f"[session]\nendpoint_ms = {value}\n", encoding="utf-8")
    variables = {"STREAMER_SESSION_ENDPOINT_MS": str(value)}
    config = load(file, {}, {}) if source == "file" else load(None, variables, {})
    assert config.session.endpoint_ms == (value or None)
    file.write_text(to_toml(config), encoding="utf-8")
    assert load(file, {}, {}) == config


def test_a_long_value_is_cut_in_a_message() -> None:
    """Its length is told."""
    assert shown("x" * 198) == f'"{"x" * 198}"'
    assert shown("x" * 5000) == f'"{"x" * 199}… (5002 characters)'
