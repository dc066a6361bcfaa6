"""What a GPU computes is what the CPU computes; skipped where there is none."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from model import CapturedDecoder, KVCache, Whisper
from streamer.audio.frontend import FeatureState, FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.engine.engine import WhisperEngine
from streamer.engine.loading import load_model
from streamer.step import StepRequest, StepResult
from tests.helpers.engines import engine_on, log_mel, request
from tests.helpers.networks import SMALL
from tests.helpers.random_weights import random_tensors
from tests.helpers.recordings import Recording

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

ENGLISH = ("dev-jfk", "dev-sns-0870", "dev-cv-22058266", "dev-LJ002-0020", "dev-ls-1089-134686-0000")


@functools.cache
def engine(device: str, dtype: torch.dtype, name: str = "tiny.en") -> WhisperEngine:
    """On published weights."""
    return engine_on(load_model(name, dtype, torch.device(device)), max_batch=8, max_window_s=18.0)


def growing(recordings: dict[str, Recording]) -> Iterator[list[StepRequest]]:
    """Batches of windows that grow by about a second a step, each recording at its own pace; nothing is guessed."""
    mels = {id_: log_mel(recordings[id_]) for id_ in ENGLISH}
    for step in range(1, 12):
        lengths = {id_: min(step * (70 + 15 * place), mels[id_].shape[1]) for place, id_ in enumerate(ENGLISH)}
        yield [request(mels[id_][:, :n], id_, window_start=0) for id_, n in lengths.items()]


def drafted(asked: Sequence[StepRequest], earlier: Sequence[StepResult]) -> list[StepRequest]:
    """With the last results as guesses, as a session asks."""
    return [replace(each, draft=last.tokens) for each, last in zip(asked, earlier, strict=True)]


def test_a_graph_is_the_ordinary_pass() -> None:
    """Logits and queries, token after token, for changing sets of slots, and for texts beyond one graph's bound."""
    with torch.inference_mode():
        model = Whisper.from_tensors(SMALL, random_tensors(SMALL), device="cuda")
        caches: list[KVCache] = []
        for _ in range(2):
            silence = model.encoder.encode_silence(-0.5)
            caches.append(model.new_cache(n_slots=5, audio_capacity=9, tail=model.silence_tail(silence, 3)))
            for slot in range(5):
                generator = torch.Generator().manual_seed(slot)
                features = torch.randn(1, 2 * slot + 1, SMALL.n_audio_state, generator=generator).cuda()
                caches[-1].set_audio(slot, model.decoder.audio_keys_values(features)[:, 0])
        captured = CapturedDecoder(model.decoder, caches[0])
        for turn, slots in enumerate(([0], [0, 1, 2], [3, 1], [0, 1, 2, 3, 4], [4, 2], [0, 1, 2, 3, 4]) * 2):
            tokens = [(7 * turn + slot) % SMALL.n_vocab for slot in slots]

            logits, queries = captured(slots, tokens)

            plan = caches[1].plan_append(slots, [1] * len(slots))
            output = model.decoder(torch.tensor(tokens).cuda(), caches[1], plan)
            assert_close(logits, model.decoder.project(output.hidden), rtol=1e-4, atol=1e-4)
            assert_close(queries, output.queries, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_steps_are_those_of_the_cpu(recordings: dict[str, Recording], name: str) -> None:
    """In float32, over windows that grow, with what both remember: every token, its probability, its time."""
    cpu, gpu = (engine(device, torch.float32, name) for device in ("cpu", "cuda"))
    earlier: list[StepResult] | None = None
    for asked in growing(recordings):
        batch = drafted(asked, earlier) if earlier else asked

        expected, found = cpu.step(batch), gpu.step(batch)

        for one, other in zip(expected, found, strict=True):
            assert other.tokens == one.tokens
            assert (other.ended, other.n_verified) == (one.ended, one.n_verified)
            assert_close(torch.tensor(other.logprobs), torch.tensor(one.logprobs), rtol=0, atol=1e-2)
            assert_close(torch.tensor(other.starts_s), torch.tensor(one.starts_s), rtol=0, atol=0.05)
        earlier = expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_half_precision_hears_the_same_words(recordings: dict[str, Recording], dtype: torch.dtype, name: str) -> None:
    """Whole recordings: the text of float32 on the CPU, but for one token in fifty at most."""
    batch = [request(log_mel(recordings[id_])[:, :1700], id_) for id_ in ENGLISH]

    expected = engine("cpu", torch.float32, name).step(batch)
    found = engine("cuda", dtype, name).step(batch)

    pairs = [(one.tokens, other.tokens) for one, other in zip(expected, found, strict=True)]
    n_tokens = sum(len(tokens) for tokens, _ in pairs)
    assert sum(a != b for one, other in pairs for a, b in zip(one, other, strict=False)) <= n_tokens / 50


def test_rows_of_a_batch_are_those_alone(recordings: dict[str, Recording]) -> None:
    """Nobody's text depends on who else speaks."""
    gpu = engine("cuda", torch.float32)
    batch = [request(log_mel(recordings[id_])[:, : 300 + 250 * place], id_) for place, id_ in enumerate(ENGLISH)]

    together = gpu.step(batch)

    assert [row.tokens for row in together] == [gpu.step([each])[0].tokens for each in batch]


def test_the_front_end_hears_the_same(recordings: dict[str, Recording]) -> None:
    """Mel frames and voice probabilities of streams that send blocks of different lengths."""
    heard = []
    for device in ("cpu", "cuda"):
        front_end = FrontEnd(MelSpectrogram(80, device), VoiceDetector(read_weights(), device))
        states = [FeatureState() for _ in ENGLISH]
        samples = [torch.from_numpy(recordings[id_].samples) for id_ in ENGLISH]
        blocks = [[each[i * n : (i + 1) * n] for each, n in zip(samples, (900, 1600, 3000, 512, 4000), strict=True)]
                  for i in range(12)]  # fmt: skip
        heard.append([front_end.extract(states, block) for block in blocks])

    for one, other in zip(*heard, strict=True):
        for a, b in zip(one, other, strict=True):
            assert_close(b.frames, a.frames, rtol=1e-3, atol=1e-3)
            assert b.probabilities == pytest.approx(a.probabilities, abs=1e-3)
