"""Tests of streamer.cli: the command line as users type it, with the parts behind it replaced."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from streamer import __version__
from streamer.cli.commands import main
from streamer.cli.transcribe import TranscribeOptions
from streamer.config import Config
from streamer.errors import AudioFormatError, DeviceNotFoundError, ModelNotFoundError, UnreadableFileError
from streamer.evaluation.bench import BenchOptions
from streamer.evaluation.play import EvaluationOptions
from tests.helpers.process_log import restored_log


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Commands set up the log of the process: put it back as it was."""
    with restored_log():
        yield


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the parts behind the command line were called with; each answers exit code 0."""
    seen: list[tuple[object, ...]] = []

    def part(name: str) -> Callable[..., int]:
        def run(*arguments: object, **options: object) -> int:
            seen.append((name, *arguments, *options.values()))
            return 0

        return run

    for name, function in (("serve", "serve"), ("microphone", "caption_terminal")):
        monkeypatch.setitem(sys.modules, f"streamer.daemon.{name}", SimpleNamespace(**{function: part(name)}))
    for name in ("cli.transcribe", "evaluation.evaluate", "evaluation.bench"):
        stand_in = SimpleNamespace(
            run=part(name.rpartition(".")[2]), BenchOptions=BenchOptions, TranscribeOptions=TranscribeOptions
        )
        monkeypatch.setitem(sys.modules, f"streamer.{name}", stand_in)
    return seen


def run(*arguments: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)


def test_the_version_is_that_of_the_package() -> None:
    """`--version` is the version of the installed package."""
    result = run("--version")
    assert result.exit_code == 0
    assert result.output == f"streamer, version {__version__}\n"
    assert importlib.metadata.version("whisper-streamer") == __version__


def test_all_commands_are_listed() -> None:
    """The commands of the documentation are there, those that are imported late too."""
    listed = [line.split()[0] for line in run("--help").output.partition("Commands:")[2].splitlines() if line]
    assert listed == ["bench", "config", "doctor", "eval", "health", "mic", "models", "replay", "serve", "transcribe"]


def test_no_explanation_is_cut_in_the_list() -> None:
    """Each fits the line of an ordinary terminal."""
    assert "..." not in run("--help", COLUMNS="80").output.partition("Commands:")[2]
    assert "..." not in run("models", "--help", COLUMNS="80").output.partition("Commands:")[2]


def test_serve_passes_flags_on(calls: list[tuple[object, ...]], tmp_path: Path) -> None:
    """Flags override the file; without --mic there is no microphone."""
    (tmp_path / "a.toml").write_text("[server]\nport = 1\nidle_s = 5\n")
    result = run(
        "serve",
        "--config",
        tmp_path / "a.toml",
        "--port",
        "9",
        "--host",
        "::1",
        "--model",
        "base",
        "--engines",
        "processes",
    )
    assert result.exit_code == 0, result.output
    [(name, config, with_microphone)] = calls
    assert isinstance(config, Config)
    assert (name, with_microphone) == ("serve", False)
    assert (config.server.port, config.server.host, config.server.idle_s) == (9, "::1", 5)
    assert config.engines.where == "processes"
    assert config.model.name == "base"


@pytest.mark.parametrize(
    ("arguments", "with_microphone", "device"),
    [
        ((), False, "configured"),
        (("--mic",), True, "configured"),
        (("--mic", "--port", "9"), True, "configured"),
        (("--mic", "USB"), True, "USB"),
        (("--mic=2",), True, "2"),
    ],
)
def test_the_device_of_mic_is_optional(
    calls: list[tuple[object, ...]], arguments: tuple[str, ...], with_microphone: bool, device: str
) -> None:
    """`--mic` alone is the configured device, with a value that device."""
    result = run("serve", *arguments, STREAMER_CAPTURE_DEVICE="configured")
    assert result.exit_code == 0, result.output
    [(_, config, is_captured)] = calls
    assert isinstance(config, Config)
    assert (is_captured, config.capture.device) == (with_microphone, device)


def test_mic_passes_the_device_on(calls: list[tuple[object, ...]]) -> None:
    """`mic` runs the microphone with the configuration, with the device of the flag."""
    assert run("mic", "--device", "usb").exit_code == 0
    [(name, config)] = calls
    assert isinstance(config, Config)
    assert (name, config.capture.device) == ("microphone", "usb")


def test_transcribe_passes_files_format_and_pace_on(calls: list[tuple[object, ...]], tmp_path: Path) -> None:
    """Several files, a format and the pace."""
    files = (tmp_path / "a.wav", tmp_path / "b.flac")
    for file in files:
        file.touch()
    assert run("transcribe", *files, "--format", "vtt", "--realtime", "-o", "out").exit_code == 0
    assert calls[0][2:] == (TranscribeOptions(files=files, format="vtt", realtime=True, output=Path("out")),)


@pytest.mark.parametrize("command", [("transcribe", "-"), ("mic",)])
def test_language_and_task_go_to_the_session(calls: list[tuple[object, ...]], command: tuple[str, ...]) -> None:
    """Read as everywhere; a language that does not exist is bad usage."""
    arguments = (*command, "--model", "base", "--task", "translate", "--language")
    assert run(*arguments, "German").exit_code == 0
    [(_, config, *_)] = calls
    assert isinstance(config, Config)
    assert (config.session.language, config.session.task) == ("de", "translate")
    result = run(*arguments, "germn")
    assert result.exit_code == 2
    assert 'session.language = "germn" on the command line: expected auto or one of' in result.stderr


def test_mic_keeps_its_transcript_in_a_file(calls: list[tuple[object, ...]], tmp_path: Path) -> None:
    """Made before anybody speaks."""
    assert run("mic", "--output", tmp_path / "talk.vtt").exit_code == 0
    assert (tmp_path / "talk.vtt").read_text() == "WEBVTT\n\n"
    assert callable(calls[0][2])


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize(
    "command",
    ["", "bench", "config", "config check", "config show", "doctor", "eval", "health", "mic", "models",
     "models list",
     "models pull", "replay", "serve", "transcribe"],
)  # fmt: skip
def test_every_command_explains_itself(command: str, option: str) -> None:
    """By `-h` and `--help`."""
    result = run(*command.split(), option)
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_eval_passes_its_options_on(calls: list[tuple[object, ...]], tmp_path: Path) -> None:
    """The manifest, how it is played and compared, the selected rows, and the output."""
    manifest, out = tmp_path / "m.jsonl", tmp_path / "o.json"
    manifest.touch()
    assert run("eval", manifest, "--pace", "fast", "--json", out, "--kind", "a", "--kind", "b").exit_code == 0
    assert run("eval", manifest, "--pace", "simulated", "--step-ms", 90, "--reference", "one-shot").exit_code == 0
    assert calls[0][2:] == (manifest, EvaluationOptions(pace="fast", kinds=("a", "b"), json_out=out))
    assert calls[1][2:] == (manifest, EvaluationOptions(pace="simulated", step_s=0.09, one_shot=True))


@pytest.mark.parametrize(("streams", "n_streams"), [("auto", None), ("8", 8)])
def test_bench_passes_its_options_on(calls: list[tuple[object, ...]], streams: str, n_streams: int | None) -> None:
    """`auto` is None, a number a number."""
    assert run("bench", "--streams", streams, "--seconds", "5", "--random-weights").exit_code == 0
    assert calls[0][2:] == (BenchOptions(streams=n_streams, seconds=5.0, random_weights=True),)


def test_bench_takes_other_speech(calls: list[tuple[object, ...]], tmp_path: Path) -> None:
    """A manifest to loop, and where to write the figures; the weights are real unless asked otherwise."""
    manifest, out = tmp_path / "m.jsonl", tmp_path / "o.json"
    manifest.touch()
    assert run("bench", "--manifest", manifest, "--json", out, "--admission").exit_code == 0
    assert calls[0][2:] == (BenchOptions(manifest=manifest, admission=True, json_out=out),)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("serve", "--port", "x"),
        ("serve", "--nonsense"),
        ("transcribe",),
        ("transcribe", "missing.wav"),
        ("eval", "missing.jsonl"),
        ("bench", "--streams", "0"),
        ("bench", "--streams", "many"),
        ("bench", "--streams", "²"),
        ("bench", "--streams", "9" * 5000),
        ("bench", "--seconds", "0"),
        ("bench", "--seconds", "nan"),
        ("bench", "--seconds", "inf"),
        ("eval", __file__, "--step-ms", "inf"),
        ("eval", __file__, "--lead-in", "nan"),
        ("bench", "--json", ""),
        ("bench", "--json", "/nowhere/results.json"),
        ("eval", __file__, "--plot", "/nowhere/delays.svg"),
        ("config", "check"),
    ],
)
def test_bad_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    """What the command line does not allow ends with 2 before anything is loaded."""
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("serve", "--port", "70000"), {},
         "server.port = 70000 on the command line: expected an integer from 0 to 65535"),
        (("serve",), {"STREAMER_SERVER_PROT": "1"},
         "unknown key server.prot in environment variable STREAMER_SERVER_PROT: did you mean server.port?"),
        (("serve", "--config", "/nowhere.toml"), {}, "cannot read /nowhere.toml: no such file or directory"),
        (("mic",), {"STREAMER_LOG_LEVEL": "loud"},
         'log.level = "loud" in environment variable STREAMER_LOG_LEVEL: '
         'expected one of "debug", "error", "info", "warning"'),
    ],
)  # fmt: skip
def test_bad_configuration_is_exit_code_2_and_one_line(
    arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    """A configuration error is one line on standard error, without a traceback."""
    result = run(*arguments, **environment)
    assert result.exit_code == 2
    assert result.stderr == f"streamer: {message}\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    "error",
    [
        DeviceNotFoundError('no input device "usb": expected one of 1 "Built-in"'),
        ModelNotFoundError("no model is called tiny.eng: did you mean tiny.en?"),
        AudioFormatError("clip.m4a: not wav, flac, ogg or mp3"),
        UnreadableFileError("cannot read the key file /etc/streamer/keys: input/output error"),
    ],
)
def test_a_failure_is_exit_code_1_and_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """An error raised on purpose is one line on standard error, without a traceback."""

    def fail(_config: Config) -> int:
        raise error

    monkeypatch.setitem(sys.modules, "streamer.daemon.microphone", SimpleNamespace(caption_terminal=fail))
    result = run("mic")
    assert result.exit_code == 1
    assert result.stderr == f"streamer: {error}\n"
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [("serve",), ("mic",), ("bench",)])
def test_every_mistake_of_the_configuration_is_a_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is loaded, and the exit code is 2, as with `config check`."""
    file = tmp_path / "cpu.toml"
    file.write_text('[model]\nname = "bsae"\n[session]\nlanguage = "germn"\n')
    for command in ([*arguments, "--config", file], ["config", "check", file]):
        result = run(*command, STREAMER_SEVER_PORT="1")
        assert result.exit_code == 2
        unknown, model, language = result.stderr.splitlines()
        assert unknown.startswith("streamer: unknown environment variable STREAMER_SEVER_PORT")
        assert model == f'streamer: model.name = "bsae" in {file}: no model is called bsae: did you mean base?'
        assert language.startswith("streamer: session.language = ")


