"""Tests of streamer.config.sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.config import Config, load
from streamer.errors import ConfigError


def test_foreign_environment_variables_are_left_alone() -> None:
    """A container platform's STREAMER_PORT=tcp://… for a service called streamer is not ours."""
    foreign = {
        "STREAMER_PORT": "tcp://10.0.0.1:80",
        "STREAMER_SERVICE_HOST": "10.0.0.1",
        "STREAMER_SERVICE_PORT_HTTP": "80",
        "STREAMER_PORT_80_TCP_ADDR": "10.0.0.1",
        "STREAMER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "STREAMER_SERVER_SERVICE_HOST": "10.0.0.1",
        "STREAMER_SERVER_PORT": "tcp://10.0.0.1:80",
        "STREAMER_KEY": "a client's",
        "OTHER_SEVER_PORT": "1",
    }
    assert load(None, foreign, {}) == Config()


def test_unknown_and_wrong_keys_of_the_environment_name_the_variable() -> None:
    """A variable of a known section is held to the same rules as the file."""
    with pytest.raises(ConfigError, match=r"unknown key server\.prot in environment variable STREAMER_SERVER_PROT"):
        load(None, {"STREAMER_SERVER_PROT": "1"}, {})
    with pytest.raises(ConfigError, match=r'server\.port = "x" in environment variable STREAMER_SERVER_PORT'):
        load(None, {"STREAMER_SERVER_PORT": "x"}, {})


def test_a_wrong_flag_names_the_command_line() -> None:
    """A flag out of range is told from a key out of range."""
    with pytest.raises(ConfigError, match=r"server\.port = 70000 on the command line: expected an integer"):
        load(None, {}, {"server.port": 70000})


def test_unreadable_files_are_errors(file: Path, error_of: Callable[[str], str]) -> None:
    """A missing file, bad TOML and bytes that are not text each say which file."""
    with pytest.raises(ConfigError, match=r"cannot read .*cpu\.toml: no such file or directory"):
        load(file, {}, {})
    assert error_of("[server").startswith("cpu.toml is not a TOML file: ")
    assert error_of("keys = " + "[" * 5000).startswith("cpu.toml is not a configuration: brackets nested too deep")
    assert error_of(f"keys = {'9' * 5000}").endswith("an integer of thousands of digits")
    file.write_bytes(b"# \xff\xfe")
    with pytest.raises(
        ConfigError, match="is not a TOML file: expected text in UTF-8, found the byte 0xff at offset 2"
    ):
        load(file, {}, {})


def test_a_byte_order_mark_is_passed_over(file: Path) -> None:
    """Editors of Windows write one."""
    file.write_text("[server]\nport = 1\n", encoding="utf-8-sig")
    assert load(file, {}, {}).server.port == 1
