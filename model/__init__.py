"""Whisper's encoder-decoder as a pure network: tensors in, tensors out."""

from model.cache import CacheFullError, KVCache, Placement
from model.decoder import DecoderOutput, TextDecoder
from model.dimensions import PUBLISHED_DIMENSIONS, ModelDimensions
from model.encoder import AudioEncoder, SilenceCache
from model.whisper import Whisper, published_shapes

__all__ = [
    "PUBLISHED_DIMENSIONS",
    "AudioEncoder",
    "CacheFullError",
    "DecoderOutput",
    "KVCache",
    "ModelDimensions",
    "Placement",
    "SilenceCache",
    "TextDecoder",
    "Whisper",
    "published_shapes",
]
