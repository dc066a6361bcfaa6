"""Tests of streamer/cli/groups.py: commands that there are not."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from streamer.cli.commands import main
from streamer.cli.groups import Commands


def groups_of(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """The words that call a group, and each group in it."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from groups_of(command, *path, name)


@pytest.mark.parametrize("path", list(groups_of(main)), ids=" ".join)
def test_an_unknown_command_is_told_with_those_that_there_are(path: tuple[str, ...]) -> None:
    """In every group, as bad usage."""
    result = CliRunner().invoke(main, [*path, "nonsense"])
    listed = CliRunner().invoke(main, [*path, "--help"]).output.partition("Commands:")[2]

    assert result.exit_code == 2
    names = ", ".join(line.split()[0] for line in listed.splitlines() if line)
    assert result.output.endswith(f"Error: No such command 'nonsense': expected one of {names}.\n")


def test_a_group_in_a_group_tells_its_own() -> None:
    """Without being asked to; an option that there is not is no command."""

    @click.group(cls=Commands)
    def outer() -> None:
        pass

    @outer.group()
    def inner() -> None:
        pass

    @inner.command()
    def last() -> None:
        click.echo("said")

    assert CliRunner().invoke(outer, ["inner", "last"]).output == "said\n"
    assert "expected one of last." in CliRunner().invoke(outer, ["inner", "first"]).output
    assert "No such option" in CliRunner().invoke(outer, ["inner", "--first"]).output
