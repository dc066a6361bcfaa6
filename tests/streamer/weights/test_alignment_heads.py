"""The encoded table of alignment heads and its decoder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model import PUBLISHED_DIMENSIONS
from streamer.weights import Checkpoint
from streamer.weights.alignment_heads import (
    ENCODED_ALIGNMENT_HEADS,
    alignment_lag_s,
    heads_within,
    published_alignment_heads,
)


@pytest.mark.parametrize("name", ENCODED_ALIGNMENT_HEADS)
def test_every_published_table_decodes(name: str) -> None:
    """Each table has the size of its model and marks a few heads of it."""
    dims = PUBLISHED_DIMENSIONS[name]

    heads = published_alignment_heads(name, dims)

    assert heads is not None
    assert 5 <= len(heads) <= 23
    assert heads_within(name, heads, dims) == heads


def test_table_agrees_with_converted_models(tiny_en: Checkpoint, base: Checkpoint) -> None:
    """The heads that the converted models list beside the weights are those of the table."""
    assert tiny_en.alignment_heads == published_alignment_heads("tiny.en", tiny_en.dims)
    assert base.alignment_heads == published_alignment_heads("base", base.dims)


def test_other_models_have_no_published_heads() -> None:
    """Neither unknown names nor known names of other dimensions."""
    dims = PUBLISHED_DIMENSIONS["tiny"]

    assert published_alignment_heads("mine", dims) is None
    assert published_alignment_heads("tiny", replace(dims, n_text_layer=2)) is None


def test_heads_outside_the_decoder_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A head of a layer that does not exist is named in a warning, and none of the heads counts."""
    dims = PUBLISHED_DIMENSIONS["tiny"]

    assert heads_within("x", ((1, 5), (3, 0)), dims) == ((1, 5), (3, 0))
    assert heads_within("x", None, dims) is None
    assert not caplog.records
    assert heads_within("x", ((1, 5), (4, 0)), dims) is None
    assert "x: alignment head (4, 0) is outside the decoder of 4 layers and 6 heads" in caplog.text


def test_a_lag_belongs_to_the_heads_it_was_measured_with(tiny_en: Checkpoint, base: Checkpoint) -> None:
    """tiny.en is late and base is early; other heads of theirs and other models count as neither."""
    late, early = tiny_en.alignment_heads, base.alignment_heads
    assert late is not None
    assert early is not None
    assert alignment_lag_s(tiny_en.dims, late) == 0.1
    assert alignment_lag_s(base.dims, early) == -0.04
    assert alignment_lag_s(tiny_en.dims, late[1:]) == 0.0
    assert alignment_lag_s(PUBLISHED_DIMENSIONS["small"], late) == 0.0
