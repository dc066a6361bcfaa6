"""Options of an engine: batch size, window length, approximations and memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from model import ModelDimensions
from streamer.audio import mel
from streamer.engine.keyterms import Strength


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine trades memory, speed and exactness."""

    max_batch: int = 8
    """Most rows of one step."""
    beams: int = 1
    """Hypotheses of the beam search for a doubtful text; 1: greedy decoding alone. Above 1 a step has one row, without
    committed words."""
    max_serial: int | None = None
    """Most tokens of a row that its draft did not have: the other rows of a step wait for each. None: as many as its
    window can hold."""
    max_window_s: float = 30.0
    """Longest window of a request."""
    kv_reuse: bool = True
    """Keep the keys and values of settled tokens although the window has grown (approximate), not recompute them."""
    silence_cache: bool = True
    """Complete short windows by cached silence; False encodes full windows, the reference."""
    margin_frames: int = 32
    """Frames of silence encoded after the live edge; without them the decoder does not stop at the end of the text."""
    bucket: int = 8
    """Window lengths are rounded up to a multiple of this many audio positions."""
    mel_maximum: float = mel.FIXED_MAXIMUM
    """log10 mel power taken as the maximum of every window; silence is 8 below it."""
    silence_stride: int = 4
    """Positions of cached silence that one encoder key represents."""
    n_tail: int = 128
    """Positions of cached silence after every window in cross-attention."""
    settle_s: float | None = 1.0
    """Audio this long before the live edge is not encoded again; None encodes every window whole."""
    whole_pass_growth: float | None = 2.0
    """A window so many times as long as at its last whole pass is encoded whole again, above 1; None: never."""
    whole_pass_enough_s: float = 5.0
    """A window whose last whole pass was so long, in seconds, is not encoded whole again."""
    max_remembered: int = 256
    """Sessions whose windows are cached."""
    max_remembered_bytes: int = 2**34
    """Of all cached windows, in memory of the device."""
    captures: bool = True
    """On a GPU, capture decoder passes of one token as graphs; no other thread may use the device meanwhile."""
    keyterms: Strength = field(default_factory=Strength)
    """Boost of key terms."""

    def in_buckets(self, n: int) -> int:
        """Audio positions rounded up to whole buckets."""
        return -(-n // self.bucket) * self.bucket

    def audio_capacity(self, dims: ModelDimensions) -> int:
        """Audio positions of the longest window with its margin."""
        if not self.silence_cache:
            return dims.n_audio_ctx
        frames = int(self.max_window_s * mel.FRAMES_PER_SECOND) + self.margin_frames
        return min(self.in_buckets(-(-frames // 2)), dims.n_audio_ctx)
