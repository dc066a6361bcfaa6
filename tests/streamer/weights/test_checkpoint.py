"""The check of tensor names and shapes against dimensions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model import PUBLISHED_DIMENSIONS
from streamer.errors import CheckpointError
from streamer.weights.checkpoint import check_tensors
from tests.streamer.weights.writers import SMALL, random_tensors


def test_complete_tensors_pass() -> None:
    """Every name with its shape is accepted."""
    check_tensors("x.pt", SMALL, random_tensors())


def test_wrong_shape_names_the_tensor() -> None:
    """The message has the file, the tensor, the shape found and the shape expected."""
    expected = r"x.pt: decoder.token_embedding.weight has shape \(11, 8\), dimensions say \(12, 8\)"

    with pytest.raises(CheckpointError, match=expected):
        check_tensors("x.pt", replace(SMALL, n_vocab=12), random_tensors())


def test_missing_tensor_is_named() -> None:
    """A tensor that is not there is named."""
    tensors = random_tensors()
    del tensors["encoder.conv1.bias"]

    with pytest.raises(CheckpointError, match=r"encoder.conv1.bias is missing"):
        check_tensors("x.pt", SMALL, tensors)


def test_unknown_tensor_is_named() -> None:
    """A tensor too many means that the file holds another network."""
    with pytest.raises(CheckpointError, match=r"decoder.blocks.9.ln is not part"):
        check_tensors("x.pt", SMALL, random_tensors() | {"decoder.blocks.9.ln": torch.zeros(1)})


def test_integers_are_refused() -> None:
    """Quantised weights that nobody multiplied out are not usable."""
    tensors = random_tensors()
    tensors["encoder.conv1.bias"] = tensors["encoder.conv1.bias"].to(torch.int8)

    with pytest.raises(CheckpointError, match=r"encoder.conv1.bias has dtype torch.int8"):
        check_tensors("x.pt", SMALL, tensors)


@pytest.mark.parametrize("name", PUBLISHED_DIMENSIONS)
def test_multilingual_by_vocabulary(name: str) -> None:
    """The size of the vocabulary tells English-only models."""
    assert PUBLISHED_DIMENSIONS[name].is_multilingual == (not name.endswith(".en"))
