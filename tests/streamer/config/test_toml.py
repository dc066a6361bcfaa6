"""Tests of streamer.config.toml."""

from __future__ import annotations

from pathlib import Path

from streamer.config import KEYS, load, to_toml


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
