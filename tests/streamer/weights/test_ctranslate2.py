"""The reader of CTranslate2 folders."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from streamer.errors import CheckpointError
from streamer.weights.checkpoint import Contents, check_tensors
from streamer.weights.ctranslate2 import read_ctranslate2
from tests.streamer.weights.writers import SMALL, container, ctranslate2_variables, random_tensors

EMBEDDING = "decoder/embeddings/weight"
PROJECTION = "decoder/projection/weight"


@pytest.fixture
def variables() -> dict[str, Tensor]:
    """A small model under CTranslate2's names."""
    return ctranslate2_variables(random_tensors())


def read(folder: Path, data: bytes) -> Contents:
    (folder / "model.bin").write_bytes(data)
    return read_ctranslate2(folder, (folder / "model.bin",))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_and_dimensions_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    """Stacked queries, keys and values are separate again, in the dtype stored."""
    tensors = random_tensors(dtype=dtype)

    contents = read(tmp_path, container(ctranslate2_variables(tensors)))

    assert contents.dims == SMALL
    assert contents.tensors.keys() == tensors.keys()
    assert all(torch.equal(contents.tensors[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("sizes", [(0,), (1000,), (5, 20_000), (3, 3, 3)])
def test_parts_are_one_stream(tmp_path: Path, variables: dict[str, Tensor], sizes: tuple[int, ...]) -> None:
    """A file cut in parts gives the same tensors, wherever the cuts are."""
    data = container(variables)
    paths = []
    for size in (*sizes, len(data)):
        paths.append(tmp_path / f"model.bin.part{len(paths)}")
        paths[-1].write_bytes(data[:size])
        data = data[size:]

    contents = read_ctranslate2(tmp_path, tuple(paths))

    check_tensors("model.bin", SMALL, contents.tensors)


def quantised(weight: Tensor, peak: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    rows = weight.reshape(len(weight), -1) if dtype == torch.int8 else weight.reshape(1, -1)
    scale = peak / rows.abs().amax(1)
    return (rows * scale[:, None]).round().to(dtype).reshape(weight.shape), scale if len(scale) > 1 else scale[0]


@pytest.mark.parametrize(("peak", "dtype"), [(127, torch.int8), (1024, torch.int16)])
def test_quantised_weights_are_multiplied_out(tmp_path: Path, peak: int, dtype: torch.dtype) -> None:
    """Within half a quantisation step of the original: int8 by row, int16 by tensor."""
    tensors = random_tensors()
    variables = ctranslate2_variables(tensors)
    for name in [name for name in variables if name.endswith("/weight")]:
        variables[name], variables[f"{name}_scale"] = quantised(variables[name], peak, dtype)

    contents = read(tmp_path, container(variables))

    check_tensors("model.bin", SMALL, contents.tensors)
    for name, tensor in tensors.items():
        largest = (contents.tensors[name] - tensor).abs().max()
        assert largest <= 0.5 * 5.0 / peak, name


def test_wrong_number_of_scales_is_refused(tmp_path: Path, variables: dict[str, Tensor]) -> None:
    """One scale for all or one for each row."""
    variables["encoder/conv1/weight_scale"] = torch.ones(3)

    with pytest.raises(CheckpointError, match=r"encoder/conv1/weight_scale has shape \(3,\) for 8 rows"):
        read(tmp_path, container(variables))


def test_head_count_defaults_to_the_published_width(tmp_path: Path) -> None:
    """Files that do not say the number of heads have heads of 64."""
    dims = replace(
        SMALL,
        n_audio_state=128,
        n_text_state=128,
        n_audio_layer=1,
        n_text_layer=1,
        n_audio_head=2,
        n_text_head=2,
    )
    variables = ctranslate2_variables(random_tensors(dims), dims)
    del variables["encoder/num_heads"], variables["decoder/num_heads"]

    assert read(tmp_path, container(variables)).dims == dims


def test_alignment_heads_come_from_the_config(tmp_path: Path, variables: dict[str, Tensor]) -> None:
    """None without a config, sorted pairs with one, each once, and a broken config is named."""
    assert read(tmp_path, container(variables)).alignment_heads is None

    (tmp_path / "config.json").write_text('{"alignment_heads": [[2, 0], [1, 1], [2, 0]], "lang_ids": [1]}')
    assert read(tmp_path, container(variables)).alignment_heads == ((1, 1), (2, 0))

    for text, message in ((b"[]", "Expected `object`"), (b'{"x": ' + b"[" * 100_000, "maximum recursion depth")):
        (tmp_path / "config.json").write_bytes(text)
        with pytest.raises(CheckpointError, match=f"config.json: {message}"):
            read(tmp_path, container(variables))


def test_truncated_files_say_so(tmp_path: Path, variables: dict[str, Tensor]) -> None:
    """Cut at any of 200 places, the file is refused and what was being read is named."""
    data = container(variables)
    for n_kept in range(0, len(data), len(data) // 200):
        with pytest.raises(CheckpointError, match=r"model.bin is truncated: .+ needs \d+ bytes, \d+ are left"):
            read(tmp_path, data[:n_kept])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a CTranslate2 model: version 1196314761, expected 6"),
        (b"PK\x03\x04" + bytes(100), "not a CTranslate2 model"),
        (b'{"dims": {}}', "not a CTranslate2 model"),
        (container({}, version=5), "version 5, expected 6; convert"),
        (container({}, spec="TransformerSpec"), "of kind 'TransformerSpec', expected 'WhisperSpec'"),
        (container({}), "encoder/conv1/weight is missing"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    """Each is refused for what it is."""
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, data)


def test_unknown_type_is_refused(tmp_path: Path) -> None:
    """A type number of a later version."""
    data = bytearray(container({"x": torch.zeros(1)}))
    data[data.index(b"x\0") + 2 + 1 + 4] = 9

    with pytest.raises(CheckpointError, match="x has type 9, expected 0 to 5"):
        read(tmp_path, bytes(data))


@pytest.mark.parametrize("shape", [(0, 2**31, 2**31, 2**31), (0,), (1, 1, 1, 1, 1)])
def test_shapes_that_no_variable_has_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Nothing of any size is nothing, and more sizes than the network knows are damage."""
    header = struct.pack("<I", 6) + b"\x0c\x00WhisperSpec\x00" + struct.pack("<II", 3, 1) + b"\x02\x00a\x00"
    n_bytes = 4 * math.prod(shape)
    variable = struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, 0, n_bytes) + bytes(n_bytes)
    (tmp_path / "model.bin").write_bytes(header + variable)
    with pytest.raises(CheckpointError, match="a has shape"):
        read_ctranslate2(tmp_path, (tmp_path / "model.bin",))


def test_impossible_sizes_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """A damaged shape may ask for exabytes."""
    data = bytearray(container({"x": torch.zeros(1, 1, 1)}))
    start = data.index(b"x\0") + 3
    data[start : start + 12] = b"\xff" * 12

    with pytest.raises(CheckpointError, match=r"x has 4 bytes, not torch.float32 of shape"):
        read(tmp_path, bytes(data))


@pytest.mark.parametrize("tied", [True, False])
def test_projection_of_its_own(tmp_path: Path, variables: dict[str, Tensor], tied: bool) -> None:
    """Stored twice is fine when equal; anything else is no Whisper model."""
    variables[PROJECTION] = variables[EMBEDDING] + (0 if tied else 1)
    data = container(variables, aliases={})

    if tied:
        check_tensors("model.bin", SMALL, read(tmp_path, data).tensors)
    else:
        with pytest.raises(CheckpointError, match="projection/weight is not decoder/embeddings/weight"):
            read(tmp_path, data)


def test_keys_with_a_bias_are_refused(tmp_path: Path, variables: dict[str, Tensor]) -> None:
    """The network has no place for it, so the result would be silently wrong."""
    variables["decoder/layer_1/attention/linear_1/bias"] += 1

    with pytest.raises(CheckpointError, match=r"blocks.1.cross_attn.key\+value.bias has a bias for keys"):
        read(tmp_path, container(variables))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("encoder/conv1/weight", (8, 3), "not the shapes of a Whisper model"),
        ("encoder/layer_0/self_attention/linear_0/bias", (25,), "has 25 rows, expected a multiple of 3"),
    ],
)
def test_impossible_shapes_are_refused(
    tmp_path: Path, variables: dict[str, Tensor], name: str, shape: tuple[int, ...], message: str
) -> None:
    """Shapes from which the dimensions cannot be told."""
    variables[name] = torch.zeros(shape)

    with pytest.raises(CheckpointError, match=message):
        read(tmp_path, container(variables))
