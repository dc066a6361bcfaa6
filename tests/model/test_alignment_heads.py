"""model/alignment_heads.py"""

from __future__ import annotations

import base64
import gzip

import pytest

from model import decode_alignment_heads


def encode(marks: bytes) -> bytes:
    """The published encoding of a table of bools."""
    return base64.b85encode(gzip.compress(marks))


def test_marks_become_pairs() -> None:
    """Bools row by row become (layer, head) in ascending order."""
    assert decode_alignment_heads(encode(bytes([0, 1, 0, 0, 0, 1])), 2, 3) == ((0, 1), (1, 2))


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b'not "base85"', "not base85"),
        (base64.b85encode(b"plain bytes"), "not gzip"),
        (base64.b85encode(gzip.compress(bytes(6))[:-9]), "not gzip"),
        (base64.b85encode(gzip.compress(bytes(6))[:10] + b"\xff" * 12), "not gzip"),
        (encode(bytes(5)), "hold 5 values: 2 layers . 3 heads are 6"),
        (encode(bytes(10**6)), "hold more than 6 values"),
        (encode(bytes([0, 2, 0, 0, 0, 0])), "hold the byte 2"),
    ],
)
def test_damaged_tables_are_refused(encoded: bytes, message: str) -> None:
    """Each way in which a table can be damaged has a message of its own."""
    with pytest.raises(ValueError, match=message):
        decode_alignment_heads(encoded, 2, 3)
