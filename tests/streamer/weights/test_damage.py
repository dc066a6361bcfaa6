"""Every format, damaged in every way: a checkpoint or a CheckpointError, never another exception."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamer.errors import CheckpointError
from streamer.weights.checkpoint import Contents, check_tensors
from streamer.weights.ctranslate2 import read_ctranslate2
from streamer.weights.huggingface import read_huggingface
from streamer.weights.openai import read_openai
from tests.streamer.weights.writers import (
    container,
    ctranslate2_variables,
    random_tensors,
    write_huggingface,
    write_openai,
)

TENSORS = random_tensors()
VARIABLES = ctranslate2_variables(TENSORS)


def openai(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """A `.pt` file of these tensors."""
    return write_openai(folder / "model.pt", tensors)


def huggingface(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """A folder; its one file of weights."""
    return next(write_huggingface(folder / "model", tensors).glob("*.safetensors"))


def ctranslate2(folder: Path, tensors: dict[str, Tensor]) -> Path:
    """A `model.bin` of these tensors, under CTranslate2's names."""
    (folder / "model.bin").write_bytes(container(tensors))
    return folder / "model.bin"


Write = Callable[[Path, dict[str, Tensor]], Path]
FORMATS: dict[str, tuple[Write, dict[str, Tensor], Callable[[Path], Contents]]] = {
    "openai": (openai, TENSORS, read_openai),
    "huggingface": (huggingface, TENSORS, lambda path: read_huggingface(path.parent, (path,))),
    "ctranslate2": (ctranslate2, VARIABLES, lambda path: read_ctranslate2(path.parent, (path,))),
}


def read(format_: str, path: Path) -> Contents | None:
    """What a load sees: read and checked; None if it was refused."""
    try:
        contents = FORMATS[format_][2](path)
        check_tensors(path.name, contents.dims, contents.tensors)
    except CheckpointError:
        return None
    return contents


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # a pickle that asks for it is damaged
@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=60)
@given(data=st.data())
def test_cut_or_overwritten_bytes(format_: str, data: st.DataObject) -> None:
    """A file that was cut is refused; a changed one is too, or it differs in numbers alone."""
    write, tensors, _ = FORMATS[format_]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), tensors)
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        noise = data.draw(st.none() | st.binary(min_size=1, max_size=8))
        path.write_bytes(whole[:at] if noise is None else whole[:at] + noise + whole[at + len(noise) :])
        contents = read(format_, path)

    assert contents is None or noise is not None


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=40)
@given(data=st.data())
def test_tensors_lost_renamed_swapped_or_of_another_shape(format_: str, data: st.DataObject) -> None:
    """Whatever was done to them, a network never gets another set of names and shapes than its own."""
    write, tensors, _ = FORMATS[format_]
    changed, names = dict(tensors), sorted(tensors)
    for _ in range(data.draw(st.integers(1, 2))):
        first, second = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
        match data.draw(st.sampled_from(["lose", "rename", "swap", "reshape", "retype"])):
            case "lose":
                changed.pop(first, None)
            case "rename" if first in changed:
                changed[data.draw(st.sampled_from([f"{first}2", "x", "a/b", "", "decoder.x.weight"]))] = changed.pop(
                    first
                )
            case "swap" if first in changed and second in changed:
                changed[first], changed[second] = changed[second].clone(), changed[first].clone()
            case "reshape" if first in changed:
                shape = data.draw(st.sampled_from([(), (0,), (1,), (3, 5), (2, 2, 2, 2)]))
                changed[first] = torch.zeros(shape)
            case "retype" if first in changed:
                changed[first] = changed[first].to(torch.int32)
    with tempfile.TemporaryDirectory() as folder:
        contents = read(format_, write(Path(folder), changed))

    if contents is not None:
        check_tensors("what was let through", contents.dims, contents.tensors)
        assert all(tensor.is_floating_point() for tensor in contents.tensors.values())