@pytest.mark.parametrize("name", ["small", "turbo", "PATH"])
def test_a_model_that_is_published_or_a_path_that_exists_is_no_mistake(name: str, tmp_path: Path) -> None:
    """Whether the weights are there is another question, and that of `doctor`."""
    (tmp_path / "weights").touch()
    file = tmp_path / "cpu.toml"
    file.write_text(f"[model]\nname = '{name.replace('PATH', str(tmp_path / 'weights'))}'\n")
    assert run("config", "check", file).output == f"{file}: ok\n"


@pytest.mark.parametrize(
    "arguments", [("config", "show"), ("--help",), ("eval", "--help"), ("--version",), ("models", "path", "tiny.en")]
)
def test_a_full_disk_is_a_failure_in_one_line(arguments: tuple[str, ...]) -> None:
    """Wherever the output goes."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "streamer", *arguments]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "streamer: cannot write the output: no space left on device\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ExceptionGroup("tasks", [OSError(errno.ENOSPC, "No space left on device")]),
         "streamer: cannot write the output: no space left on device\n"),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [PermissionError(errno.EACCES, "Denied", "a.txt")])]),
         "streamer: cannot use a.txt: denied\n"),
        (ExceptionGroup("tasks", [DeviceNotFoundError("no input device")]), "streamer: no input device\n"),
        (ExceptionGroup("tasks", [BrokenPipeError(errno.EPIPE, "Broken pipe")]), ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
    ],
)  # fmt: skip
def test_what_a_task_fails_with_is_told_like_what_a_command_fails_with(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    """One line; none where nobody reads the output any more, as behind `| head`."""

    def fail(_config: Config) -> int:
        raise error

    monkeypatch.setitem(sys.modules, "streamer.daemon.microphone", SimpleNamespace(caption_terminal=fail))
    result = run("mic")
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert result.stderr == told


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), ExceptionGroup("", [ValueError(), ValueError()])])
def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Nobody could mend it by the last line alone."""

    def fail(_config: Config) -> int:
        raise error

    monkeypatch.setitem(sys.modules, "streamer.daemon.microphone", SimpleNamespace(caption_terminal=fail))
    assert run("mic").exception is error


