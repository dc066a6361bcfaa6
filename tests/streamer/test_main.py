"""Tests of streamer/__main__.py: `python -m streamer`."""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys

import pytest

import streamer


def interrupted(module: str, *arguments: str, handler: str = "default_int_handler") -> subprocess.CompletedProcess[str]:
    """The program, with Ctrl-C while it imports a module; at its end it tells its handler of Ctrl-C."""
    script = f"""if True:
        import atexit, os, runpy, signal, sys

        class Interrupting:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Interrupting())
        atexit.register(lambda: print(signal.getsignal(signal.SIGINT) is signal.{handler}))
        signal.signal(signal.SIGINT, signal.{handler})
        sys.argv = ["streamer", *{arguments}]
        runpy.run_module("streamer", run_name="__main__")
    """
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_the_package_is_the_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Under its own name, however it is called."""
    monkeypatch.setattr(sys, "argv", ["__main__.py", "--version"])

    with pytest.raises(SystemExit) as ended:
        runpy.run_module("streamer", run_name="__main__")

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"streamer, version {streamer.__version__}\n"


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("streamer.cli.commands", ("--version",)),
        ("click", ("--version",)),
        ("structlog", ("config", "show")),
        ("streamer.text.languages", ("--help",)),
        ("torch", ("doctor",)),
        ("torch", ("models", "list")),
        ("streamer.weights.names", ("serve", "--model", "tiny.en")),
        ("streamer.daemon.serve", ("serve", "--port", "0")),
        ("streamer.cli.transcribe", ("transcribe", "-")),
    ],
)
def test_an_interrupt_while_modules_are_loaded_ends_the_program_alone(module: str, arguments: tuple[str, ...]) -> None:
    """By the signal itself, as a shell expects, and without a traceback."""
    ended = interrupted(module, *arguments)

    assert ended.returncode == -signal.SIGINT
    assert ended.stderr == ended.stdout == ""


@pytest.mark.parametrize(("module", "handler"), [("click", "SIG_IGN"), ("nothing", "default_int_handler")])
def test_what_happens_on_an_interrupt_is_the_same_once_they_are_loaded(module: str, handler: str) -> None:
    """Nothing where it is ignored, as in the background of a script; else what Python does."""
    ended = interrupted(module, "--version", handler=handler)

    assert ended.stdout == f"streamer, version {streamer.__version__}\nTrue\n"
    assert ended.returncode == 0
