"""`streamer models`: lists, finds, verifies and downloads weights."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import click

from model import PUBLISHED_DIMENSIONS, ModelDimensions, published_shapes
from streamer import weights
from streamer.errors import StreamerError, reason_of

__all__ = ["models"]

PROGRAM_BYTES = 400_000_000
"""Memory of the idle daemon but the weights, PyTorch included: on a CPU tiny.en took 377 MB, base 426 MB more."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    names = [*weights.PUBLISHED_MODELS, *_own_models(store or weights.default_store())]
    rows = [("MODEL", "LANGUAGES", "SIZE", "MEMORY", "WEIGHTS"), *(_row(name, store) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        name, languages, size, memory, place = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(f"{name}  {languages}  {size.strip():>{widths[2]}}  {memory.strip():>{widths[3]}}  {place}".rstrip())


def _row(name: str, store: Path | None) -> tuple[str, str, str, str, str]:
    source, dims = weights.locate(name, store), PUBLISHED_DIMENSIONS.get(name)
    n_bytes = weight_bytes(dims) if dims else 0
    size = source.size_bytes if source else n_bytes
    return (
        name,
        _languages(name, dims) if dims else "?",
        _shown(size),
        _shown(PROGRAM_BYTES + n_bytes) if dims else "?",
        str(source.path) if source else f"not here: streamer models pull {name}",
    )


def weight_bytes(dims: ModelDimensions) -> int:
    """Size of a model's weights at 16 bits, as most are published."""
    return 2 * sum(math.prod(shape) for shape in published_shapes(dims).values())


def _languages(name: str, dims: ModelDimensions) -> str:
    is_english = not dims.is_multilingual or name.startswith("distil-")  # those have the tokens, but not the training
    return "English" if is_english else str(dims.n_languages)


def _shown(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _own_models(store: Path) -> list[str]:
    """Names of folders in the store that are not those of published models."""
    if not store.is_dir():
        return []
    try:
        return sorted(path.name for path in store.iterdir() if path.name not in weights.PUBLISHED_MODELS)
    except OSError as error:
        raise StreamerError(f"cannot list {store}: {reason_of(error)}; name another folder with --store") from None


@models.command("path")
@click.argument("name")
@click.pass_obj
def print_path(store: Path | None, name: str) -> None:
    """Print the path of the weights of NAME."""
    click.echo(weights.resolve(name, store).path)


@models.command("verify")
@click.argument("name")
@click.pass_obj
def verify(store: Path | None, name: str) -> None:
    """Check hash, tensors and vocabulary of NAME."""
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
