"""Tests of streamer/__main__.py: `python -m streamer`."""

from __future__ import annotations

import runpy
import sys

import pytest

import streamer


def test_the_package_is_the_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Under its own name, however it is called."""
    monkeypatch.setattr(sys, "argv", ["__main__.py", "--version"])

    with pytest.raises(SystemExit) as ended:
        runpy.run_module("streamer", run_name="__main__")

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"streamer, version {streamer.__version__}\n"
