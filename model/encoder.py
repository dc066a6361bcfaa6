"""
The audio encoder, for full windows and for short windows completed by cached silence.

Whisper was trained on windows of 30 s padded with silence and breaks without the padding. The padding is the
same every time, so its keys, values and features are computed once (`SilenceCache`); a window with T positions
of sound then costs T positions of work. This is a training-free approximation: the silence that stands behind
the sound has not attended to it.

A live window grows at its right edge, and sound some seconds behind the edge is hardly changed by what comes after
it. `extend` therefore takes the keys and values of such settled positions from an earlier pass and computes only the
positions after them, so that a pass costs the same however long the window is. That is the second approximation:
settled positions have heard only so much of what follows them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.dimensions import ModelDimensions
from model.layers import FeedForward, LayerNorm, Linear, attend, sinusoids, split_heads
from model.silence import SilenceCache
from model.window_group import EncodedAudio, Window, WindowGroup, alone, of_like_length

__all__ = ["AudioEncoder"]

STEM_CONTEXT = 2
"""Mel frames before a position that its convolutions look at."""


class EncoderBlock(nn.Module):
    """Residual block: self-attention, then the feed-forward half."""

    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.norm = LayerNorm(n_state)
        self.qkv = Linear(n_state, 3 * n_state)
        self.out = Linear(n_state, n_state)
        self.feed_forward = FeedForward(n_state)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of `x` (batch, n, n_state), each (batch, n_head, n, d_head)."""
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        return split_heads(q, self.n_head), split_heads(k, self.n_head), split_heads(v, self.n_head)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add the attention result and the feed-forward half to the residual stream."""
        finished: Tensor = self.feed_forward(self.out(attended, residual=x))
        return finished


class AudioEncoder(nn.Module):
    """Log-mel frames -> audio features."""

    positions: Tensor

    def __init__(self, dims: ModelDimensions) -> None:
        super().__init__()
        self.dims = dims
        n_state = dims.n_audio_state
        # convolutions over three frames, as products over their concatenation: one kernel with its GELU
        self.conv1 = Linear(3 * dims.n_mels, n_state)
        self.conv2 = Linear(3 * n_state, n_state)
        self.register_buffer("positions", sinusoids(dims.n_audio_ctx, n_state))
        self.blocks = nn.ModuleList(EncoderBlock(n_state, dims.n_audio_head) for _ in range(dims.n_audio_layer))
        self.norm = LayerNorm(n_state)

    def forward(self, mel: Tensor, silence: SilenceCache | None = None) -> Tensor:
        """
        Encode a full window, or the sounding part of a short one.

        Args:
            mel: Scaled log-mel frames, (batch, n_mels, 2 * T), in the encoder's dtype.
                Without `silence`, T must be n_audio_ctx.
            silence: What stands in positions [T, n_audio_ctx); its `mel_value` must be the floor of `mel`.

        Returns:
            Audio features, (batch, T, n_audio_state).

        Raises:
            ValueError: `mel` has the wrong number of axes, bands or frames.
        """
        self._check(mel, silence)
        x = self._stem(mel, silence)
        n, mask = x.shape[1], None
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, EncoderBlock)
            q, k, v = block.project(x)
            if silence is not None and n < self.dims.n_audio_ctx:
                tail, log_weights = silence.last(silence.n_behind(n))
                k, v = _followed_by(k, tail[0, layer]), _followed_by(v, tail[1, layer])
                mask = F.pad(log_weights, (n, 0)).to(x)[None, None, None]
            x = block.finish(x, attend(q, k, v, mask))
        features: Tensor = self.norm(x)
        return features

    def extend(
        self,
        mels: Sequence[Tensor],
        settled: Sequence[Tensor],
        silence: SilenceCache,
        *,
        row_by_row: bool = True,
    ) -> list[EncodedAudio]:
        """
        Encode what follows the settled positions of several windows, of any lengths.

        The windows share every product. They attend one by one, which pads nothing, or together with those that have
        about as many new positions.

        Args:
            mels: For each window its scaled log-mel frames, (n_mels, 2 * n) from the beginning, or
                (n_mels, STEM_CONTEXT + 2 * n) where settled positions come before.
            settled: For each window the encoder's keys and values of its settled positions,
                (2, n_audio_layer, n_audio_head, n_settled, d_head), n_settled = 0 for a new window.
            silence: What stands behind each window.
            row_by_row: Attend one by one.

        Returns:
            For each window its n new positions.

        Raises:
            ValueError: A window has the wrong shape, or is longer than n_audio_ctx.
        """
        windows = [
            Window(mel, past, self._n_after(past.shape[3], mel)) for mel, past in zip(mels, settled, strict=True)
        ]
        alike = alone(windows) if row_by_row else of_like_length(windows)
        groups, first = [], 0
        for numbers in alike:
            groups.append(WindowGroup([windows[number] for number in numbers], silence, first))
            first = groups[-1].end
        features = self._encode(groups, silence)
        encoded = itertools.chain.from_iterable(group.encoded(features) for group in groups)
        in_order = sorted(zip(itertools.chain.from_iterable(alike), encoded, strict=True), key=lambda each: each[0])
        return [new for _, new in in_order]

    def _encode(self, groups: Sequence[WindowGroup], silence: SilenceCache) -> Tensor:
        """Features of the new positions of all windows, group after group, padding included, (n, n_audio_state)."""
        x = torch.cat([self._stem_after(group, silence.mel_value) for group in groups])[None]
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, EncoderBlock)
            q, k, v = (part[0] for part in block.project(x))
            x = block.finish(x, torch.cat([group.attend(layer, q, k, v) for group in groups])[None])
        features: Tensor = self.norm(x)[0]
        return features

    def _stem_after(self, group: WindowGroup, mel_value: float) -> Tensor:
        """Convolutions, GELU and positions of a group's new positions, padding included, (n, n_audio_state)."""
        n_ctx, n = self.dims.n_audio_ctx, group.n
        mels = group.windows[0].mel.new_full(
            (len(group.windows), STEM_CONTEXT + 2 * n + 2, self.dims.n_mels), mel_value
        )
        for row, window in zip(mels, group.windows, strict=True):
            end = STEM_CONTEXT + 2 * window.n
            row[:STEM_CONTEXT] = 0.0
            row[end - window.mel.shape[1] : end] = window.mel.T
            if window.end == n_ctx:
                row[end] = 0.0
        x: Tensor = self.conv1(im2col(mels, stride=1), gelu=True)
        # before a window's first frame its convolutions see nothing, not what the first one makes of nothing
        x[[row for row, window in enumerate(group.windows) if not window.start], :STEM_CONTEXT] = 0.0
        # the first position of a context has heard zeros on its left; it is cut off
        x = self.conv2(im2col(x, stride=2), gelu=True)[:, STEM_CONTEXT // 2 :][:, :n]
        starts = torch.tensor([window.start for window in group.windows])
        places = (starts[:, None] + torch.arange(n)).clamp_max(n_ctx - 1).to(x.device)
        embedded: Tensor = (x + self.positions[places]).flatten(0, 1)
        return embedded

    def _n_after(self, start: int, mel: Tensor) -> int:
        """Positions in frames that follow `start` settled ones, checked."""
        context = STEM_CONTEXT if start else 0
        n_mels, n_ctx = self.dims.n_mels, self.dims.n_audio_ctx
        if mel.ndim != 2:
            raise ValueError(f"mel has shape {tuple(mel.shape)}, expected (n_mels, n_frames)")
        if mel.shape[0] != n_mels:
            raise ValueError(f"mel has {mel.shape[0]} bands, this model needs {n_mels}")
        n, odd = divmod(mel.shape[1] - context, 2)
        if odd or n < 1:
            raise ValueError(
                f"mel after {start} positions has {mel.shape[1]} frames, expected {context} + an even number"
            )
        if start + n > n_ctx:
            raise ValueError(f"{start} + {n} positions, the encoder holds {n_ctx}")
        return n

    def encode_silence(self, mel_value: float, *, stride: int = 1, n_whole: int = 64) -> SilenceCache:
        """
        Encode one full window of silence.

        Args:
            mel_value: Of every mel entry.
            stride: Positions that one kept key stands for, 1 to n_audio_ctx.
            n_whole: Last positions that are all kept, at least 0; more than there are means all.

        Raises:
            ValueError: A number is out of range.
        """
        n_ctx = self.dims.n_audio_ctx
        if not 1 <= stride <= n_ctx or n_whole < 0:
            raise ValueError(f"stride = {stride}, n_whole = {n_whole}: expected 1 to {n_ctx}, and 0 at least")
        n_whole = min(n_whole, n_ctx)
        mel = self.positions.new_full((1, self.dims.n_mels, self.dims.n_frames), mel_value)
        strided = range(stride // 2, n_ctx - n_whole, stride)
        positions = [*strided, *range(n_ctx - n_whole, n_ctx)]
        log_weights = torch.tensor([math.log(stride)] * len(strided) + [0.0] * n_whole)
        x = self._stem(mel, None)
        kept = []
        for block in self.blocks:
            assert isinstance(block, EncoderBlock)
            q, k, v = block.project(x)
            kept.append(torch.cat([k, v])[:, :, positions])
            x = block.finish(x, attend(q, k, v))
        features = self.norm(x)[0]
        return SilenceCache(torch.stack(kept, dim=1), features, mel_value, tuple(positions), log_weights)

    def _stem(self, mel: Tensor, silence: SilenceCache | None) -> Tensor:
        """
        Convolutions, GELU and positions: (batch, n_mels, 2 * n) -> (batch, n, n_audio_state).

        Two frames of silence at the right edge stand for the window's rest: the convolutions look no further.
        """
        n = mel.shape[-1] // 2
        if silence is not None and n < self.dims.n_audio_ctx:
            mel = F.pad(mel, (0, 2), value=silence.mel_value)
        x: Tensor = self.conv1(im2col(mel.transpose(1, 2), stride=1), gelu=True)
        x = self.conv2(im2col(x, stride=2)[:, :n], gelu=True)
        return x + self.positions[:n]

    def _check(self, mel: Tensor, silence: SilenceCache | None) -> None:
        dims = self.dims
        if mel.ndim != 3:
            raise ValueError(f"mel has shape {tuple(mel.shape)}, expected (batch, n_mels, n_frames)")
        if mel.shape[1] != dims.n_mels:
            raise ValueError(f"mel has {mel.shape[1]} bands, this model needs {dims.n_mels}")
        n_frames = mel.shape[2]
        if silence is None and n_frames != dims.n_frames:
            raise ValueError(
                f"mel has {n_frames} frames, the encoder needs {dims.n_frames} (2 * n_audio_ctx); pad the window"
            )
        if n_frames < 2 or n_frames % 2 or n_frames > dims.n_frames:
            raise ValueError(f"mel has {n_frames} frames, expected an even number from 2 to {dims.n_frames}")


def im2col(x: Tensor, *, stride: int) -> Tensor:
    """(batch, n, d) -> (batch, n // stride, 3 * d): each frame between its neighbours, zeros past the ends."""
    batch, n, d = x.shape
    padded = F.pad(x, (0, 0, 1, 1)).contiguous()
    return padded.as_strided((batch, -(-n // stride), 3 * d), ((n + 2) * d, stride * d, 1))


def _followed_by(x: Tensor, tail: Tensor) -> Tensor:
    """(batch, n_head, n, d) and (n_head, m, d) -> (batch, n_head, n + m, d)."""
    return torch.cat([x, tail.expand(x.shape[0], -1, -1, -1)], dim=2)
