"""Reads the vocabulary of a model in any of its file formats, and builds the tokenizer."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TypeVar

import msgspec

from streamer.errors import CheckpointError
from streamer.text.tokenizer import N_TASK_AND_TIME_TOKENS, Tokenizer

__all__ = ["build_tokenizer", "find_vocabulary_in", "read_base_tokens"]

FILE_NAMES = ("vocabulary.json", "vocabulary.txt", "tokenizer.json", "vocab.json")
TIKTOKEN_FILE_NAMES = {True: "multilingual.tiktoken", False: "gpt2.tiktoken"}
"""Names in OpenAI's package; the key is whether the model is multilingual."""
EOT = "<|endoftext|>"

PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
REST = tuple(byte for byte in range(256) if byte not in PRINTABLE)
BYTES = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + index): byte for index, byte in enumerate(REST)}
"""
Byte of each character in vocabulary files: printable Latin-1 characters stand for themselves.

Source: `bytes_to_unicode` of GPT-2.
"""

Token = TypeVar("Token", str, bytes)


class _Model(msgspec.Struct, frozen=True):
    vocab: dict[str, int]


class _TokenizerFile(msgspec.Struct, frozen=True):
    model: _Model


def find_vocabulary_in(folder: Path, *, multilingual: bool) -> Path | None:
    """The vocabulary file in a folder of weights; None if there is none."""
    names = (*FILE_NAMES, TIKTOKEN_FILE_NAMES[multilingual])
    return next((folder / name for name in names if (folder / name).is_file()), None)


def build_tokenizer(path: Path, n_vocab: int) -> Tokenizer:
    """
    Build the tokenizer of a model.

    Args:
        path: `vocabulary.json`, `vocabulary.txt`, `tokenizer.json`, `vocab.json` or a `.tiktoken` file.
        n_vocab: Tokens of the model; the number of languages follows from it.

    Raises:
        CheckpointError: The file is damaged, of another format, or not the vocabulary of a Whisper model of this size.
    """
    tokens = read_base_tokens(path)
    try:
        return Tokenizer(tokens, n_vocab - len(tokens) - N_TASK_AND_TIME_TOKENS)
    except ValueError as error:
        raise CheckpointError(f"{path}: not the vocabulary of a model with {n_vocab} tokens: {error}") from error


def read_base_tokens(path: Path) -> list[bytes]:
    """
    Bytes of every token below the special ones, in id order.

    Raises:
        CheckpointError: The file is damaged or of another format.
    """
    data = path.read_bytes()
    try:
        if path.suffix == ".tiktoken":
            return _in_rank_order(_read_tiktoken(data))
        return [bytes(BYTES[char] for char in token) for token in _read_words(path.name, data)]
    except KeyError as error:
        raise CheckpointError(f"{path}: the character {error} stands for no byte in a Whisper vocabulary") from error
    except (ValueError, RecursionError) as error:  # msgspec's own among them
        raise CheckpointError(f"{path}: not a vocabulary: {error}") from error


def _read_tiktoken(data: bytes) -> dict[bytes, int]:
    pairs = (line.split() for line in data.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _read_words(file_name: str, data: bytes) -> list[str]:
    """Base tokens, each byte written as its character of `BYTES`."""
    if file_name == "vocabulary.txt":
        # not splitlines: one token of multilingual vocabularies is empty
        return _below_eot(data.decode("utf-8").removesuffix("\n").split("\n"))
    if file_name == "vocabulary.json":
        return _below_eot(msgspec.json.decode(data, type=list[str]))
    if file_name == "tokenizer.json":
        ranks = msgspec.json.decode(data, type=_TokenizerFile).model.vocab
    else:
        ranks = msgspec.json.decode(data, type=dict[str, int])
    eot = ranks.get(EOT)
    return _in_rank_order({token: rank for token, rank in ranks.items() if eot is None or rank < eot})


def _below_eot(tokens: list[str]) -> list[str]:
    return tokens[: tokens.index(EOT)] if EOT in tokens else tokens


def _in_rank_order(ranks: dict[Token, int]) -> list[Token]:
    tokens = sorted(ranks, key=ranks.__getitem__)
    if any(ranks[token] != rank for rank, token in enumerate(tokens)):
        raise ValueError("its ids are not 0, 1, 2 and so on without a gap")
    return tokens
