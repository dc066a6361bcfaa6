"""
The audio encoder, for full windows and for short windows completed by cached silence.

Whisper was trained on windows of 30 s padded with silence and breaks without the padding. The padding is the same every
time, so its keys, values and features are computed once (`SilenceCache`); a window with T audio positions then costs T
positions of work. This is a training-free approximation: the cached silence has not attended to the audio.

A live window grows at its right edge, and later audio hardly changes the keys and values of positions some seconds
before the edge. `extend` takes the keys and values of these settled positions from an earlier pass and computes only
the positions after them, so that the cost of a pass does not depend on the length of the window. This is a second
approximation: settled positions have not attended to the audio that came later.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.attention import AttentionBackend, attend, split_heads
from model.dimensions import ModelDimensions
from model.layers import FeedForward, LayerNorm, Linear, im2col, sinusoids
from model.silence import SilenceCache
from model.window_group import EncodedAudio, Window, WindowGroup, alone, of_like_length

__all__ = ["AudioEncoder"]

STEM_CONTEXT = 2
"""Mel frames before the first new position that the two convolutions read."""


class EncoderBlock(nn.Module):
    """Residual block: self-attention, then feed-forward."""

    def __init__(self, n_state: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.attention: AttentionBackend = "fused"
        """Back end of this block's attention; layers may differ."""
        self.norm = LayerNorm(n_state)
        self.qkv = Linear(n_state, 3 * n_state)
        self.out = Linear(n_state, n_state)
        self.feed_forward = FeedForward(n_state)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of `x` (batch, n, n_state), each (batch, n_head, n, d_head)."""
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=-1)
        return split_heads(q, self.n_head), split_heads(k, self.n_head), split_heads(v, self.n_head)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """
        Second part of the block: output projection, residual, feed-forward.

        Args:
            x: Residual stream, (batch, n, n_state).
            attended: Result of attention, (batch, n, n_state).

        Returns:
            (batch, n, n_state).
        """
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

    @property
    def is_rounded(self) -> bool:
        """Whether the blocks multiply in 8 bits."""
        return any(isinstance(module, Linear) and module.is_rounded for module in self.blocks.modules())

    def forward(self, mel: Tensor) -> Tensor:
        """
        Encode full windows.

        Args:
            mel: Scaled log-mel frames, (batch, n_mels, 2 * n_audio_ctx), in the encoder's dtype.

        Returns:
            Audio features, (batch, n_audio_ctx, n_audio_state).

        Raises:
            ValueError: `mel` has the wrong number of axes, bands or frames, or another dtype than the encoder.
        """
        self._check(mel)
        x = self._stem(mel)  # (batch, n_audio_ctx, n_audio_state)
        for block in self.blocks:
            assert isinstance(block, EncoderBlock)
            q, k, v = block.project(x)  # each (batch, n_head, n_audio_ctx, d_head)
            x = block.finish(x, attend(q, k, v, backend=block.attention))
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
        Encode the positions after the settled ones of several windows of any lengths.

        The windows share every matrix product. Attention runs per window, which pads nothing, or per group of windows
        with similar numbers of new positions.

        Args:
            mels: Scaled log-mel frames of each window: (n_mels, 2 * n) from its beginning, or
                (n_mels, STEM_CONTEXT + 2 * n) after settled positions.
            settled: Encoder keys and values of each window's settled positions,
                (2, n_audio_layer, n_audio_head, n_settled, d_head), n_settled = 0 for a new window.
            silence: Completes each window.
            row_by_row: One attention call per window.

        Returns:
            The n new positions of each window.

        Raises:
            ValueError: A window or its settled part has the wrong shape, or a window is longer than n_audio_ctx.
        """
        windows = [Window(mel, past, self._n_new(mel, past)) for mel, past in zip(mels, settled, strict=True)]
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
        x = torch.cat([self._stem_after(group, silence.mel_value) for group in groups])[None]  # (1, n, n_audio_state)
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, EncoderBlock)
            q, k, v = (part[0] for part in block.project(x))  # each (n_head, n, d_head)
            attended = torch.cat([group.attend(layer, q, k, v, block.attention) for group in groups])[None]
            x = block.finish(x, attended)  # (1, n, n_audio_state)
        features: Tensor = self.norm(x)[0]
        return features

    def _stem_after(self, group: WindowGroup, mel_value: float) -> Tensor:
        """Convolutions, GELU and positions of a group's new positions, padding included, (n, n_audio_state)."""
        n_ctx, n, n_frames = self.dims.n_audio_ctx, group.n, STEM_CONTEXT + 2 * group.n + 2
        mels = group.windows[0].mel.new_full((len(group.windows), n_frames, self.dims.n_mels), mel_value)
        for row, window in zip(mels, group.windows, strict=True):
            end = STEM_CONTEXT + 2 * window.n
            row[:STEM_CONTEXT] = 0.0
            row[end - window.mel.shape[1] : end] = window.mel.T
            if window.end == n_ctx:
                row[end] = 0.0
        x: Tensor = self.conv1(im2col(mels, stride=1), gelu=True)  # (n_windows, n_frames, n_audio_state)
        # the second convolution reads zeros before a window's first frame, not the first one's output over zeros
        x[[row for row, window in enumerate(group.windows) if not window.start], :STEM_CONTEXT] = 0.0
        # the first position has read padding instead of the frame on its left: it is cut off
        x = self.conv2(im2col(x, stride=2), gelu=True)[:, STEM_CONTEXT // 2 :][:, :n]  # (n_windows, n, n_audio_state)
        starts = torch.tensor([window.start for window in group.windows])
        positions = (starts[:, None] + torch.arange(n)).clamp_max(n_ctx - 1).to(x.device)  # (n_windows, n)
        embedded: Tensor = (x + self.positions[positions]).flatten(0, 1)  # (n_windows * n, n_audio_state)
        return embedded

    def _n_new(self, mel: Tensor, past: Tensor) -> int:
        """Number of new positions in frames after the settled ones; raises ValueError for a wrong shape."""
        dims = self.dims
        outer, d_head = (2, dims.n_audio_layer, dims.n_audio_head), dims.n_audio_state // dims.n_audio_head
        if past.ndim != 5 or past.shape[:3] != outer or past.shape[4] != d_head:
            raise ValueError(f"settled part has shape {tuple(past.shape)}, expected {outer} + (n_settled, {d_head})")
        start, n_ctx = past.shape[3], dims.n_audio_ctx
        context = STEM_CONTEXT if start else 0
        if mel.ndim != 2:
            raise ValueError(f"mel has shape {tuple(mel.shape)}, expected (n_mels, n_frames)")
        self._check_bands(mel, dim=0)
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
            mel_value: Value of every mel entry.
            stride: Positions that one kept key represents, 1 to n_audio_ctx.
            n_whole: Last positions of which every key is kept, at least 0; more than n_audio_ctx means all.

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
        x = self._stem(mel)
        kept = []
        for block in self.blocks:
            assert isinstance(block, EncoderBlock)
            q, k, v = block.project(x)
            kept.append(torch.cat([k, v])[:, :, positions])  # (2, n_head, n_kept, d_head)
            x = block.finish(x, attend(q, k, v, backend=block.attention))
        features = self.norm(x)[0]
        return SilenceCache(torch.stack(kept, dim=1), features, mel_value, tuple(positions), log_weights)

    def _stem(self, mel: Tensor) -> Tensor:
        """Convolutions, GELU and positions: (batch, n_mels, 2 * n_audio_ctx) -> (batch, n_audio_ctx, n_audio_state)."""
        x: Tensor = self.conv1(im2col(mel.transpose(1, 2), stride=1), gelu=True)  # (batch, n_frames, n_audio_state)
        x = self.conv2(im2col(x, stride=2), gelu=True)  # (batch, n_audio_ctx, n_audio_state)
        return x + self.positions

    def _check(self, mel: Tensor) -> None:
        if mel.ndim != 3:
            raise ValueError(f"mel has shape {tuple(mel.shape)}, expected (batch, n_mels, n_frames)")
        self._check_bands(mel, dim=1)
        n_frames, expected = mel.shape[2], self.dims.n_frames
        if n_frames != expected:
            raise ValueError(
                f"mel has {n_frames} frames, the encoder needs {expected} (2 * n_audio_ctx); pad the window"
            )

    def _check_bands(self, mel: Tensor, dim: int) -> None:
        if mel.shape[dim] != self.dims.n_mels:
            raise ValueError(f"mel has {mel.shape[dim]} bands, this model needs {self.dims.n_mels}")
        if mel.dtype != self.positions.dtype:
            raise ValueError(f"mel has dtype {mel.dtype}, this model computes in {self.positions.dtype}")
