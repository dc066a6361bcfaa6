"""Tests of streamer/gateways/parent.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from streamer.config import Config, EnginesConfig, ServerConfig
from streamer.errors import ConfigError, StreamerError
from streamer.gateways.parent import serve

SEVERAL = Config(server=ServerConfig(port=0, processes=2), engines=EnginesConfig(where="processes"))


def test_the_microphone_belongs_to_one_process() -> None:
    """It could be opened by one gateway alone."""
    with pytest.raises(ConfigError, match=r"server\.processes = 2, expected 1"):
        serve(SEVERAL, with_microphone=True)


@pytest.mark.parametrize("others", ["", ":/run/other"])
def test_a_folder_of_the_service_manager_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, others: str
) -> None:
    """Before anything is started; systemd may name several, of which the first is taken."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/none{others}")
    with pytest.raises(StreamerError, match=f"in {tmp_path}/none: no such file or directory; set RUNTIME_DIRECTORY to"):
        serve(SEVERAL)


def test_a_machine_without_a_temporary_folder_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The remedy is the variable that names one."""
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(
        StreamerError, match="in any temporary folder: no such file or directory; set TMPDIR to a folder"
    ):
        serve(SEVERAL)
