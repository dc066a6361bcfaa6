"""Tests of streamer/cli/options.py"""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from streamer.cli.options import RESULTS, Number, n_streams


@click.command()
@click.option("--seconds", type=Number(min=1))
@click.option("--streams", callback=n_streams, default="auto")
@click.option("--json", "path", **RESULTS)
def command(seconds: float | None, streams: int | None, path: Path | None) -> None:
    """Say what the options mean."""
    click.echo(f"{seconds} {streams} {path}")


def answer(*arguments: str) -> tuple[int, str]:
    """Exit code, and the last line of what is said."""
    result = CliRunner().invoke(command, arguments)
    return result.exit_code, result.output.splitlines()[-1]


def test_what_they_mean(tmp_path: Path) -> None:
    """Numbers, and a file that need not be there."""
    assert answer() == (0, "None None None")
    assert answer("--seconds", "1.5", "--streams", "9999", "--json", str(tmp_path / "a")) == (
        0,
        f"1.5 9999 {tmp_path / 'a'}",
    )


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "0.5", "x"])
def test_a_number_is_finite_and_in_range(number: str) -> None:
    """Neither infinity nor what is no number, which are in every range."""
    code, said = answer("--seconds", number)
    assert code == 2
    assert "--seconds" in said


@pytest.mark.parametrize("text", ["0", "10000", "-1", "1.0", "٣", " 1", "many" * 9999])
def test_a_number_of_streams_is_whole(text: str) -> None:
    """The refusal shows no more than its beginning."""
    code, said = answer("--streams", text)
    assert code == 2
    assert "expected a number of streams from 1 to 9999, or auto" in said
    assert len(said) < 200


def test_results_go_to_a_file_in_a_folder_that_is_there(tmp_path: Path) -> None:
    """Which is known before they are measured."""
    assert answer("--json", str(tmp_path))[0] == 2
    code, said = answer("--json", str(tmp_path / "none" / "a"))
    assert (code, said.endswith("is no folder that can be written to")) == (2, True)