LONG = "a" * 300
"""A name that no file system takes: the system refuses whatever is asked about it."""


@pytest.mark.parametrize(
    "arguments",
    [
        ("transcribe", "FILE", "-o", LONG),
        ("transcribe", "FILE", "-o", f"{LONG}/a.txt"),
        ("transcribe", "FILE", "--record", LONG),
        ("eval", "FILE", "--json", LONG),
        ("eval", "FILE", "--plot", f"{LONG}/a.svg"),
        ("bench", "--json", f"{LONG}.json"),
        ("mic", "-o", f"{LONG}.srt"),
        ("models", "path", LONG),
        ("replay", LONG),
        ("serve", "--config", LONG),
        ("doctor", "--model", LONG),
        ("config", "check", f"{LONG}/a.toml"),
    ],
)
def test_a_path_that_the_system_refuses_is_no_traceback(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Whichever command and option names it: the reason names it too, and the exit code is that of a mistake."""
    file = tmp_path / "a.jsonl"
    file.touch()

    result = run(*(file if each == "FILE" else each for each in arguments))

    assert result.exit_code in (0, 1, 2)
    assert isinstance(result.exception, SystemExit | None)
    assert LONG in result.output


def test_exit_codes_of_the_parts_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a part returns is the exit code."""
    monkeypatch.setitem(sys.modules, "streamer.daemon.microphone", SimpleNamespace(caption_terminal=lambda _config: 1))
    assert run("mic").exit_code == 1


def test_config_check_refuses_a_bad_file(tmp_path: Path) -> None:
    """A good file is confirmed, a bad one is exit code 2."""
    file = tmp_path / "cpu.toml"
    file.write_text("[server]\nport = 1\n")
    assert run("config", "check", file).output == f"{file}: ok\n"
    file.write_text("[server]\nprot = 1\n")
    result = run("config", "check", file)
    assert result.exit_code == 2
    assert result.stderr == f"streamer: unknown key server.prot in {file}: did you mean server.port?\n"


@pytest.mark.parametrize("arguments", [("config",), ("config", "show")])
def test_config_show_is_the_effective_configuration(arguments: tuple[str, ...]) -> None:
    """Every key, with what the environment says; `show` is what `config` does by itself."""
    result = run(*arguments, STREAMER_SERVER_PORT="1234")
    assert result.exit_code == 0
    assert "[server]\n" in result.output
    assert "Default: 8000.\nport = 1234\n" in result.output


def test_doctor_fails_when_something_needed_is_missing() -> None:
    """Weights that are not here are a failure with a remedy; with them the machine is fine."""
    result = run("doctor", "--model", "no-such-model", STREAMER_SERVER_PORT="0")
    assert result.exit_code == 1
    assert "fail  weights" in result.output
    assert run("doctor", STREAMER_SERVER_PORT="0").exit_code == 0


@pytest.fixture
def without_portaudio(tmp_path: Path) -> dict[str, str]:
    """Environment of a machine where sounddevice finds no PortAudio."""
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "STREAMER_SERVER_PORT": "0", "OMP_NUM_THREADS": "1"}


