"""Tests of streamer/weights/fingerprint.py."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from streamer.weights import fingerprint

SIZES = [0, 1, 4095, 4096, 4097, 1_000_000, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_equal_files_have_equal_fingerprints(tmp_path: Path, size: int) -> None:
    """Wherever they are; and another size, or other facts, another one."""
    data = random.Random(size).randbytes(size)
    (tmp_path / "one").write_bytes(data)
    (tmp_path / "two").write_bytes(data)
    (tmp_path / "longer").write_bytes(data + b"x")

    one = fingerprint([tmp_path / "one"], ["float32", b"tokens"])

    assert len(one) == 32
    assert one == fingerprint([tmp_path / "two"], ["float32", b"tokens"])
    assert one != fingerprint([tmp_path / "longer"], ["float32", b"tokens"])
    assert one != fingerprint([tmp_path / "one"], ["bfloat16", b"tokens"])
    assert one != fingerprint([tmp_path / "one"], ["float32t", b"okens"])


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 0.99])
def test_other_weights_of_the_same_size_are_told_apart(tmp_path: Path, part: float) -> None:
    """A tensor that differs, one per cent of the file, wherever it is."""
    data = bytearray(random.Random(0).randbytes(4_000_000))
    (tmp_path / "one").write_bytes(data)
    start = int(part * len(data))
    data[start : start + 40_000] = random.Random(1).randbytes(40_000)
    (tmp_path / "two").write_bytes(data)

    assert fingerprint([tmp_path / "one"], []) != fingerprint([tmp_path / "two"], [])
