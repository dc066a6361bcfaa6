"""`streamer models`: lists, finds, verifies and downloads weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from streamer import weights
from streamer.errors import StreamerError

__all__ = ["models"]


@click.group()
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
    """List known models, with size and path of those on this machine."""
    names = [*weights.PUBLISHED_MODELS, *_own_models(store or weights.default_store())]
    width = max(map(len, names))
    for name in names:
        source = weights.locate(name, store)
        place = f"{source.size_bytes / 1e6:7.0f} MB  {source.path}" if source else f"{'-':>7}"
        click.echo(f"{name:{width}}  {place}")


def _own_models(store: Path) -> list[str]:
    """Names of folders in the store that are not those of published models."""
    if not store.is_dir():
        return []
    return sorted(path.name for path in store.iterdir() if path.name not in weights.PUBLISHED_MODELS)


@models.command("path")
@click.argument("name")
@click.pass_obj
def print_path(store: Path | None, name: str) -> None:
    """Print the path of the weights of NAME."""
    with _errors_shown():
        click.echo(weights.resolve(name, store).path)


@models.command("verify")
@click.argument("name")
@click.pass_obj
def verify(store: Path | None, name: str) -> None:
    """Check hash, tensors and vocabulary of NAME."""
    with _errors_shown():
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
    here = weights.locate(name, store)
    if here is not None:
        click.echo(f"{name} is already here: {here.path}")
        return
    with _errors_shown(), ExitStack() as stack:
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


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Turn a `StreamerError` into exit code 1 and its message."""
    try:
        yield
    except StreamerError as error:
        raise click.ClickException(str(error)) from error
