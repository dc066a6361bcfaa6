"""The published implementation and ours on real weights, with what the published one makes of real speech."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
import whisper
from torch import Tensor

from streamer.weights import Checkpoint
from tests.helpers.networks import Heard, Pair, pair_of, published_tokenizer, small_pair
from tests.helpers.recordings import Recording

NAMES = ("tiny.en", "base")
SPOKEN = ("dev-sns-0870", "dev-cv-22058266", "dev-jfk")
"""Long, one word, longest: rows of different lengths."""

Pairs = Callable[[str], Pair]


@pytest.fixture(scope="session")
def small() -> Pair:
    """Both implementations of a few thousand random weights."""
    return small_pair()


@pytest.fixture(scope="session")
def load_pair(checkpoint: Callable[[str], Checkpoint]) -> Pairs:
    """Both implementations by name of the weights."""

    def load(name: str) -> Pair:
        weights = checkpoint(name)
        return pair_of(name, weights.dims, weights.tensors, weights.alignment_heads)

    return functools.cache(load)


@pytest.fixture(scope="session")
def mels(recordings: dict[str, Recording]) -> dict[str, Tensor]:
    """Full windows of the published front end by id, each (1, 80, 3000)."""
    padded = {id_: whisper.pad_or_trim(torch.from_numpy(row.samples)) for id_, row in recordings.items()}
    return {id_: whisper.log_mel_spectrogram(samples)[None] for id_, samples in padded.items()}


@pytest.fixture(params=NAMES)
def pair(request: pytest.FixtureRequest, load_pair: Pairs) -> Pair:
    """Both implementations of each published model."""
    return load_pair(request.param)


@pytest.fixture
def tiny(load_pair: Pairs) -> Pair:
    """Both implementations of tiny.en, for what need not be shown twice."""
    return load_pair("tiny.en")


@pytest.fixture(scope="session")
def hear(load_pair: Pairs, mels: dict[str, Tensor], recordings: dict[str, Recording]) -> Callable[[str, str], Heard]:
    """What the published implementation of a model makes of a recording, each computed once."""

    def hear_once(name: str, id_: str) -> Heard:
        published = load_pair(name).published
        recording = recordings[id_]
        tokenizer = published_tokenizer(published.is_multilingual, language=recording.language)
        start = tokenizer.sot_sequence_including_notimestamps
        tokens = torch.tensor([[*start, *tokenizer.encode(" " + recording.text), tokenizer.eot]])
        features = published.encoder(mels[id_])
        return Heard(mels[id_], features, tokens, published.decoder(tokens, features))

    return functools.cache(hear_once)


@pytest.fixture
def heard(pair: Pair, hear: Callable[[str, str], Heard]) -> list[Heard]:
    """The recordings under `pair`'s published network."""
    return [hear(pair.name, id_) for id_ in SPOKEN]
