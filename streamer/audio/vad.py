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
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from streamer.errors import ModelNotFoundError
from streamer.extras import install_command

FRAME_SAMPLES = 512
"""Samples of a voice frame: 32 ms at 16 kHz."""
CONTEXT_SAMPLES = 64
"""Samples of the previous frame that are part of the input."""
STATE_SIZE = 128
SILENT = 0.1
"""Probability of voice below which a frame is surely silent."""
FORGET_AFTER = 32
"""Silent frames in a row after which the recurrent cell starts afresh: one second."""
PIECE_FRAMES = 512
"""Frames whose features are computed together: what lies between takes 14 kB a frame."""


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
    raise ModelNotFoundError(f"no voice activity weights: {install_command('silero-vad>=6.2')}")


class VoiceState:
    """
    Recurrent state of one session: last samples, hidden and cell state of the LSTM, and silent frames in a row.

    The cell starts afresh after `FORGET_AFTER` silent frames: a cell that has heard a loud voice takes a voice that is
    40 dB quieter for silence, up to ten seconds long, and its words would be lost.
    """

    def __init__(self) -> None:
        self.context = torch.zeros(CONTEXT_SAMPLES)
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget everything but the last samples."""
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
        self._cells = nn.LSTM(STATE_SIZE, STATE_SIZE, device=device).requires_grad_(False)
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._cells.load_state_dict({f"{part}_l0": weights[f"decoder.rnn.{part}"] for part in parts})
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
        features = torch.cat([self._features(piece.to(self._device)) for piece in inputs.split(PIECE_FRAMES)])
        probabilities = self._judge(features, counts, [states[i] for i in order])
        found: list[list[float]] = [[] for _ in frames]
        for step in range(counts[0]):
            for i, count in zip(order, counts, strict=True):
                if count > step:
                    found[i].append(next(probabilities))
        return found

    def _judge(self, features: Tensor, counts: list[int], states: list[VoiceState]) -> Iterator[float]:
        """
        Run the recurrent cell; probabilities of the first frame of every session, then of the second, and so on.

        Frames run together up to the next one at which a cell may start afresh.
        """
        firsts = [*itertools.accumulate(counts[:-1], initial=0)]
        done, found = 0, list[float]()
        while done < counts[0]:
            active = [state for state, count in zip(states, counts, strict=True) if count > done]
            n_steps = FORGET_AFTER - max(state.n_silent for state in active)
            lengths = [min(count - done, n_steps) for count in counts[: len(active)]]
            sizes = [sum(length > step for length in lengths) for step in range(lengths[0])]
            rows = [firsts[i] + done + step for step, n in enumerate(sizes) for i in range(n)]
            found += self._run(features[rows], sizes, active)
            done += n_steps
        return iter(found)

    def _run(self, features: Tensor, sizes: list[int], states: list[VoiceState]) -> list[float]:
        """
        Run the cell over some frames of several sessions, no cell of which starts afresh before its last frame.

        Args:
            features: (n_frames, 128), the first frame of every session, then the second of those that have one.
            sizes: Sessions that have a first frame, a second frame, and so on.
            states: Of the sessions, those with the most frames first; updated.
        """
        hidden, cell = (torch.stack([getattr(state, name) for state in states]) for name in ("hidden", "cell"))
        before = hidden[None].to(self._device), cell[None].to(self._device)  # each (1, n_sessions, 128)
        outputs, after = self._cells(PackedSequence(features, torch.tensor(sizes)), before)
        found: list[float] = torch.sigmoid(F.linear(outputs.data.relu(), *self._out))[:, 0].tolist()
        probabilities = iter(found)
        for n in sizes:
            for state in states[:n]:
                state.n_silent = state.n_silent + 1 if next(probabilities) < SILENT else 0
        for state, *each in zip(states, *(part[0].cpu() for part in after), strict=True):
            state.hidden, state.cell = each
            if state.n_silent == FORGET_AFTER:
                state.start_afresh()
        return found

    def _features(self, x: Tensor) -> Tensor:
        """(n, 576) samples -> (n, 128)."""
        x = F.pad(x, (0, 64), mode="reflect").unfold(-1, 256, 128)  # (n, 4, 256)
        # flat: torch would copy the basis for each of the n frames
        real, imaginary = (x.reshape(-1, 256) @ self._basis).view(len(x), 4, -1).chunk(2, dim=-1)
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
