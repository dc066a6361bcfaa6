"""
The commands of `streamer`: each makes a `Config` of its arguments and calls the module that does the work.

A module that takes long to import is imported by the command that needs it, so that `--help` and `config` are quick.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from streamer import __version__, config
from streamer.cli.failures import EXIT_FAILED, known_failures
from streamer.cli.groups import Commands
from streamer.cli.models import models
from streamer.cli.options import (
    EXISTING_FILE,
    FILE,
    RESULTS,
    Number,
    config_option,
    configured,
    json_option,
    n_streams,
    spoken,
)
from streamer.config import Config
from streamer.errors import ModelNotFoundError, reason_of
from streamer.host.imports import long_import
from streamer.telemetry import logs


class Streamer(Commands):
    """The group of all commands. What a command is known to fail with becomes a line on standard error."""

    group_class = Commands

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """
        Read the arguments, which writes the help that they ask for.

        Args:
            info_name: Name of the program.
            args: Of the command line.
            parent: None.
            extra: Of the context.

        Raises:
            Failure: The help found no space.
        """
        with known_failures():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """
        Run a command.

        Raises:
            ConfigFailure: The configuration cannot be used.
            Failure: The command failed with another `StreamerError`, its output found no space, or the system refused
                a file.
        """
        with known_failures():
            return super().invoke(ctx)


@click.group(cls=Streamer, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="streamer")
def main() -> None:
    """Live speech to captions with Whisper weights."""


main.add_command(models)


@main.command()
@configured
@click.option("--host", help="Address to listen on, or unix:/path.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="TCP port; 0: any free one.  [default: 8000]")
@click.option("--engines", help="here, processes: each in a process of its own, or ray.  [default: here]")
@click.option(
    "--mic",
    is_flag=False,
    flag_value="",
    metavar="[DEVICE]",
    help="Caption the microphone too: a number or a part of its name.",
)
@click.pass_context
def serve(
    ctx: click.Context,
    config_file: Path | None,
    model: str | None,
    host: str | None,
    port: int | None,
    engines: str | None,
    mic: str | None,
) -> None:
    """Serve captions over WebSocket and HTTP."""
    flags = {
        "model.name": model,
        "server.host": host,
        "server.port": port,
        "engines.where": engines,
        "capture.device": mic or None,
    }
    settings = _configure(config_file, flags)
    if settings.server.processes > 1:
        with long_import():
            from streamer.gateways.parent import serve as run_gateways

        ctx.exit(run_gateways(settings, with_microphone=mic is not None))
    with long_import():
        from streamer.daemon.serve import serve as run

    ctx.exit(run(settings, with_microphone=mic is not None))


@main.command()
@configured
@spoken
@click.option("--device", help="Input device: a number or a part of its name.")
@click.option("--output", "-o", type=FILE, help="Keep the transcript in this file; its extension says the format.")
@click.pass_context
def mic(
    ctx: click.Context,
    config_file: Path | None,
    model: str | None,
    language: str | None,
    task: str | None,
    device: str | None,
    output: Path | None,
) -> None:
    """Show live captions of the microphone in the terminal."""
    flags = {"model.name": model, "session.language": language, "session.task": task, "capture.device": device}
    settings = _configure(config_file, flags, is_quiet=True)
    with long_import():
        from streamer.cli.output import TranscriptFile
        from streamer.daemon.microphone import caption_terminal as run

    ctx.exit(run(settings, keep=TranscriptFile(output).take) if output else run(settings))


@main.command()
@configured
@spoken
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    type=click.Choice(["txt", "json", "jsonl", "srt", "vtt", "ttml"]),
    help="Of the output.  [default: by the extension of --output, else txt]",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Write to this file; for several FILES to this folder, a file each.  [default: standard output]",
)
@click.option("--realtime", is_flag=True, help="Feed the audio at the speed it is spoken.")
@click.option("--record", metavar="DIR", help="Record audio and decisions in this folder, for `streamer replay`.")
@click.pass_context
def transcribe(
    ctx: click.Context,
    /,
    config_file: Path | None,
    model: str | None,
    language: str | None,
    task: str | None,
    record: str | None,
    **options: Any,
) -> None:
    """Transcribe FILES through the streaming engine. A file called - is standard input."""
    problems = [problem for file in options["files"] if (problem := _problem_of(file))]
    if len(problems) == len(options["files"]):  # told at once: the model would be loaded in vain
        raise click.BadParameter("; ".join(problems), param_hint="FILES")
    flags = {"model.name": model, "session.language": language, "session.task": task, "recording.folder": record}
    settings = _configure(config_file, flags, is_quiet=True)
    with long_import():
        from streamer.cli.transcribe import TranscribeOptions, run

    ctx.exit(run(settings, TranscribeOptions(**options)))


def _problem_of(recording: Path) -> str | None:
    """Why a recording cannot be read; None: it can, as far as that is known without its bytes."""
    if str(recording) == "-":
        return None
    try:
        found = recording.stat()
    except OSError as error:
        return f"{recording}: {reason_of(error)}"
    if stat.S_ISDIR(found.st_mode):
        return f"{recording} is a folder: expected a recording, or several, such as {recording / '*.wav'}"
    return None if os.access(recording, os.R_OK) else f"{recording}: no permission to read it"


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_context
def replay(ctx: click.Context, folder: Path) -> None:
    """Repeat the recorded session in FOLDER. It shows where each of its words came from."""
    with long_import():
        from streamer.evaluation.replay import run

    ctx.exit(run(folder))


@main.command("eval")
@configured
@click.argument("manifest", type=EXISTING_FILE)
@click.option(
    "--pace",
    type=click.Choice(["realtime", "fast", "simulated"]),
    default="realtime",
    show_default=True,
    help="fast: several at once, without meaningful latencies; simulated: on a simulated clock, the same in every run.",
)
@click.option(
    "--step-ms",
    type=Number(min=0),
    default=60.0,
    show_default=True,
    help="Duration of a step on the simulated clock.",
)
@click.option("--reference", type=click.Choice(["one-shot"]), help="Decode each recording at once too, and compare.")
@click.option("--revise", is_flag=True, help="Decode each turn once more when it has ended, and judge that text too.")
@click.option("--word-times", type=EXISTING_FILE, help="JSON file with the times of words, to compare with.")
@click.option("--plot", **RESULTS, help="Measure every delay setting, and draw delay against accuracy as SVG.")
@click.option("--differences", is_flag=True, help="Print every word error.")
@json_option
@click.option(
    "--lead-in",
    "lead_ins_s",
    type=Number(0, 60),
    multiple=True,
    help="Seconds of silence before each recording; repeated: each recording once behind each.",
)
@click.option("--kind", "kinds", multiple=True, help="Only rows of this kind; may be repeated.")
@click.option("--language", "languages", multiple=True, help="Only rows in this language; may be repeated.")
@click.pass_context
def evaluate(
    ctx: click.Context,
    /,
    config_file: Path | None,
    model: str | None,
    manifest: Path,
    step_ms: float,
    reference: str | None,
    **options: Any,
) -> None:
    """Measure accuracy and latency on the recordings of MANIFEST. Each of its JSON lines is played as live speech."""
    settings = _configure(config_file, {"model.name": model})
    with long_import():
        from streamer.evaluation.evaluate import run
        from streamer.evaluation.play import EvaluationOptions

    chosen = EvaluationOptions(step_s=step_ms / 1e3, one_shot=reference == "one-shot", **options)
    ctx.exit(run(settings, manifest, chosen))


@main.command()
@configured
@click.option(
    "--streams",
    default="auto",
    metavar="N|auto",
    callback=n_streams,
    help="auto: find the largest that keeps up.  [default: auto]",
)
@click.option("--seconds", type=Number(min=1), default=30, show_default=True, help="Duration of each run.")
@json_option
@click.option("--manifest", type=EXISTING_FILE, help="Speech to loop, as for eval.  [default: a few clips]")
@click.option("--random-weights", is_flag=True, help="Measure speed with random weights.")
@click.option("--admission", is_flag=True, help="Refuse streams beyond the measured capacity, as the daemon does.")
@click.pass_context
def bench(ctx: click.Context, /, config_file: Path | None, model: str | None, **options: Any) -> None:
    """Measure how many live streams this machine carries."""
    settings = _configure(config_file, {"model.name": model})
    with long_import():
        from streamer.evaluation.bench import BenchOptions, run

    ctx.exit(run(settings, BenchOptions(**options)))


@main.command()
@configured
@click.pass_context
def doctor(ctx: click.Context, config_file: Path | None, model: str | None) -> None:
    """Check this machine and say what is missing."""
    settings = _configure(config_file, {"model.name": model}, problem_of_model=config.no_problem)
    with long_import():
        from streamer.cli.doctor import examine

    checks = examine(settings)
    for check in checks:
        click.echo(str(check))
    ctx.exit(EXIT_FAILED if any(check.state == "fail" for check in checks) else 0)


@main.command()
@config_option
@click.option("--host", help="Address of the daemon.  [default: as configured]")
@click.option("--port", type=int, help="Its TCP port.  [default: as configured]")
def health(config_file: Path | None, host: str | None, port: int | None) -> None:
    """
    Ask the daemon of this machine whether it takes sessions.

    With the configuration that it was started with. The exit code is 1 where it takes none, or does not answer.
    """
    settings = config.load(config_file, os.environ, {"server.host": host, "server.port": port})
    with long_import():
        from streamer.cli.health import ask

    click.echo(ask(settings.server))


@main.group("config", invoke_without_command=True)
@click.pass_context
def configuration(ctx: click.Context) -> None:
    """Show or check the configuration."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show)


