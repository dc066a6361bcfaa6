"""Whisper's encoder-decoder network: pure functions of tensors, with the KV cache as an argument."""

from model.alignment_heads import decode_alignment_heads
from model.append_plan import AppendPlan
from model.attention import ATTENTION_BACKENDS, AttentionBackend
from model.cache import CacheFullError, KVCache
from model.captured import CapturedDecoder
from model.decoder import DecoderOutput, TextDecoder
from model.dimensions import PUBLISHED_DIMENSIONS, ModelDimensions
from model.encoder import STEM_CONTEXT, AudioEncoder
from model.silence import SilenceCache
from model.whisper import Whisper, published_shapes
from model.window_group import EncodedAudio

__all__ = [
    "ATTENTION_BACKENDS",
    "PUBLISHED_DIMENSIONS",
    "STEM_CONTEXT",
    "AppendPlan",
    "AttentionBackend",
    "AudioEncoder",
    "CacheFullError",
    "CapturedDecoder",
    "DecoderOutput",
    "EncodedAudio",
    "KVCache",
    "ModelDimensions",
    "SilenceCache",
    "TextDecoder",
    "Whisper",
    "decode_alignment_heads",
    "published_shapes",
]
