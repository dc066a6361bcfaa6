"""
Voice activity detection: Silero's network as a pure function of weights and state, batched over sessions.

The weights are read by path from the installed `silero-vad` wheel; importing that package would set torch to one thread
for the whole process.

Source: snakers4/silero-vad v6 (MIT), 16 kHz model: magnitude spectrum, four convolutions, one LSTM cell.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from streamer.errors import ModelNotFoundError

FRAME_SAMPLES = 512
"""Samples of a voice frame: 32 ms at 16 kHz."""
CONTEXT_SAMPLES = 64
"""Samples of the previous frame that are part of the input."""
STATE_SIZE = 128
SILENT = 0.1
"""Probability of voice below which a frame is surely silent."""
FORGET_AFTER = 32
"""Silent frames in a row after which the recurrent cell starts afresh: one second."""


def read_weights() -> dict[str, Tensor]:
    """
    The 16 kHz network's tensors from the installed `silero-vad` package: each name with the shape of its layer.

    Raises:
        ModelNotFoundError: The package is not installed, or the file is not part of it.
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
    """
    Recurrent state of one session: last samples, hidden and cell state of the LSTM, and silent frames in a row.

    The cell starts afresh after `FORGET_AFTER` silent frames: a cell that has heard a loud voice takes a voice that is
    40 dB quieter for silence, up to ten seconds long, and its words would be lost.
    """

    def __init__(self) -> None:
        self.context = torch.zeros(CONTEXT_SAMPLES)
        self.hidden = torch.zeros(STATE_SIZE)
        self.cell = torch.zeros(STATE_SIZE)
        self.n_silent = 0
        """Silent frames since the cell last heard voice or started afresh."""


class VoiceDetector:
    """
    Frames of 512 samples -> probability of voice.

    Args:
        weights: From `read_weights`, each with the shape of its layer.
        device: Where to compute; input, output and states are on the CPU.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        weights = {name: tensor.to(device) for name, tensor in weights.items()}
        basis = weights["stft.forward_basis_buffer"][:, 0]  # (2 * 129, 256): real parts, then imaginary parts
        self._basis = basis.T.contiguous()
        names = [f"encoder.{i}.reparam_conv" for i in range(4)]
        # as products over three frames: a convolution would be compiled for each number of frames
        self._convolutions = [(weights[f"{n}.weight"].flatten(1), weights[f"{n}.bias"]) for n in names]
        self._lstm = tuple(weights[f"decoder.rnn.{n}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        self._out = weights["decoder.decoder.2.weight"][:, :, 0], weights["decoder.decoder.2.bias"]

    def __call__(self, frames: list[Tensor], states: list[VoiceState]) -> list[list[float]]:
        """
        Probability of voice in the new frames of several sessions.

        Args:
            frames: New frames of each session, (n, 512), n >= 1.
            states: State of each session; updated by this call.

        Returns:
            For each session the probability of each frame.
        """
        # sessions with the most frames first: at each step the sessions that still have one are the leading rows
        order = sorted(range(len(frames)), key=lambda i: -frames[i].shape[0])
        counts = [frames[i].shape[0] for i in order]
        inputs = torch.cat([_with_context(frames[i], states[i]) for i in order])  # (n_frames of all, 576)
        probabilities = self._judge(self._features(inputs.to(self._device)), counts, [states[i] for i in order])
        found: list[list[float]] = [[] for _ in frames]
        for step in range(counts[0]):
            for i, count in zip(order, counts, strict=True):
                if count > step:
                    found[i].append(next(probabilities))
        return found

    def _judge(self, features: Tensor, counts: list[int], states: list[VoiceState]) -> Iterator[float]:
        """Run the recurrent cell, one frame of every session at a time; probabilities in that order."""
        firsts = torch.tensor([*itertools.accumulate(counts[:-1], initial=0)])
        hidden = torch.stack([state.hidden for state in states]).to(self._device)
        cell = torch.stack([state.cell for state in states]).to(self._device)
        n_silent = torch.tensor([state.n_silent for state in states], device=self._device)
        found = []
        for step in range(counts[0]):
            n = sum(count > step for count in counts)
            x = features[(firsts[:n] + step).to(self._device)]  # (n, 128)
            moved = torch.lstm_cell(x, (hidden[:n], cell[:n]), *self._lstm)
            probabilities = torch.sigmoid(F.linear(moved[0].relu(), *self._out))[:, 0]  # (n,)
            found.append(probabilities)
            silent = probabilities < SILENT
            n_silent[:n] = (n_silent[:n] + 1) % FORGET_AFTER * silent
            keep = ~(silent & (n_silent[:n] == 0))[:, None]  # (n, 1)
            hidden, cell = (torch.cat([new * keep, old[n:]]) for new, old in zip(moved, (hidden, cell), strict=True))
        for state, h, c, silent in zip(states, hidden.cpu(), cell.cpu(), n_silent.tolist(), strict=True):
            state.hidden, state.cell, state.n_silent = h, c, silent
        return iter(torch.cat(found).tolist())

    def _features(self, x: Tensor) -> Tensor:
        """(n, 576) samples -> (n, 128)."""
        x = F.pad(x, (0, 64), mode="reflect").unfold(-1, 256, 128)  # (n, 4, 256)
        real, imaginary = (x @ self._basis).chunk(2, dim=-1)
        x = (real.square() + imaginary.square()).sqrt()  # (n, 4, 129)
        for (weight, bias), stride in zip(self._convolutions, (1, 2, 2, 1), strict=True):
            windows = F.pad(x, (0, 0, 1, 1)).unfold(1, 3, stride).flatten(2)  # (n, n_out, 3 * n_channels)
            x = F.linear(windows, weight, bias).relu()
        return x[:, 0]


def _with_context(frames: Tensor, state: VoiceState) -> Tensor:
    """(n, 512) -> (n, 576): each frame after the 64 samples before it; updates the state's context."""
    before = torch.cat([state.context[None], frames[:-1, -CONTEXT_SAMPLES:]])
    state.context = frames[-1, -CONTEXT_SAMPLES:].clone()
    return torch.cat([before, frames], dim=1)
