"""The encoding in which alignment heads are published: base85 of gzip of one bool for each layer and head."""

from __future__ import annotations

import base64
import zlib

__all__ = ["decode_alignment_heads"]

GZIP = 31
"""Format of `zlib` for gzip with its header and checksum."""


def decode_alignment_heads(encoded: bytes, n_text_layer: int, n_text_head: int) -> tuple[tuple[int, int], ...]:
    """
    Decode a table of one bool per layer and head into (layer, head) pairs in ascending order.

    Args:
        encoded: Base85 of gzip of n_text_layer * n_text_head bytes, each 0 or 1.
        n_text_layer: Layers of the decoder.
        n_text_head: Heads of each layer.

    Raises:
        ValueError: The table is not base85 of gzip, or not of n_text_layer * n_text_head bools.
    """
    expected = n_text_layer * n_text_head
    try:
        packed = base64.b85decode(encoded)
    except ValueError as error:
        raise ValueError(f"alignment heads are not base85: {error}") from error
    marks = _unzipped(packed, expected + 1)  # one byte more than expected shows that there are too many
    if len(marks) != expected:
        found = f"{len(marks)}" if len(marks) < expected else f"more than {expected}"
        raise ValueError(
            f"alignment heads hold {found} values: {n_text_layer} layers * {n_text_head} heads are {expected}"
        )
    if not set(marks) <= {0, 1}:
        raise ValueError(f"alignment heads hold the byte {max(marks)}, expected bools: 0 or 1")
    return tuple(divmod(index, n_text_head) for index, mark in enumerate(marks) if mark)


def _unzipped(packed: bytes, most: int) -> bytes:
    """At most `most` bytes of a gzip file; ValueError if it is damaged or cut off before them."""
    gzip = zlib.decompressobj(GZIP)
    try:
        content = gzip.decompress(packed, most)
    except zlib.error as error:
        raise ValueError(f"alignment heads are not gzip inside the base85: {error}") from error
    if len(content) < most and not gzip.eof:
        raise ValueError("alignment heads are not gzip inside the base85: the file is cut off")
    return content