@configuration.command()
@click.argument("file", type=FILE)
def check(file: Path) -> None:
    """Check FILE and the STREAMER_… variables of the environment."""
    config.load(file, os.environ, {}, _problem_of_model)
    click.echo(f"{file}: ok")


@configuration.command()
@config_option
def show(config_file: Path | None) -> None:
    """Print every key with its explanation and effective value, as TOML."""
    from streamer.cli.explained import explained

    click.echo(explained(config.load(config_file, os.environ, {})), nl=False)


def _configure(
    config_file: Path | None,
    flags: Mapping[str, object],
    *,
    is_quiet: bool = False,
    problem_of_model: Callable[[str], str | None] | None = None,
) -> Config:
    """Load the configuration and set up the log; a quiet command, which draws captions, logs warnings only."""
    settings = config.load(config_file, os.environ, flags, problem_of_model or _problem_of_model)
    is_routine = is_quiet and settings.log.level == "info"
    log = msgspec.structs.replace(settings.log, level="warning") if is_routine else settings.log
    logs.configure(log, sys.stderr, os.environ)
    return settings


def _problem_of_model(name: str) -> str | None:
    """What is wrong with a model name: it is no published one, no path that exists, and found nowhere."""
    with long_import():
        from streamer.weights.names import find_published
        from streamer.weights.store import resolve

    if find_published(name) or os.path.exists(os.path.expanduser(name)):
        return None
    try:
        resolve(name)
    except ModelNotFoundError as error:
        return str(error)
    return None
