"""Tests of streamer/extras.py."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from streamer.extras import EXTRAS, missing, pip_install

ROOT = Path(__file__).parent.parent.parent


def test_extras_are_those_of_the_project() -> None:
    """Names and requirements, except for those of developers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: tuple(packages) for name, packages in project["optional-dependencies"].items() if name != "dev"}

    assert dict(EXTRAS) == extras


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_command_names_the_packages_of_an_extra(extra: str) -> None:
    """A shell hands every requirement to pip as one argument, whatever signs it has."""
    assert shlex.split(pip_install(extra)) == [sys.executable, "-m", "pip", "install", *EXTRAS[extra]]


def test_the_command_works_from_a_folder_with_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter is one word of the shell; one that does not know where it is has the usual name."""
    monkeypatch.setattr(sys, "executable", "/home/a user/.venv/bin/python")
    assert shlex.split(pip_install("hub"))[0] == sys.executable
    monkeypatch.setattr(sys, "executable", "")
    assert shlex.split(pip_install("hub"))[0] == "python3"


@pytest.mark.parametrize("extra", EXTRAS)
def test_clients_are_not_told_where_the_program_is(extra: str) -> None:
    """They are told what is missing, and who operates the daemon how to find the command."""
    text = missing(extra)
    assert sys.prefix not in text
    assert extra in text
    assert all(requirement in text for requirement in EXTRAS[extra])


def test_every_command_that_installs_is_made_in_one_place() -> None:
    """A bare `pip` may be that of another environment."""
    sources = [path for folder in ("streamer", "model") for path in (ROOT / folder).rglob("*.py")]
    found = [path.name for path in sources if re.search(r"\bpip3? install", path.read_text(encoding="utf-8"))]

    assert found == ["extras.py"]


def test_no_message_tells_to_install_the_product_by_name() -> None:
    """The product is on no package index, so such a command finds nothing."""
    sources = [path for folder in ("streamer", "model", "docs") for path in (ROOT / folder).rglob("*.*")]
    wrong = [
        str(path.relative_to(ROOT))
        for path in [*sources, ROOT / "README.md"]
        if path.suffix in (".py", ".md", ".html", ".js") and "whisper-streamer[" in path.read_text(encoding="utf-8")
    ]

    assert len(sources) > 100
    assert wrong == []
