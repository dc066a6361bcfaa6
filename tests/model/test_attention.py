"""model/attention.py"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from model import AttentionBackend, Whisper
from model.attention import attend, check_attention, default_attention, has_amx, merge_heads, split_heads
from tests.helpers.networks import SMALL, random_tokens
from tests.helpers.random_weights import random_tensors


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The formula, in float64, heads merged."""
    scores = q.double() @ k.double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = (scores if mask is None else scores + mask).softmax(dim=-1)
    return (weights @ v.double()).transpose(1, 2).flatten(2)


def test_heads_split_and_merge() -> None:
    """Head h of position n is the h-th slice of that position's state, and merging gives it back."""
    x = normal(2, 5, 12)

    heads = split_heads(x, 3)

    assert torch.equal(heads[1, 2, 4], x[1, 4, 8:12])
    assert torch.equal(merge_heads(heads), x)


def test_attend_without_a_mask_sees_every_key() -> None:
    """Equal to the formula; more keys than queries are all visible."""
    q, k, v = normal(2, 3, 4, 8), normal(2, 3, 9, 8, seed=1), normal(2, 3, 9, 8, seed=2)

    assert_close(attend(q, k, v).double(), explicit_attention(q, k, v), rtol=1e-5, atol=1e-5)


def test_attend_ignores_what_the_mask_hides() -> None:
    """A key hidden by minus infinity changes nothing, whatever it holds."""
    q, k, v = normal(2, 3, 4, 8), normal(2, 3, 9, 8, seed=1), normal(2, 3, 9, 8, seed=2)
    hidden = torch.rand(2, 1, 4, 9, generator=torch.Generator().manual_seed(3)) < 0.5
    hidden[..., 0] = False
    hidden[..., 5] = True
    mask = torch.zeros(2, 1, 4, 9).masked_fill(hidden, float("-inf"))
    expected = explicit_attention(q, k, v, mask)
    k[:, :, 5], v[:, :, 5] = 1e4, -1e4

    assert_close(attend(q, k, v, mask).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["fused", "products"])
@pytest.mark.parametrize("masked", [False, True])
def test_attend_in_bfloat16_is_the_formula(masked: bool, backend: AttentionBackend) -> None:
    """As near to it as the inputs and the scores can be written."""
    q, k, v = (normal(2, 3, n, 8, seed=n).bfloat16() for n in (4, 9, 9))
    mask = torch.zeros(2, 1, 1, 9).masked_fill(torch.arange(9) > 5, float("-inf")) if masked else None

    attended = attend(q, k, v, None if mask is None else mask.bfloat16(), backend=backend)

    assert attended.dtype == torch.bfloat16
    assert_close(attended.double(), explicit_attention(q, k, v, mask), rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("backend", ["fused", "products"])
def test_attend_keeps_its_softmax_in_float32(backend: AttentionBackend) -> None:
    """In bfloat16, a thousand equally good keys still share a weight of one."""
    q, k = torch.zeros(1, 1, 1, 8).bfloat16(), normal(1, 1, 1000, 8).bfloat16()
    v = torch.ones(1, 1, 1000, 8).bfloat16()

    result = attend(q, k, v, backend=backend)

    assert result.dtype == torch.bfloat16
    # 1000 weights rounded to bfloat16 one by one sum to 1 within half a step, 2**-8
    assert_close(result.float(), torch.ones(1, 1, 8), rtol=2**-8, atol=0.0)


@pytest.mark.parametrize("backend", ["fused", "products"])
def test_every_back_end_is_the_formula(backend: AttentionBackend) -> None:
    """In float32, with keys that the mask hides."""
    q, k, v = normal(2, 3, 4, 8), normal(2, 3, 9, 8, seed=1), normal(2, 3, 9, 8, seed=2)
    mask = torch.zeros(2, 1, 4, 9).masked_fill(torch.arange(9) > torch.arange(4)[:, None], float("-inf"))

    attended = attend(q, k, v, mask, backend=backend)

    assert_close(attended.double(), explicit_attention(q, k, v, mask), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("d_head", [8, 6])
def test_the_efficient_kernel_is_asked_for_by_name(masked: bool, d_head: int) -> None:
    """On a device that has it: keys and masks of any length, and heads of a width that it cannot read."""
    q, k, v = (torch.empty(2, 3, n, d_head, device="meta") for n in (4, 9, 9))
    mask = torch.empty(2, 1, 1, 9, device="meta") if masked else None

    assert attend(q, k, v, mask, backend="efficient").shape == (2, 4, 3 * d_head)


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("flash", "cpu", "attention back end 'flash' on cpu: expected fused or products"),
        ("", "cuda", "attention back end '' on cuda: expected fused or efficient or products"),
        ("efficient", "cpu", "attention back end 'efficient' on cpu: expected fused or products"),
    ],
)
def test_unknown_back_ends_are_refused(name: str, device: str, message: str) -> None:
    """The message lists what this device has."""
    with pytest.raises(ValueError, match=message):
        check_attention(name, torch.device(device))