def test_the_doctor_warns_of_a_missing_portaudio(without_portaudio: dict[str, str]) -> None:
    """A machine without PortAudio gets a warning with the remedy, and is fine as a server."""
    result = subprocess.run(
        [sys.executable, "-m", "streamer", "doctor"],
        env=without_portaudio,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "warn  microphone" in result.stdout
    assert "the PortAudio library is not installed: apt-get install libportaudio2" in result.stdout


def test_help_does_not_load_the_network() -> None:
    """`--help` of every command answers without importing torch or sounddevice, and so does what reads no model."""
    script = """if True:
        import click, sys
        from click.testing import CliRunner
        from streamer.cli.commands import main

        def ask(command, *path):
            result = CliRunner().invoke(main, [*path, "--help"])
            assert result.exit_code == 0, result.output
            for name in command.list_commands(None) if isinstance(command, click.Group) else ():
                ask(command.get_command(None, name), *path, name)

        ask(main)
        CliRunner().invoke(main, ["config", "show"])
        CliRunner().invoke(main, ["models", "nonsense"])
        sys.exit(any(name in sys.modules for name in ("torch", "sounddevice")))
    """
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["sounds"], "sounds is a folder: expected a recording, or several, such as sounds/*.wav"),
        (["none.wav"], "none.wav: no such file or directory"),
        (["some.wav/more.wav"], "some.wav/more.wav: not a directory"),
        (["dangling.wav"], "dangling.wav: no such file or directory"),
        ([f"{'a' * 300}.wav"], ".wav: file name too long"),
        (["sounds", "none.wav"], "*.wav; none.wav: no such"),
    ],
)
def test_recordings_that_cannot_be_read_are_told_before_a_model_is_loaded(
    calls: list[tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], told: str
) -> None:
    """If none of them can; beside one that can, each is told when its turn comes."""
    monkeypatch.chdir(tmp_path)
    Path("sounds").mkdir()
    Path("some.wav").touch()
    Path("dangling.wav").symlink_to("nowhere.wav")

    result = run("transcribe", *names)

    assert result.exit_code == 2
    assert told in result.stderr
    assert calls == []
    assert run("transcribe", *names, "some.wav").exit_code == 0
    assert len(calls) == 1
