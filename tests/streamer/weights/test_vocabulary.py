"""The vocabulary files that come with weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import whisper

from streamer.errors import CheckpointError
from streamer.weights import Checkpoint, load_tokenizer
from streamer.weights.vocabulary import build_tokenizer, find_vocabulary_in, read_base_tokens

ASSETS = Path(whisper.__file__).parent / "assets"


@pytest.mark.parametrize(("fixture", "asset"), [("tiny_en", "gpt2"), ("base", "multilingual")])
def test_every_format_gives_the_published_tokens(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str, asset: str
) -> None:
    """`vocabulary.txt|json`, `tokenizer.json`, `vocab.json` and `.tiktoken` hold the same bytes."""
    checkpoint: Checkpoint = request.getfixturevalue(fixture)
    folder = checkpoint.vocabulary.parent
    lines = (folder / "vocabulary.txt").read_text("utf-8").removesuffix("\n").split("\n")
    (tmp_path / "vocabulary.json").write_text(json.dumps(lines), "utf-8")
    ranks = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    (tmp_path / "vocab.json").write_text(json.dumps(ranks), "utf-8")

    expected = read_base_tokens(ASSETS / f"{asset}.tiktoken")

    assert len(expected) == (50256 if asset == "gpt2" else 50257)
    assert read_base_tokens(folder / "vocabulary.txt") == expected
    assert read_base_tokens(folder / "tokenizer.json") == expected
    assert read_base_tokens(tmp_path / "vocabulary.json") == expected
    assert read_base_tokens(tmp_path / "vocab.json") == expected


def test_large_v3_has_one_language_more() -> None:
    """The same base tokens serve 99 and 100 languages; the size of the model decides."""
    path = ASSETS / "multilingual.tiktoken"

    assert len(build_tokenizer(path, 51865).languages) == 99
    assert list(build_tokenizer(path, 51866).languages)[-1] == "yue"


def test_tokenizer_of_loaded_weights(tiny_en: Checkpoint) -> None:
    """As many tokens as the network has rows."""
    tokenizer = load_tokenizer(tiny_en)

    assert tokenizer.n_vocab == tiny_en.dims.n_vocab
    assert not tokenizer.multilingual


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocabulary.txt", b"\x89PNG\xff", "not a vocabulary: .*utf-8"),
        ("vocabulary.txt", "a\n漢\n".encode(), "the character '漢' stands for no byte"),
        ("vocabulary.json", b"{}", "not a vocabulary: Expected `array`"),
        ("tokenizer.json", b"{}", "not a vocabulary: .*missing required field `model`"),
        ("tokenizer.json", b'{"model": {"vocab": {"a"', "not a vocabulary: Input data was truncated"),
        ("vocab.json", b'{"a": ' + b"[" * 100_000, "not a vocabulary: "),
        ("tokenizer.json", b'{"x": ' + b"[" * 100_000, "not a vocabulary: maximum recursion depth"),
        ("vocab.json", b'{"a": 0, "b": 2}', "not a vocabulary: its ids are not 0, 1, 2"),
        ("x.tiktoken", b"a b c", "not a vocabulary"),
        ("x.tiktoken", b"YQ== 0\nYg== 5", "not a vocabulary: its ids are not 0, 1, 2"),
        (
            "vocabulary.txt",
            b"a\nb\n",
            "not the vocabulary of .*51864 tokens: no token for 254 of 256 single bytes",
        ),
        ("vocabulary.txt", b"a\na\n", "not the vocabulary of .*: 1 of 2 tokens occur twice"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """The message names the file and what is wrong with it."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=f"{name}: {message}"):
        build_tokenizer(tmp_path / name, 51864)


@pytest.mark.parametrize("n_vocab", [51765, 51900])
def test_vocabulary_of_another_model_is_refused(n_vocab: int) -> None:
    """The tokens that are left over must be a possible number of languages."""
    with pytest.raises(CheckpointError, match=r"languages: expected 1 to 100"):
        build_tokenizer(ASSETS / "multilingual.tiktoken", n_vocab)


def test_vocabulary_beside_the_weights(tmp_path: Path) -> None:
    """Of the two `.tiktoken` files the one for the kind of model; other files come first."""
    assert find_vocabulary_in(tmp_path, multilingual=True) is None
    for name in ("gpt2.tiktoken", "multilingual.tiktoken"):
        (tmp_path / name).touch()

    assert find_vocabulary_in(tmp_path, multilingual=True) == tmp_path / "multilingual.tiktoken"
    assert find_vocabulary_in(tmp_path, multilingual=False) == tmp_path / "gpt2.tiktoken"

    (tmp_path / "tokenizer.json").touch()
    assert find_vocabulary_in(tmp_path, multilingual=True) == tmp_path / "tokenizer.json"
