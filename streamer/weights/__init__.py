"""Whisper weights: find them by name, read three formats, check them, download them."""

from streamer.weights.alignment_heads import alignment_lag_s, published_alignment_heads
from streamer.weights.checkpoint import Checkpoint
from streamer.weights.download import pull
from streamer.weights.fingerprint import fingerprint
from streamer.weights.load import check_sha256, find_vocabulary, load, load_tokenizer, sha256_of
from streamer.weights.names import PUBLISHED_MODELS
from streamer.weights.source import ModelSource
from streamer.weights.store import default_store, locate, resolve
from streamer.weights.vocabulary import build_tokenizer

__all__ = [
    "PUBLISHED_MODELS",
    "Checkpoint",
    "ModelSource",
    "alignment_lag_s",
    "build_tokenizer",
    "check_sha256",
    "default_store",
    "find_vocabulary",
    "fingerprint",
    "load",
    "load_tokenizer",
    "locate",
    "published_alignment_heads",
    "pull",
    "resolve",
    "sha256_of",
]
