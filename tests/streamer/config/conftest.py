"""A configuration file, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.config import load
from streamer.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Path of a file that does not exist yet."""
    return tmp_path / "cpu.toml"


@pytest.fixture
def error_of(file: Path) -> Callable[[str], str]:
    """The message about a file of this text."""

    def load_text(text: str) -> str:
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(file, {}, {})
        return str(caught.value).replace(str(file), "cpu.toml")

    return load_text
