"""The table of `streamer models list`: known models, what they need, and where their weights are."""

from __future__ import annotations

import math
from pathlib import Path

from model import PUBLISHED_DIMENSIONS, ModelDimensions, published_shapes
from streamer import weights
from streamer.errors import StreamerError, reason_of

PROGRAM_BYTES = 400_000_000
"""Memory of the idle daemon but the weights, PyTorch included: on a CPU tiny.en took 377 MB, base 426 MB more."""


def table(store: Path | None) -> list[str]:
    """
    Lines with a heading and a model each.

    Args:
        store: Folder of downloaded models; None: the default one.

    Raises:
        StreamerError: The folder cannot be listed.
    """
    names = [*weights.PUBLISHED_MODELS, *_own_models(store or weights.default_store())]
    rows = [("MODEL", "LANGUAGES", "SIZE", "MEMORY", "WEIGHTS"), *(_row(name, store) for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        name, languages, size, memory, place = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(
            f"{name}  {languages}  {size.strip():>{widths[2]}}  {memory.strip():>{widths[3]}}  {place}".rstrip()
        )
    return lines


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
