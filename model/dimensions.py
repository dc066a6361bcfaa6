"""Dimensions of a Whisper network, and those of the published sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

__all__ = ["PUBLISHED_DIMENSIONS", "ModelDimensions"]

N_VOCAB_MULTILINGUAL, N_LANGUAGES = 51865, 99
"""Smallest vocabulary of a published multilingual model, and its languages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDimensions:
    """
    Shape of the network, under the names of the published checkpoints.

    Raises:
        ValueError: A number is not a positive integer, or the numbers contradict one another.

    Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision", table 1.
    """

    n_mels: int
    """Mel bands per frame."""
    n_audio_ctx: int
    """Audio positions of a full window; one position is two mel frames, 20 ms."""
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    """Tokens the decoder can hold: prompt, start sequence and text together."""
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{field.name} = {value!r}: expected an integer >= 1")
        for side in ("audio", "text"):
            state, head = getattr(self, f"n_{side}_state"), getattr(self, f"n_{side}_head")
            if state % head:
                raise ValueError(f"n_{side}_state = {state} is not a multiple of n_{side}_head = {head}")
        if self.n_audio_state != self.n_text_state:
            raise ValueError(
                f"n_audio_state = {self.n_audio_state} but n_text_state = {self.n_text_state}: "
                "cross-attention needs them equal"
            )
        if self.n_audio_state % 2:
            raise ValueError(f"n_audio_state = {self.n_audio_state}: the sinusoids need an even number")

    @property
    def is_multilingual(self) -> bool:
        """Whether the vocabulary is the multilingual one: those of English-only models are smaller."""
        return self.n_vocab >= N_VOCAB_MULTILINGUAL

    @property
    def n_languages(self) -> int:
        """Languages that the vocabulary has a token for, as published; English-only models use one of them."""
        return self.n_vocab - N_VOCAB_MULTILINGUAL + N_LANGUAGES + (not self.is_multilingual)

    @property
    def n_frames(self) -> int:
        """Mel frames of a full window (3000 for every published size: 30 s of 10 ms)."""
        return 2 * self.n_audio_ctx

    @property
    def d_head(self) -> int:
        """Width of one decoder attention head."""
        return self.n_text_state // self.n_text_head

    @property
    def max_prompt(self) -> int:
        """Most tokens of context before the start sequence, `sot_prev` not counted."""
        return self.n_text_ctx // 2 - 1


def _published(state: int, head: int, layer: int, *, english: bool) -> ModelDimensions:
    return ModelDimensions(
        n_mels=80,
        n_audio_ctx=1500,
        n_audio_state=state,
        n_audio_head=head,
        n_audio_layer=layer,
        n_vocab=51864 if english else 51865,
        n_text_ctx=448,
        n_text_state=state,
        n_text_head=head,
        n_text_layer=layer,
    )


def _table() -> dict[str, ModelDimensions]:
    sizes = {"tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12), "medium": (1024, 16, 24)}
    table = {name: _published(*size, english=False) for name, size in sizes.items()}
    table |= {f"{name}.en": _published(*size, english=True) for name, size in sizes.items()}
    large = _published(1280, 20, 32, english=False)
    large_v3 = replace(large, n_mels=128, n_vocab=51866)
    table |= {
        "large-v1": large,
        "large-v2": large,
        "large-v3": large_v3,
        "large-v3-turbo": replace(large_v3, n_text_layer=4),
        "distil-small.en": replace(table["small.en"], n_text_layer=4),
        "distil-medium.en": replace(table["medium.en"], n_text_layer=2),
        "distil-large-v2": replace(large, n_text_layer=2),
        "distil-large-v3": replace(large_v3, n_text_layer=2),
        "distil-large-v3.5": replace(large_v3, n_text_layer=2),
    }
    return table


PUBLISHED_DIMENSIONS: Mapping[str, ModelDimensions] = MappingProxyType(_table())
"""Dimensions of every published size, by name."""
