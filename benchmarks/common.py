"""What several benchmarks need: arguments, recordings, speech in real time, a network, and counted word errors."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import jiwer
import msgspec
import numpy as np
from numpy.typing import NDArray
from whisper_normalizer.english import EnglishTextNormalizer

from benchmarks.arguments import manifest_file
from model import Whisper
from streamer.audio.files import read_audio
from streamer.audio.pcm import SAMPLE_RATE
from streamer.build.options import choose_device, choose_dtype
from streamer.config import ModelConfig
from streamer.engine.loading import load_model
from streamer.errors import ConfigError
from streamer.evaluation.manifest import ManifestRow
from streamer.text.tokenizer import Tokenizer

CHUNK_S = 0.1
"""Audio sent at once."""


def argument_parser(docstring: str, *, with_manifest: bool = True) -> argparse.ArgumentParser:
    """
    A parser with the argument MANIFEST and the option --model.

    Args:
        docstring: Of the benchmark; its first line is the description.
        with_manifest: Whether there is an argument MANIFEST.
    """
    parser = argparse.ArgumentParser(description=docstring.strip().splitlines()[0])
    if with_manifest:
        parser.add_argument("manifest", type=manifest_file, help="JSON lines with id, file, text, language and kind")
    parser.add_argument("--model", default="tiny.en")
    return parser


def some(rows: list[ManifestRow], manifest: Path, wanted: str) -> list[ManifestRow]:
    """
    The rows of a manifest that a benchmark has chosen.

    Args:
        rows: The chosen ones.
        manifest: For the message.
        wanted: What was chosen, in words.

    Raises:
        ConfigError: There is none.
    """
    if not rows:
        raise ConfigError(f"{manifest}: no recording {wanted}; choose another manifest, as tests/data/manifest.jsonl")
    return rows


def read_recordings(manifest: Path, rows: Sequence[ManifestRow]) -> list[NDArray[np.float32]]:
    """The samples of each row of a manifest, (n,), mono at 16 kHz."""
    return [read_audio(manifest.parent / row.file) for row in rows]


def pcm16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples, (n,), as clients send them: (n,) of 16 bits."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2")


async def paced(pcm: NDArray[np.int16], first_chunk: int = 0) -> AsyncIterator[bytes]:
    """
    The chunks of a recording in real time, each when its last sample has been spoken.

    Args:
        pcm: (n,), mono at 16 kHz.
        first_chunk: Number of chunks to leave out.
    """
    size, began_s = round(CHUNK_S * SAMPLE_RATE), time.monotonic()
    for n, at in enumerate(range(first_chunk * size, len(pcm), size), 1):
        await asyncio.sleep(max(0.0, began_s + n * CHUNK_S - time.monotonic()))
        yield pcm[at : at + size].tobytes()


def load_network(name: str) -> tuple[Whisper, Tokenizer]:
    """
    The network of a model on the device and in the dtype that the daemon would choose.

    Raises:
        StreamerError: There is no such model.
    """
    config = ModelConfig(name=name)
    device = choose_device(config)
    return load_model(name, choose_dtype(config, device), device)


class WordErrors(msgspec.Struct, frozen=True, kw_only=True):
    """Words of all texts together, under the published English normaliser."""

    words: int
    """In the references."""
    substituted: int
    missing: int
    added: int

    @property
    def rate(self) -> float:
        """Errors for each word of the references."""
        return (self.substituted + self.missing + self.added) / self.words


def word_errors(references: Sequence[str], texts: Sequence[str]) -> WordErrors:
    """Compare texts with their references."""
    normalise = EnglishTextNormalizer()
    counted = jiwer.process_words([normalise(text) for text in references], [normalise(text) for text in texts])
    return WordErrors(
        words=counted.hits + counted.substitutions + counted.deletions,
        substituted=counted.substitutions,
        missing=counted.deletions,
        added=counted.insertions,
    )
