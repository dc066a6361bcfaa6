"""The documents agree with the tree: links lead somewhere, named files exist, the version is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamer import __version__
from tests.test_imports import FLOORS

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")
NAMED_FILE = re.compile(r"`([\w./-]+/[\w.-]+\.(?:py|js|md|toml|json|service))`")
LONGEST_LINE = 160
"""Of prose; tables and code are as wide as they have to be."""
PAGES = sorted(
    page
    for page in ROOT.rglob("*.md")
    if not any(
        part.startswith(".") or part in ("build", "node_modules", "shared") for part in page.relative_to(ROOT).parts
    )
)


def name(page: Path) -> str:
    """docs/design.md"""
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a repository's web pages make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    """The file exists, and the heading in it."""
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{name(page)} links to {target}"
        assert not anchor or anchor in anchors(file), f"{name(page)} links to #{anchor} in {target or 'itself'}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_files_exist(page: Path) -> None:
    """In the repository, below `streamer/`, or beside the page."""
    for file in NAMED_FILE.findall(page.read_text(encoding="utf-8")):
        if file.startswith(("/", "~")):
            continue
        places = (ROOT, ROOT / "streamer", page.parent)
        assert any((place / file).exists() for place in places), f"{name(page)} names {file}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name != "results"], ids=name)
def test_prose_fits_an_editor(page: Path) -> None:
    """Tables and code may be wider, and results that a benchmark wrote."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    too_long = [line for line in prose.splitlines() if len(line) > LONGEST_LINE and not line.startswith("|")]

    assert too_long == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tables_are_whole(page: Path) -> None:
    """An empty line in a table ends it: what follows needs a head of its own."""
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = {n for n, line in enumerate(lines) if line.startswith("|")}
    heads = {n - 1 for n in rows if re.fullmatch(r"\|[\s:|-]+\|", lines[n])}
    begins = [n for n in rows if n - 1 not in rows]

    assert [lines[n] for n in begins if n not in heads] == []


COMMANDS = re.findall(
    r"^\| `python -m (benchmarks\.[\w.]+)([^`]*)`(.*)", (ROOT / "benchmarks" / "README.md").read_text(), re.MULTILINE
)


@pytest.mark.parametrize(("module", "arguments", "about"), COMMANDS, ids=[module for module, *_ in COMMANDS])
def test_benchmarks_are_listed_with_their_arguments(module: str, arguments: str, about: str) -> None:
    """MANIFEST where they take one, and no option that they do not have."""
    path = ROOT / module.replace(".", "/")
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
    takes_manifest = re.search(r"argument_parser\(__doc__[^,)]*\)|\"manifest\"", source) is not None

    assert ("MANIFEST" in arguments) == takes_manifest
    for option in re.findall(r"--[a-z-]+", arguments + about):
        assert f'"{option}"' in source or option == "--model"


def test_changelog_begins_with_this_version() -> None:
    """A version has one place in the code, and its changes are written down before it is tagged."""
    newest = re.search(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert newest is not None
    assert newest[1] == __version__


def test_design_shows_the_floors_of_the_packages() -> None:
    """The drawing and the table of the design are those that the import test holds."""
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(?:streamer/)?(\w+)(?:/|\.py)` \|", design, re.MULTILINE))

    assert "\n".join("  ".join(floor) for floor in FLOORS) in design
    assert listed == {name for floor in FLOORS for name in floor}