@pytest.mark.parametrize("name", ["flash", "efficient"])
def test_a_call_with_an_unknown_back_end_is_refused(name: AttentionBackend) -> None:
    """At the call too, which a layer's attribute reaches unchecked."""
    with pytest.raises(ValueError, match=f"attention back end '{name}' on cpu"):
        attend(normal(1, 1, 2, 8), normal(1, 1, 2, 8), normal(1, 1, 2, 8), backend=name)


def test_the_default_is_the_fastest_of_the_device() -> None:
    """By device and dtype; the matrix tiles of a CPU decide for bfloat16."""
    cpu, cuda = torch.device("cpu"), torch.device("cuda")

    assert default_attention(cpu, torch.float32) == "fused"
    assert default_attention(cpu, torch.bfloat16) == ("fused" if has_amx() else "products")
    assert {default_attention(cuda, dtype) for dtype in (torch.float32, torch.float16)} == {"efficient"}


def test_the_flags_of_the_process_stay_as_they_are() -> None:
    """Neither building a network nor running it chooses a kernel for anybody else."""

    def flags() -> tuple[bool, ...]:
        cuda = torch.backends.cuda
        return cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()

    before = flags()
    seen = []
    model = Whisper.from_tensors(SMALL, random_tensors(SMALL), attention="products")
    model.encoder.blocks[0].feed_forward.register_forward_hook(lambda *_: seen.append(flags()))
    model.decoder.blocks[0].feed_forward.register_forward_hook(lambda *_: seen.append(flags()))
    model(normal(1, SMALL.n_mels, SMALL.n_frames), random_tokens(SMALL, 1, 5))
    attend(*(torch.empty(1, 1, 2, 8, device="meta") for _ in range(3)), backend="efficient")

    assert {before, *seen, flags()} == {before}
    assert seen


class TestSideBySide:
    """Networks and layers of one process with different back ends."""

    MEL = normal(1, SMALL.n_mels, SMALL.n_frames)
    TOKENS = random_tokens(SMALL, 1, 12)

    @staticmethod
    def model(*, encoder: AttentionBackend, decoder: AttentionBackend) -> Whisper:
        """The same random weights."""
        model = Whisper.from_tensors(SMALL, random_tensors(SMALL))
        model.set_attention(encoder=encoder, decoder=decoder)
        return model

    def logits(self, model: Whisper) -> Tensor:
        """From mel to logits."""
        return model(self.MEL, self.TOKENS)

    def test_two_threads_get_what_each_gets_alone(self) -> None:
        """Bit for bit, over many passes that begin together; the two differ from each other."""
        models = [self.model(encoder=each, decoder=each) for each in ("fused", "products")]
        alone = [self.logits(model) for model in models]
        barrier = Barrier(2)

        def run(model: Whisper) -> list[Tensor]:
            found = []
            for _ in range(20):
                barrier.wait(timeout=300)
                found.append(self.logits(model))
            return found

        with ThreadPoolExecutor(2) as threads:
            together = list(threads.map(run, models))

        for expected, found in zip(alone, together, strict=True):
            assert all(torch.equal(each, expected) for each in found)
        assert not torch.equal(*alone)

    def test_two_layers_may_differ(self) -> None:
        """One layer of the other back end gives neither the one nor the other network's logits, within rounding."""
        mixed = self.model(encoder="fused", decoder="fused")
        mixed.encoder.blocks[1].attention = "products"

        logits = self.logits(mixed)

        for backend in ("fused", "products"):
            pure = self.logits(self.model(encoder=backend, decoder="fused"))
            assert not torch.equal(logits, pure)
            assert_close(logits, pure, rtol=1e-4, atol=1e-4)

    def test_a_layer_with_an_unknown_back_end_is_refused(self) -> None:
        """When it runs, by the name it was given."""
        model = self.model(encoder="fused", decoder="fused")
        model.decoder.blocks[2].attention = "flash"

        with pytest.raises(ValueError, match="attention back end 'flash' on cpu: expected fused or products"):
            self.logits(model)
