"""Tests of benchmarks/common.py."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from benchmarks.common import CHUNK_S, WordErrors, paced, pcm16, word_errors
from streamer.audio.pcm import SAMPLE_RATE


def test_word_errors_are_counted_under_the_published_normaliser() -> None:
    """Marks and case are no difference; words that are missing, added and substituted are told apart."""
    same = word_errors(["The mill, by the river."], ["the mill by the river"])
    assert same == WordErrors(words=5, substituted=0, missing=0, added=0)
    found = word_errors(["red green blue", "old mill"], ["red red green", "old hill"])
    assert found == WordErrors(words=5, substituted=1, missing=1, added=1)
    assert found.rate == pytest.approx(0.6)


def test_paced_speech_is_whole_and_takes_its_time() -> None:
    """The last chunk is shorter; chunks that were sent before are left out and take no time."""
    pcm = np.arange(round(2.5 * CHUNK_S * SAMPLE_RATE), dtype=np.int16)

    async def spoken(first_chunk: int) -> list[bytes]:
        return [chunk async for chunk in paced(pcm, first_chunk)]

    began = time.monotonic()
    chunks = asyncio.run(spoken(0))
    assert time.monotonic() - began >= 2 * CHUNK_S
    assert b"".join(chunks) == pcm.tobytes()
    assert asyncio.run(spoken(2)) == chunks[2:]


def test_samples_beyond_full_scale_are_clipped() -> None:
    """Not wrapped."""
    assert pcm16(np.array([-2.0, 0.0, 2.0], np.float32)).tolist() == [-32767, 0, 32767]
