"""
Voice activity: Silero's network, batched over sessions, as a plain function of its weights.

The weights are read from the file in the `silero-vad` wheel by path; importing that package would set torch to
one thread for the whole process.

Source: snakers4/silero-vad v6 (MIT), 16 kHz model: magnitude spectrum, four convolutions, one LSTM cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from streamer.errors import ModelNotFoundError

FRAME_SAMPLES = 512
"""Samples judged at once: 32 ms at 16 kHz."""
CONTEXT_SAMPLES = 64
"""Samples of the frame before, seen again."""
STATE_SIZE = 128


def read_weights() -> dict[str, Tensor]:
    """
    The 16 kHz network's tensors from the installed `silero-vad` package.

    Raises:
        ModelNotFoundError: The package is not installed or carries no such file.
    """
    path = _installed_file()
    module = torch.jit.load(str(path), map_location="cpu")
    prefix = "_model."
    return {name.removeprefix(prefix): t for name, t in module.state_dict().items() if name.startswith(prefix)}


def _installed_file() -> Path:
    try:
        files = metadata.files("silero-vad") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "silero_vad.jit":
            return Path(str(file.locate()))
    raise ModelNotFoundError("no voice activity weights: pip install 'silero-vad>=6.2'")


class VoiceState:
    """What the network remembers of one session."""

    def __init__(self) -> None:
        self.context = torch.zeros(CONTEXT_SAMPLES)
        self.hidden = torch.zeros(STATE_SIZE)
        self.cell = torch.zeros(STATE_SIZE)


class VoiceDetector:
    """Frames of 512 samples -> probability of voice."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        basis = weights["stft.forward_basis_buffer"][:, 0]  # (2 * 129, 256): real parts, then imaginary parts
        self._basis = basis.T.contiguous()
        names = [f"encoder.{i}.reparam_conv" for i in range(4)]
        # as products over three frames: a convolution would be compiled for each number of frames
        self._convolutions = [(weights[f"{n}.weight"].flatten(1), weights[f"{n}.bias"]) for n in names]
        self._lstm = tuple(weights[f"decoder.rnn.{n}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        self._out = weights["decoder.decoder.2.weight"][:, :, 0], weights["decoder.decoder.2.bias"]

    def __call__(self, frames: list[Tensor], states: list[VoiceState]) -> list[list[float]]:
        """
        Judge the new frames of several sessions.

        Args:
            frames: For each session (n, 512) samples, n >= 1.
            states: For each session its state, moved on by this call.

        Returns:
            For each session the probability of voice in each frame.
        """
        counts = [f.shape[0] for f in frames]
        inputs = torch.cat([_with_context(f, s) for f, s in zip(frames, states, strict=True)])
        features = self._features(inputs).split(counts)
        found: list[list[float]] = [[] for _ in frames]
        for step in range(max(counts)):
            rows = [i for i, count in enumerate(counts) if count > step]
            hidden, cell = self._remember(torch.stack([features[i][step] for i in rows]), [states[i] for i in rows])
            probabilities = torch.sigmoid(F.linear(hidden.relu(), *self._out))[:, 0].tolist()
            for i, h, c, probability in zip(rows, hidden, cell, probabilities, strict=True):
                states[i].hidden, states[i].cell = h, c
                found[i].append(probability)
        return found

    def _features(self, x: Tensor) -> Tensor:
        """(n, 576) samples -> (n, 128)."""
        x = F.pad(x, (0, 64), mode="reflect").unfold(-1, 256, 128)  # (n, 4, 256)
        real, imaginary = (x @ self._basis).chunk(2, dim=-1)
        x = (real.square() + imaginary.square()).sqrt()  # (n, 4, 129)
        for (weight, bias), stride in zip(self._convolutions, (1, 2, 2, 1), strict=True):
            threes = F.pad(x, (0, 0, 1, 1)).unfold(1, 3, stride).flatten(2)
            x = F.linear(threes, weight, bias).relu()
        return x[:, 0]

    def _remember(self, x: Tensor, states: list[VoiceState]) -> tuple[Tensor, Tensor]:
        hidden, cell = torch.stack([s.hidden for s in states]), torch.stack([s.cell for s in states])
        return torch.lstm_cell(x, (hidden, cell), *self._lstm)


def _with_context(frames: Tensor, state: VoiceState) -> Tensor:
    """(n, 512) -> (n, 576): each frame with the last 64 samples before it; the state keeps the newest."""
    before = torch.cat([state.context[None], frames[:-1, -CONTEXT_SAMPLES:]])
    state.context = frames[-1, -CONTEXT_SAMPLES:].clone()
    return torch.cat([before, frames], dim=1)
