"""Live speech to captions with Whisper weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from streamer.library.model import SpeechModel

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def load(
    name: str = "tiny.en",
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
) -> SpeechModel:
    """
    Load a model for use in this process, see `streamer.library.load`.

    Args:
        name: Published name, path of a checkpoint, or repository.
        device: Where the network runs; `auto` is the GPU if there is one.
        dtype: Of the arithmetic; `auto` is the fastest that the device computes natively.
    """
    from streamer.library.model import load as load_model  # torch takes seconds to import

    return load_model(name, device=device, dtype=dtype)
