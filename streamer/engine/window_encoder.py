"""
Encode windows into the decoder's cross-attention cache, reusing keys and values that no longer change.

Audio more than `settle_s` before the live edge is settled: it is not encoded again, its keys and values are cached for
each window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        self._windows = WindowCache(self._no_window(), options.max_remembered, most_bytes)

    @property
    def n_bytes(self) -> int:
        """Bytes cached for all windows, and for the silence behind them."""
        return self._windows.n_bytes + (self._silence.n_bytes if self._silence else 0)

    def n_settled(self, request: StepRequest) -> int:
        """Settled positions of the request's window, which are not encoded again."""
        return self._windows.of(request.session, request.window).n

    def first_frame(self, request: StepRequest) -> int:
        """First frame of the request's window that is read: those before it are settled."""
        return _first_frame(self.n_settled(request))

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
        settled = [self._windows.of(r.session, r.window) for r in batch]
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

    def _settled(self, request: StepRequest, old: AudioKV, new: EncodedAudio, audio: Tensor) -> SettledWindow | None:
        """The window with the new positions at least `settle_s` before the live edge; None if there are none."""
        if request.window_start is None or self._options.settle_s is None:
            return None
        edge = request.log_mel.shape[1] // 2 - int(self._options.settle_s / POSITION_S)
        n = edge // self._options.bucket * self._options.bucket - old.n
        return SettledWindow(request, old.followed_by(new, audio, n)) if n > 0 else None

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

    def _no_window(self) -> AudioKV:
        dims, like = self._model.dims, self._model.encoder.positions
        d_head = dims.n_audio_state // dims.n_audio_head
        encoder = like.new_empty(2, dims.n_audio_layer, dims.n_audio_head, 0, d_head)
        audio = like.new_empty(2, dims.n_text_layer, dims.n_text_head, 0, dims.d_head)
        return AudioKV(KVSpan(encoder, 0), KVSpan(audio, 0))


def _first_frame(n_settled: int) -> int:
    """First frame to read behind so many settled positions of two frames each: the stem reads some that are settled."""
    return 2 * n_settled - STEM_CONTEXT if n_settled else 0
