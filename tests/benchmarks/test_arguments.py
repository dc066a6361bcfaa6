"""Tests of benchmarks/arguments.py, and of what every benchmark does with arguments that it cannot use."""

from __future__ import annotations

import argparse
import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.arguments import listed, manifest_file, number, one_of, program, results_file, whole
from benchmarks.common import some
from streamer.errors import ConfigError, EngineError, UnreadableFileError
from streamer.evaluation.manifest import ManifestRow

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (whole(), "0"),
        (whole(), "-1"),
        (whole(), "²"),
        (whole(), "1.5"),
        (whole(), "9" * 5000),
        (whole(0), ""),
        (number(0.1), "0"),
        (number(), "nan"),
        (number(), "inf"),
        (number(), "x"),
        (listed(whole()), "1,,2"),
        (listed(number()), "0.1;0.2"),
        (listed(one_of(("a", "b"))), "a,c"),
        (manifest_file, ""),
        (manifest_file, "/nowhere/manifest.jsonl"),
        (manifest_file, "/"),
        (results_file, ""),
        (results_file, "/"),
        (results_file, "/nowhere/results.json"),
    ],
)
def test_what_cannot_be_meant_is_refused(parse: Callable[[str], object], text: str) -> None:
    """The message has what was found and what is expected."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"^'.*expected"):
        parse(text)


def test_what_is_meant_is_taken(tmp_path: Path) -> None:
    """Numbers, lists, a file that is there, and one that is not there yet."""
    (tmp_path / "manifest.jsonl").touch()
    assert (whole()("8"), whole(0)("0"), number(0.1)("0.1")) == (8, 0, 0.1)
    assert listed(whole())("1,8,32") == [1, 8, 32]
    assert listed(one_of(("a", "b")))("b,a") == ["b", "a"]
    assert manifest_file(str(tmp_path / "manifest.jsonl")) == tmp_path / "manifest.jsonl"
    assert results_file(str(tmp_path / "results.json")) == tmp_path / "results.json"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("no recording"), 2, "no recording"),
        (UnreadableFileError("cannot read m.jsonl"), 1, "cannot read m.jsonl"),
        (EngineError("a step failed"), 1, "a step failed"),
        (PermissionError(errno.EACCES, "Permission denied", "out.json"), 1, "out.json: permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the output: no space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_the_end_of_a_benchmark_is_a_line_and_a_code(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a traceback, for mistakes, failures and Ctrl-C."""

    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        program(fail)
    assert exit_.value.code == code
    assert capsys.readouterr().err.endswith(f": {told}\n")


@pytest.mark.parametrize(("returned", "code"), [(None, None), (0, 0), (1, 1)])
def test_what_a_benchmark_returns_is_its_exit_code(returned: int | None, code: int | None) -> None:
    """None is that of success."""
    with pytest.raises(SystemExit) as exit_:
        program(lambda: returned)
    assert exit_.value.code == code


def test_an_error_that_nobody_foresaw_stays_one() -> None:
    """Its traceback says where it is."""
    with pytest.raises(ZeroDivisionError):
        program(lambda: 1 // 0)
    with pytest.raises(OSError, match="of a library"):
        program(_fail_without_a_reason)


def _fail_without_a_reason() -> None:
    raise OSError("of a library")


def test_a_manifest_without_what_a_benchmark_needs_is_told() -> None:
    """What was looked for, and where there is some."""
    rows = [ManifestRow(id="a", file="a.wav")]
    assert some(rows, Path("m.jsonl"), "with kind short") == rows
    with pytest.raises(ConfigError, match=r"^m\.jsonl: no recording with kind short; choose another manifest"):
        some([], Path("m.jsonl"), "with kind short")


def test_every_benchmark_ends_in_this_way() -> None:
    """Those that somebody runs; the others are started by one of them."""
    started_by_others = {
        "attacks.py",
        "crowd.py",
        "failing_daemon.py",
        "free_engine.py",
        "serve_local_agreement.py",
        "serve_whisper_live.py",
    }
    programs = [path for path in (ROOT / "benchmarks").rglob("*.py") if "__name__ ==" in path.read_text("utf-8")]
    plain = {path.name for path in programs if "    program(main)\n" not in path.read_text("utf-8")}

    assert len(programs) > 25
    assert plain == started_by_others
