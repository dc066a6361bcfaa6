"""
Difference of the logits from those of the published implementation, for each model and dtype.

    python -m benchmarks.logit_difference

The reference is the published `whisper` package in float32, with the same weights, on the recordings of tests/data. It
decodes every recording greedily, and both networks are then given its tokens. The last two columns are the difference
of the published implementation in that dtype from itself in float32.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile
import torch
import whisper
import whisper.model
from torch import Tensor

from benchmarks.arguments import program
from model import Whisper
from streamer.weights import Checkpoint, load, resolve

DATA = Path(__file__).parent.parent / "tests" / "data"
NAMES = ("tiny.en", "base")
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Reference:
    """One recording as the published implementation decodes it in float32."""

    mel: Tensor
    """(1, n_mels, 3000)"""
    tokens: Tensor
    """Start sequence, greedy text, end: (1, n)."""
    logits: Tensor
    """(1, n, n_vocab)"""


@dataclass(frozen=True, slots=True)
class Difference:
    """Absolute difference of logits over all positions of all recordings."""

    largest: float
    mean: float
    same_token: float
    """Part of the positions at which the most probable token is the same."""


def published_network(checkpoint: Checkpoint) -> whisper.model.Whisper:
    """The published network with the weights of a checkpoint, in float32."""
    network = whisper.model.Whisper(whisper.model.ModelDimensions(**asdict(checkpoint.dims)))
    network.load_state_dict(checkpoint.tensors)
    return network.eval().requires_grad_(False)


def references(network: whisper.model.Whisper) -> Iterator[Reference]:
    """The recordings of tests/data, decoded by the published network."""
    for line in (DATA / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        samples, _ = soundfile.read(DATA / row["file"], dtype="float32")
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(torch.from_numpy(samples)))
        language = row["language"] if network.is_multilingual else "en"
        options = whisper.DecodingOptions(language=language, without_timestamps=True, fp16=False)
        tokenizer = whisper.tokenizer.get_tokenizer(network.is_multilingual, language=language)
        text = whisper.decode(network, mel, options).tokens
        start = tokenizer.sot_sequence_including_notimestamps
        tokens = torch.tensor([[*start, *text, tokenizer.eot]])
        yield Reference(mel[None], tokens, network(mel[None], tokens))


def difference(logits: list[Tensor], expected: list[Tensor]) -> Difference:
    """Compare lists of (1, n, n_vocab)."""
    found, wanted = torch.cat(logits, dim=1), torch.cat(expected, dim=1)
    apart = (found - wanted).abs()
    same = (found.argmax(dim=-1) == wanted.argmax(dim=-1)).double().mean()
    return Difference(float(apart.max()), float(apart.mean()), float(same))


def rows(name: str) -> Iterator[str]:
    """The rows of one model."""
    checkpoint = load(resolve(name))
    published = published_network(checkpoint)
    heard = list(references(published))
    expected = [one.logits for one in heard]
    n_tokens = sum(one.tokens.shape[1] for one in heard)
    for dtype in DTYPES:
        network = Whisper.from_tensors(checkpoint.dims, checkpoint.tensors, dtype=dtype)
        ours = difference([network(one.mel, one.tokens) for one in heard], expected)
        theirs = difference([published(one.mel.to(dtype), one.tokens) for one in heard], expected)
        yield (
            f"| {name} | {str(dtype).removeprefix('torch.')} | {len(heard)} | {n_tokens} "
            f"| {ours.largest:.2g} | {ours.mean:.2g} | {ours.same_token:.1%} "
            f"| {theirs.largest:.2g} | {theirs.mean:.2g} |"
        )


def main() -> None:
    """Print the table."""
    # the published package leaves its vocabulary file to the garbage collector
    warnings.simplefilter("ignore", ResourceWarning)
    print("| model | dtype | recordings | tokens | max | mean | same token | published max | published mean |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for name in NAMES:
        for row in rows(name):
            print(row, flush=True)


if __name__ == "__main__":
    program(main)
