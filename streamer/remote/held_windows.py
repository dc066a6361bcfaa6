"""The mel frames that an engine process was sent: the next step of a session carries only new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamer.engine.window_cache import WindowCache
from streamer.remote import wire
from streamer.step import StepRequest

MOST_SESSIONS = 4096
MOST_BYTES = 2**29
"""Of all windows, of which one of 18 s takes 288 kB with 80 bands; the one that was sent longest ago goes first."""


@dataclass(frozen=True, slots=True)
class HeldWindow:
    """Frames of one window, from its beginning."""

    log_mel: Tensor
    """(n_mels, n), float16."""

    @property
    def n_bytes(self) -> int:
        """Bytes held in memory."""
        return self.log_mel.nbytes

    def check_integrity(self) -> None:
        """There is nothing that could differ."""


class HeldWindows:
    """
    One window of each session of the gateways.

    Args:
        n_mels: Mel bands of the model.
    """

    def __init__(self, n_mels: int) -> None:
        self._n_mels = n_mels
        self._windows = WindowCache(HeldWindow(torch.empty(n_mels, 0, dtype=torch.float16)), MOST_SESSIONS, MOST_BYTES)

    def whole(self, row: wire.Row) -> StepRequest | None:
        """
        The request of a row with its whole window; None where frames that were left out are not held.

        Args:
            row: As received. Calls may come late or twice: what is held of a window only grows.

        Raises:
            WireError: The frames sent are not those that the row announces.
        """
        session, window = row.request.session, row.request.window
        held = self._windows.of(session, window).log_mel
        if row.first > held.shape[1]:
            return None
        request = wire.request_of(row, self._n_mels, held)
        if window is not None and row.n_frames >= held.shape[1]:
            self._windows.keep(session, window, HeldWindow(request.log_mel.half()))
        return request

    def forget(self, sessions: Sequence[str]) -> None:
        """Release the windows of sessions that are over."""
        for session in sessions:
            self._windows.release(session)
