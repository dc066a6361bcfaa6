"""
Encode windows into the decoder's cross-attention cache, reusing keys and values that no longer change.

Audio more than `settle_s` before the live edge is settled: it is not encoded again, its keys and values are cached for
each window. A short window that has outgrown its last whole pass (`is_outgrown`) is encoded whole again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from model import STEM_CONTEXT, EncodedAudio, KVCache, SilenceCache, Whisper
from streamer.audio import mel
from streamer.engine.options import EngineOptions
from streamer.engine.window_cache import AudioKV, KVSpan, WindowCache
from streamer.step import StepRequest

POSITION_S = 0.02
"""Duration of one audio position."""


def is_outgrown(n_positions: int, n_whole: int, growth: float | None, n_enough: int) -> bool:
    """
    Whether a window is so much longer than at its last whole pass that it is encoded whole again. Pure.

    The features of a position depend on the whole window, and a settled position keeps those of the window in which it
    settled. Relative error of features by the length of that window: 1.3 s 0.81, 2 s 0.46, 3 s 0.22, 4 s 0.17, 6 s
    0.13, 8 s 0.08 (base, docs/experiments.md). So the length is what costs, and a pass at each doubling wins it back.
    Behind a pass over some seconds another one wins nothing, and would be the longest of all.

    Args:
        n_positions: Audio positions of the window now.
        n_whole: Audio positions of the window at its last whole pass.
        growth: `EngineOptions.whole_pass_growth`.
        n_enough: Audio positions of a whole pass that no other one follows.
    """
    return growth is not None and n_whole < n_enough and n_positions >= growth * n_whole


@dataclass(frozen=True, slots=True)
class SettledWindow:
    """Window of a request, and the keys and values that are settled of it."""

    request: StepRequest
    keys_values: AudioKV


class WindowEncoder:
    """
    Encodes windows from their first position that is not settled.

    Args:
        model: In inference mode, on its device.
        cache: Receives the cross-attention keys and values.
        silence: Completes short windows; None encodes full windows, the reference.
        options: See `EngineOptions`.
        most_bytes: Cached for all windows together.
    """

    def __init__(
        self, model: Whisper, cache: KVCache, silence: SilenceCache | None, options: EngineOptions, most_bytes: int
    ) -> None:
        self._model, self._cache, self._silence, self._options = model, cache, silence, options
        self._no_window = self._empty_window()
        self._windows = WindowCache(self._no_window, options.max_remembered, most_bytes)

    @property
    def n_bytes(self) -> int:
        """Bytes cached for all windows."""
        return self._windows.n_bytes

    def n_settled(self, request: StepRequest) -> int:
        """Settled positions of the request's window, which are not encoded again."""
        return self._reused(request).n

    def is_outgrown(self, request: StepRequest) -> bool:
        """Whether the request's window has settled positions and outgrew them: text read over them is outdated too."""
        cached = self._windows.of(request.session, request.window)
        n_positions, n_enough = request.log_mel.shape[1] // 2, int(self._options.whole_pass_enough_s / POSITION_S)
        growth = self._options.whole_pass_growth
        return cached.n > 0 and is_outgrown(n_positions, cached.n_whole, growth, n_enough)

    def forget(self, session: str) -> None:
        """Release the cached window of a session that is over."""
        self._windows.release(session)

    def check_integrity(self) -> None:
        """Check the cached windows; raises RuntimeError as `WindowCache.check_integrity`."""
        self._windows.check_integrity()

    def encode(self, batch: Sequence[StepRequest], slots: Sequence[int]) -> list[SettledWindow]:
        """
        Encode the window of each request into the slot at the same index.

        Returns:
            The windows of which more is settled now; `keep` caches them once the step has succeeded.
        """
        if self._silence is None:
            self._encode_full(batch, slots)
            return []
        return self._encode_new(batch, slots, self._silence)

    def keep(self, settled: Sequence[SettledWindow]) -> None:
        """Cache windows from `encode`, in place of the sessions' last ones."""
        for window in settled:
            self._windows.keep(window.request.session, window.request.window, window.keys_values)

    def _encode_full(self, batch: Sequence[StepRequest], slots: Sequence[int]) -> None:
        """Encode full windows: the reference."""
        windows = self._scaled([self._window(r.log_mel, 0, self._model.dims.n_frames) for r in batch])
        features = self._model.embed_audio(torch.stack(windows))  # (batch, n_audio_ctx, n_audio_state)
        audio = self._model.decoder.audio_keys_values(features)  # (2, batch, n_text_layer, n_text_head, n, d_head)
        for row, slot in enumerate(slots):
            self._cache.set_audio(slot, audio[:, row])

    def _encode_new(
        self, batch: Sequence[StepRequest], slots: Sequence[int], silence: SilenceCache
    ) -> list[SettledWindow]:
        """Encode short windows, each from its first position that is not settled."""
        settled = [self._reused(request) for request in batch]
        windows = [
            self._window(r.log_mel, _first_frame(old.n), 2 * self._positions(r.log_mel.shape[1]))
            for r, old in zip(batch, settled, strict=True)
        ]
        past = [old.encoder.keys_values for old in settled]
        encoded = self._model.encoder.extend(self._scaled(windows), past, silence, row_by_row=self._cache.row_by_row)
        counts = [new.features.shape[0] for new in encoded]
        features = torch.cat([new.features for new in encoded])[None]  # (1, n, n_audio_state), of all windows
        # each (2, n_text_layer, n_text_head, n of the window, d_head)
        audio = self._model.decoder.audio_keys_values(features)[:, 0].split(counts, dim=3)
        for slot, old, new_audio in zip(slots, settled, audio, strict=True):
            self._cache.set_audio(slot, old.audio.keys_values, new_audio)
        more = [self._settled(*each) for each in zip(batch, settled, encoded, audio, strict=True)]
        return [window for window in more if window]

    def _reused(self, request: StepRequest) -> AudioKV:
        """What is settled of the request's window and still valid; without positions for a window to encode whole."""
        if self.is_outgrown(request):
            return self._no_window
        return self._windows.of(request.session, request.window)

    def _settled(self, request: StepRequest, old: AudioKV, new: EncodedAudio, audio: Tensor) -> SettledWindow | None:
        """The window with the new positions at least `settle_s` before the live edge; None if there are none."""
        if request.window_start is None or self._options.settle_s is None:
            return None
        n_positions = request.log_mel.shape[1] // 2
        edge = n_positions - int(self._options.settle_s / POSITION_S)
        n = edge // self._options.bucket * self._options.bucket - old.n
        if n <= 0:
            return None
        grown = old.followed_by(new, audio, n)
        return SettledWindow(request, grown if old.n else replace(grown, n_whole=n_positions))

    def _positions(self, n_frames: int) -> int:
        """Audio positions of a window with its margin, in whole buckets."""
        n = self._options.in_buckets(-(-(n_frames + self._options.margin_frames) // 2))
        return min(n, self._cache.audio_capacity)

    def _window(self, log_mel: Tensor, first: int, end: int) -> Tensor:
        """Frames `first` to `end` of a window, padded with silence, (n_mels, end - first)."""
        held = log_mel[:, first:end]
        return F.pad(held, (0, end - first - held.shape[1]), value=self._options.mel_maximum - mel.DYNAMIC_RANGE)

    def _scaled(self, windows: Sequence[Tensor]) -> list[Tensor]:
        """Windows scaled for the network, in its dtype on its device: one copy and one kernel for all of them."""
        lengths = [window.shape[1] for window in windows]
        moved = torch.cat([*windows], dim=1).to(self._model.device)  # (n_mels, n_frames of all windows)
        return list(mel.scale(moved, self._options.mel_maximum).to(self._model.dtype).split(lengths, dim=1))

    def _empty_window(self) -> AudioKV:
        dims, like = self._model.dims, self._model.encoder.positions
        d_head = dims.n_audio_state // dims.n_audio_head
        encoder = like.new_empty(2, dims.n_audio_layer, dims.n_audio_head, 0, d_head)
        audio = like.new_empty(2, dims.n_text_layer, dims.n_text_head, 0, dims.d_head)
        return AudioKV(KVSpan(encoder, 0), KVSpan(audio, 0), n_whole=0)


def _first_frame(n_settled: int) -> int:
    """First frame to read behind so many settled positions of two frames each: the stem reads some that are settled."""
    return 2 * n_settled - STEM_CONTEXT if n_settled else 0
