"""Tests of streamer/extras.py."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest

from streamer.extras import EXTRAS, pip_install

ROOT = Path(__file__).parent.parent.parent


def test_extras_are_those_of_the_project() -> None:
    """Names and requirements, except for those of developers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: tuple(packages) for name, packages in project["optional-dependencies"].items() if name != "dev"}

    assert dict(EXTRAS) == extras


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_command_names_the_packages_of_an_extra(extra: str) -> None:
    """A shell hands every requirement to pip as one argument, whatever signs it has."""
    assert shlex.split(pip_install(extra)) == ["pip", "install", *EXTRAS[extra]]


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
