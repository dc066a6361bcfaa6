"""
`streamer models`: lists, finds, verifies and downloads weights.

What reads weights takes seconds to import: each command imports it, so that help and refusals come at once.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from streamer.cli.groups import Commands
from streamer.host.imports import long_import

__all__ = ["models"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of downloaded models.  [default: ~/.cache/whisper-streamer/models]",
)
@click.pass_context
def models(context: click.Context, store: Path | None) -> None:
    """List, find, verify and download Whisper weights."""
    context.obj = store


@models.command("list")
@click.pass_obj
def list_models(store: Path | None) -> None:
    """
    List known models, and where their weights are.

    SIZE is that of the weights. MEMORY is that of the weights at 16 bits, as on a GPU or a CPU with bfloat16, and of
    the program; in float32 the weights take twice as much. Each session adds a few megabytes (docs/operations.md).
    """
    with long_import():
        from streamer.cli.model_table import table

    for line in table(store):
        click.echo(line)


@models.command("path")
@click.argument("name")
@click.pass_obj
def print_path(store: Path | None, name: str) -> None:
    """Print the path of the weights of NAME."""
    with long_import():
        from streamer import weights

    click.echo(weights.resolve(name, store).path)


@models.command("verify")
@click.argument("name")
@click.pass_obj
def verify(store: Path | None, name: str) -> None:
    """Check hash, tensors and vocabulary of NAME."""
    with long_import():
        from streamer import weights

    source = weights.resolve(name, store)
    checkpoint = weights.load(source, store)
    tokenizer = weights.load_tokenizer(checkpoint)
    hashed = f"sha-256 {source.sha256}" if source.sha256 else "no sha-256 published"
    click.echo(f"{source.name}: ok, {hashed}, {len(checkpoint.tensors)} tensors, {tokenizer.n_vocab} tokens")


@models.command("pull")
@click.argument("name")
@click.pass_obj
def pull(store: Path | None, name: str) -> None:
    """Download NAME, or continue an interrupted download."""
    with long_import():
        from streamer import weights

    here = weights.locate(name, store)
    if here is not None:
        click.echo(f"{name} is already here: {here.path}")
        return
    with ExitStack() as stack:
        source = weights.pull(name, Progress(stack), store)
    click.echo(f"{source.name} is ready: {source.path}")


class Progress:
    """
    Shows a progress bar for each file of a download.

    Args:
        stack: Closes the bar of the last file; the bar of each other file closes when the next file begins.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._file = ""

    def __call__(self, file: str, done: int, total: int) -> None:
        if file != self._file:
            self._stack.close()
            self._file, self._done = file, 0
            self._advance = self._stack.enter_context(click.progressbar(length=total, label=file)).update
        self._advance(done - self._done)
        self._done = done
