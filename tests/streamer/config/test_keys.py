"""Tests of streamer.config.keys."""

from __future__ import annotations

import pytest

from streamer.config.keys import KEYS, expectation


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, keys in KEYS.items() for key in keys])
def test_every_key_says_what_it_allows(section: str, key: str) -> None:
    """In words, for every type that a key of the configuration has."""
    said = expectation(section, key)

    assert said.startswith(("one of ", "true or false", "an integer", "a number", "text", "a list of text"))


@pytest.mark.parametrize(
    ("section", "key", "unit"),
    [
        ("scheduler", "step_interval_ms", " (milliseconds)"),
        ("server", "drain_s", " (seconds)"),
        ("limits", "handshakes_per_s", " (per second)"),
        ("limits", "max_upload_bytes", " (bytes)"),
        ("recording", "max_folder_mb", " (megabytes)"),
        ("capture", "rate", " (hertz)"),
        ("server", "port", "65535"),
    ],
)
def test_a_key_says_its_unit(section: str, key: str, unit: str) -> None:
    """By the end of its name; a number without a unit says its range alone."""
    assert expectation(section, key).endswith(unit)
