"""Tests of streamer/dialects/openai/language_names.py."""

from __future__ import annotations

from whisper.tokenizer import LANGUAGES

from streamer.dialects.openai.language_names import CODES, NAMES


def test_every_language_of_whisper_has_its_published_name() -> None:
    """The same table, and no name stands for two."""
    assert NAMES == LANGUAGES
    assert {name: code for code, name in NAMES.items()} == CODES
    assert len(CODES) == len(NAMES)
