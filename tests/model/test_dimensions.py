"""model/dimensions.py"""

from __future__ import annotations

import base64
import gzip
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
import torch
import whisper
import whisper.model

from model import PUBLISHED_DIMENSIONS, ModelDimensions, published_shapes
from tests.helpers.networks import SMALL, published_tokenizer

MILLIONS = {"tiny": 39, "base": 74, "small": 244, "medium": 769, "large-v2": 1550, "large-v3-turbo": 809}
"""Parameters as published: table 1 of the paper, and the model card of large-v3-turbo."""
MILLIONS |= {"distil-small.en": 166, "distil-medium.en": 394, "distil-large-v2": 756, "distil-large-v3": 756}
"""Model cards of the distil models."""


@pytest.mark.parametrize("value", [0, -1, 1.5, "4", None, True])
@pytest.mark.parametrize("name", [field.name for field in fields(ModelDimensions)])
def test_every_number_is_a_positive_integer(name: str, value: Any) -> None:
    """Anything but an integer >= 1 is refused, and the message says which number it was."""
    with pytest.raises(ValueError, match=rf"{name} = .*: expected an integer >= 1"):
        replace(SMALL, **{name: value})


@pytest.mark.parametrize("side", ["audio", "text"])
def test_heads_divide_the_state(side: str) -> None:
    """A width that does not split into the heads is refused."""
    with pytest.raises(ValueError, match=rf"n_{side}_state = 16 is not a multiple of n_{side}_head = 3"):
        replace(SMALL, **{f"n_{side}_head": 3})


def test_cross_attention_needs_equal_states() -> None:
    """Encoder and decoder of different widths cannot be joined."""
    with pytest.raises(ValueError, match="n_audio_state = 32 but n_text_state = 16"):
        replace(SMALL, n_audio_state=32)


def test_sinusoids_need_an_even_state() -> None:
    """Half the channels are sines and half cosines, so an odd width is refused."""
    with pytest.raises(ValueError, match="n_audio_state = 15: the sinusoids need an even number"):
        replace(SMALL, n_audio_state=15, n_text_state=15, n_audio_head=1, n_text_head=1)


def test_is_immutable() -> None:
    """Dimensions cannot change under a network that was built from them."""
    with pytest.raises(FrozenInstanceError):
        SMALL.n_mels = 80  # type: ignore[misc]
    with pytest.raises(TypeError):
        PUBLISHED_DIMENSIONS["tiny"] = SMALL  # type: ignore[index]


def test_derived_numbers_are_the_published_ones() -> None:
    """A published window is 3000 frames, a head 64 wide, a prompt at most 223 tokens."""
    for dims in PUBLISHED_DIMENSIONS.values():
        assert (dims.n_frames, dims.d_head, dims.max_prompt) == (3000, 64, 223)


@pytest.mark.parametrize("name", PUBLISHED_DIMENSIONS)
def test_vocabulary_is_the_published_tokenizers(name: str) -> None:
    """The vocabulary has the size of the published tokenizer with 99 languages, 100 from large-v3 on."""
    n_languages = 100 if "large-v3" in name else 99
    encoding = published_tokenizer(not name.endswith(".en"), n_languages=n_languages).encoding

    assert PUBLISHED_DIMENSIONS[name].n_vocab == encoding.n_vocab


@pytest.mark.parametrize("name", PUBLISHED_DIMENSIONS)
def test_published_network_has_the_same_tensors(name: str) -> None:
    """The published classes, built with the numbers of the table, have exactly these names and shapes."""
    dims = PUBLISHED_DIMENSIONS[name]
    with torch.device("meta"):
        encoder = whisper.model.AudioEncoder(
            dims.n_mels, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer
        )
        decoder = whisper.model.TextDecoder(
            dims.n_vocab, dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer
        )
    expected = {f"encoder.{key}": tuple(value.shape) for key, value in encoder.state_dict().items()}
    expected |= {f"decoder.{key}": tuple(value.shape) for key, value in decoder.state_dict().items()}

    assert published_shapes(dims) == expected


@pytest.mark.parametrize("name", MILLIONS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    """The sizes have as many parameters as their paper or model card says, which rounds within 4 %."""
    shapes = published_shapes(PUBLISHED_DIMENSIONS[name])
    n_parameters = sum(torch.Size(shape).numel() for shape in shapes.values())

    assert n_parameters / 1e6 == pytest.approx(MILLIONS[name], rel=0.04)


@pytest.mark.parametrize("name", [name for name in PUBLISHED_DIMENSIONS if not name.startswith("distil")])
def test_published_alignment_heads_fill_layers_times_heads(name: str) -> None:
    """The published map of alignment heads has one value for each decoder layer and head of the table."""
    dims = PUBLISHED_DIMENSIONS[name]
    marks = gzip.decompress(base64.b85decode(whisper._ALIGNMENT_HEADS[name]))

    assert len(marks) == dims.n_text_layer * dims.n_text_head
