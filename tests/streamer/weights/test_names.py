"""The table of published names."""

from __future__ import annotations

import pytest
import whisper

from model import PUBLISHED_DIMENSIONS
from streamer.weights.alignment_heads import ENCODED_ALIGNMENT_HEADS
from streamer.weights.names import PUBLISHED_MODELS, find_published, nearest_name


def test_every_published_size_has_a_source() -> None:
    """The tables of names and of dimensions agree."""
    assert PUBLISHED_MODELS.keys() == PUBLISHED_DIMENSIONS.keys()


def test_hashes_and_heads_are_those_of_the_publisher() -> None:
    """OpenAI's package names the same hashes and the same alignment heads, aliases included."""
    for name, url in whisper._MODELS.items():
        model = find_published(name)
        assert model is not None
        assert url.endswith(f"/{model.openai_sha256}/{model.name}.pt")
        assert whisper._ALIGNMENT_HEADS[name] == ENCODED_ALIGNMENT_HEADS[model.name]


@pytest.mark.parametrize(("alias", "name"), [("turbo", "large-v3-turbo"), ("large", "large-v3"), ("base", "base")])
def test_aliases_name_one_model(alias: str, name: str) -> None:
    """Aliases name one model."""
    model = find_published(alias)

    assert model is not None
    assert model.name == name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("tyni", "tiny"), ("large-v4", "large-v3"), ("distil-large3", "distil-large-v3"), ("q", None)],
)
def test_typing_mistakes_find_the_name_meant(typed: str, meant: str | None) -> None:
    """Typing mistakes find the name meant, noise finds none."""
    assert nearest_name(typed) == meant
