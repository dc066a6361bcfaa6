"""
Log-mel frames of a stream: each frame is computed once, and the result does not depend on the chunking.

Frames hold unclamped log10 mel power. `scale` clamps them at a floor and brings them into the network's range when a
window is gathered, so a change of floor needs no new frames.

Source: openai/whisper audio.py (25 ms Hann windows every 10 ms, centred; Slaney mel scale; `(x + 4) / 4`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from streamer.audio.pcm import SAMPLE_RATE

N_FFT = 400
HOP_LENGTH = 160
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH
FRAME_S = 1 / FRAMES_PER_SECOND
"""Time from one mel frame to the next, seconds."""
DYNAMIC_RANGE = 8.0
"""Decades of power below the maximum at which the published front end clamps."""
FIXED_MAXIMUM = 1.5
"""log10 power taken as the maximum of every window, so that silence has the same value in all windows."""
QUIET = -1.0
"""log10 mel power that the loudest entry of a window reaches in ordinary speech, with peaks from -40 dBFS."""
GAIN_STEP = 1.0
"""log10 power: 10 dB."""
MAX_GAIN = 4.0
"""log10 power: 40 dB. More would raise 16-bit quantisation noise to the level of speech."""
PIECE_FRAMES = 1024
"""Frames that are computed together: what lies between samples and mel bands takes 6 kB a frame."""


def mel_filters(n_mels: int) -> Tensor:
    """Triangular filters on the Slaney mel scale with Slaney's area normalisation, (n_mels, n_fft // 2 + 1)."""
    edges = _mel_to_hertz(torch.linspace(0.0, _hertz_to_mel(SAMPLE_RATE / 2), n_mels + 2, dtype=torch.float64))
    bins = torch.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)
    distance = edges[:, None] - bins[None, :]
    width = edges.diff()[:, None]
    rising, falling = -distance[:-2] / width[:-1], distance[2:] / width[1:]
    triangles = torch.minimum(rising, falling).clamp_min(0.0)
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).float()


def _hertz_to_mel(hertz: float) -> float:
    """Slaney mel scale above 1000 Hz, where it is logarithmic."""
    return 15.0 + math.log(hertz / 1000.0) * 27.0 / math.log(6.4)


def _mel_to_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * torch.exp((mel - 15.0) * math.log(6.4) / 27.0))


def window_gain(loudest: float) -> float:
    """
    Gain of a window whose loudest entry is `loudest`, both log10 mel power.

    The floor is the same for every window, so that all share one cached silence; quiet speech would fall below it. The
    gain has few large steps, since a window with a new gain is encoded from its beginning. Ordinary speech gets none,
    and sound far below the level of speech gets at most `MAX_GAIN`.
    """
    return min(max(0.0, math.ceil((QUIET - loudest) / GAIN_STEP) * GAIN_STEP), MAX_GAIN)


def scale(log_mel: Tensor, maximum: float = FIXED_MAXIMUM) -> Tensor:
    """Clamp log10 mel power at `maximum - 8` and bring it into the network's range; same shape."""
    return (log_mel.clamp_min(maximum - DYNAMIC_RANGE) + 4.0) / 4.0


def silence_value(maximum: float = FIXED_MAXIMUM) -> float:
    """Value of silence after `scale` with this maximum."""
    return (maximum - DYNAMIC_RANGE + 4.0) / 4.0


class MelSpectrogram:
    """
    Frames of samples -> log10 mel power.

    Args:
        n_mels: Bands.
        device: Where to compute; input and output are on the CPU.
    """

    def __init__(self, n_mels: int, device: torch.device | str = "cpu") -> None:
        self.n_mels = n_mels
        self._filters = mel_filters(n_mels).T.contiguous().to(device)
        self._hann = torch.hann_window(N_FFT).to(device)

    def __call__(self, frames: Tensor) -> Tensor:
        """(n, n_fft) samples -> (n, n_mels) log10 power, floored at 1e-10."""
        return torch.cat([self._log_mel(piece) for piece in frames.split(PIECE_FRAMES)])

    def _log_mel(self, frames: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(frames.to(self._hann.device) * self._hann)
        power = spectrum.real.square() + spectrum.imag.square()
        log_mel: Tensor = (power @ self._filters).clamp_min(1e-10).log10().cpu()
        return log_mel

    def whole(self, samples: Tensor) -> Tensor:
        """Frames of a whole recording (n,), followed by silence: (n_mels, n // hop_length)."""
        stream = FrameStream()
        frames = [*stream.push(samples), *stream.push(torch.zeros(N_FFT))]
        return self(torch.cat(frames))[: samples.shape[0] // HOP_LENGTH].T


class FrameStream:
    """
    Cuts the samples of one session into overlapping frames.

    Frame i is centred on sample i * hop_length, so it begins 200 samples earlier. Before its first sample the recording
    is mirrored, as in the published front end.
    """

    def __init__(self) -> None:
        self._pending = torch.empty(0)
        self._begun = False

    def push(self, samples: Tensor) -> Sequence[Tensor]:
        """(n,) float32 samples -> the frames they complete: none, or one tensor (n_frames, n_fft)."""
        pending = torch.cat([self._pending, samples])
        half = N_FFT // 2
        if not self._begun:
            if pending.shape[0] <= half:
                self._pending = pending
                return ()
            pending = F.pad(pending[None], (half, 0), mode="reflect")[0]
            self._begun = True
        if pending.shape[0] < N_FFT:
            self._pending = pending
            return ()
        frames = pending.unfold(0, N_FFT, HOP_LENGTH)
        # a copy: a view would keep the memory of every earlier block
        self._pending = pending[frames.shape[0] * HOP_LENGTH :].clone()
        return (frames,)


class MelWindow:
    """
    Ring of one session's newest log-mel frames, addressed by frame number since the session began.

    Args:
        n_mels: Bands.
        capacity: Frames kept; appending more drops the oldest and moves `start`.
    """

    def __init__(self, n_mels: int, capacity: int) -> None:
        self._frames = torch.empty(2 * capacity, n_mels)
        self._capacity = capacity
        self._low = self._high = 0  # filled part of _frames
        self.start = 0
        """First frame still held."""

    @property
    def end(self) -> int:
        """One past the newest frame."""
        return self.start + self._high - self._low

    def append(self, frames: Tensor) -> None:
        """Add (n, n_mels) frames at the end."""
        surplus = frames.shape[0] - self._capacity
        if surplus > 0:
            self.forget(self.end)
            self.start += surplus
            frames = frames[surplus:]
        n = frames.shape[0]
        if self._high + n > self._frames.shape[0]:
            kept = self._frames[self._low : self._high].clone()
            self._low, self._high = 0, kept.shape[0]
            self._frames[: self._high] = kept
        self._frames[self._high : self._high + n] = frames
        self._high += n
        self.forget(self.end - self._capacity)

    def forget(self, before: int) -> None:
        """Drop every frame before number `before`."""
        dropped = min(max(0, before - self.start), self._high - self._low)
        self._low += dropped
        self.start += dropped

    def gather(self, start: int, end: int) -> Tensor:
        """
        Copy frames [start, end), (n_mels, end - start).

        Raises:
            ValueError: The range is empty, or a frame of it is not held.
        """
        if not self.start <= start < end <= self.end:
            raise ValueError(f"frames {start} to {end}: held are {self.start} to {self.end}")
        offset = self._low - self.start
        return self._frames[start + offset : end + offset].T.contiguous()
