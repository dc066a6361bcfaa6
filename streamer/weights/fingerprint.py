"""Tells weights apart by a sample of their bytes: a check that both sides of a connection have the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["fingerprint"]

N_BLOCKS = 256
"""Blocks read of each file, evenly spread: 1 MB of a file of 3 GB, which takes milliseconds."""
BLOCK_BYTES = 4096


def fingerprint(files: Iterable[Path], facts: Iterable[str | bytes]) -> str:
    """
    A name for weights and what belongs to them; equal only for equal ones.

    Args:
        files: With the weights, in reading order.
        facts: What else must be equal, as the vocabulary and the arithmetic.

    Returns:
        32 hexadecimal digits.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        _add_sample(digest, path)
    for fact in facts:
        data = fact.encode() if isinstance(fact, str) else fact
        digest.update(len(data).to_bytes(8) + data)
    return digest.hexdigest()[:32]


def _add_sample(digest: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8))
    with path.open("rb") as file:
        for block in range(N_BLOCKS):
            file.seek(block * max(0, size - BLOCK_BYTES) // (N_BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
