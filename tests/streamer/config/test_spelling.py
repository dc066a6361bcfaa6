"""Tests of streamer.config.spelling."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamer.config import load
from streamer.errors import ConfigError


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("STREAMER_SEVER_PORT", "STREAMER_SERVER_PORT"),
        ("STREAMER_PORT", "STREAMER_SERVER_PORT"),
        ("STREAMER_LANGUAGE", "STREAMER_SESSION_LANGUAGE"),
        ("STREAMER_SERVER", "STREAMER_SERVER_"),
        ("STREAMER_ZZZZZZZZZZZZZZZZZZZZZZZZ", "see: streamer config show"),
    ],
)
def test_a_variable_of_no_section_names_the_nearest(variable: str, nearest: str) -> None:
    """A misspelt or missing section is not taken for a foreign variable."""
    with pytest.raises(ConfigError, match=f"unknown environment variable {variable}, .*{nearest}"):
        load(None, {variable: "1"}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "unknown key server.prot in cpu.toml: did you mean server.port?"),
        ("[sever]\nport = 1", "unknown key sever in cpu.toml: did you mean [server]?"),
        ("port = 1", "unknown key port in cpu.toml: did you mean server.port?"),
        ("[model]\nport = 1", "unknown key model.port in cpu.toml: did you mean server.port?"),
        ('[server]\n"a\\nb" = 1', 'unknown key "server.a\\nb" in cpu.toml: did you mean server.port?'),
        ("[qqqqqq]\nzzzzzz = 1", "unknown key qqqqqq in cpu.toml: see: streamer config show"),
    ],
)
def test_an_unknown_key_names_the_nearest(error_of: Callable[[str], str], text: str, message: str) -> None:
    """A misspelt, misplaced or homeless key is an error with a suggestion."""
    assert error_of(text) == message
