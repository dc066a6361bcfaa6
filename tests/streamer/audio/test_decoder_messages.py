"""Tests of streamer.audio.decoder_messages."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
import pytest
import soundfile

from streamer.audio.decoder_messages import (
    HEAD_BYTES,
    MAX_REQUEST_BYTES,
    DecoderLimits,
    Open,
    Request,
    answer,
    message,
)
from streamer.audio.files import AudioFile, open_audio
from streamer.audio.notes import Note
from streamer.audio.pcm import Samples
from streamer.errors import AudioFormatError


def answered(open_file: Open, max_s: float = 100.0, file: IO[bytes] | None = None) -> list[tuple[bytes, bytes]]:
    """Kinds and bodies of the messages about a file."""
    said: list[bytes] = []
    answer(Request("clip", max_s, DecoderLimits()), file or io.BytesIO(), open_file, said.append)
    return [(each[:1], each[HEAD_BYTES:]) for each in said]


def opened(duration_s: float, *samples: Samples) -> Open:
    """Opens any file as these samples."""

    def blocks() -> Iterator[Samples]:
        yield from samples

    def open_file(_: IO[bytes], __: str, ___: float, progress: Callable[[], None]) -> AudioFile:
        progress()
        return AudioFile(duration_s, (Note("lost", 1.0), Note("mixed")), blocks(), lambda: None)

    return open_file


def test_a_file_is_surveyed_and_then_decoded() -> None:
    """In this order, with progress between."""
    said = answered(opened(2.0, np.ones(2, np.float32), np.zeros(1, np.float32)))
    assert [kind for kind, _ in said] == [b"P", b"S", b"A", b"A", b"Z"]
    assert json.loads(said[1][1]) == [2.0, [["lost", 1.0], ["mixed", None]]]
    assert np.frombuffer(said[2][1], "<f4").tolist() == [1.0, 1.0]


def test_a_file_that_is_too_long_is_not_decoded() -> None:
    """Its length alone is told."""
    assert [kind for kind, _ in answered(opened(2.0, np.ones(2, np.float32)), max_s=1.0)] == [b"P", b"S", b"Z"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (AudioFormatError("no sound"), b"no sound"),
        (AudioFormatError("x" * 9000), b"x" * MAX_REQUEST_BYTES),
        (MemoryError(), b"clip: it needs more than 100 MB of memory to be decoded"),
    ],
)
def test_what_cannot_be_decoded_is_told(error: Exception, text: bytes) -> None:
    """In the words of the error, of bounded length."""

    def fail(*_: object) -> AudioFile:
        raise error

    assert answered(fail) == [(b"E", text)]


def test_a_file_is_read_from_its_beginning() -> None:
    """Wherever its position is: the caller has the same one."""
    file = io.BytesIO()
    soundfile.write(file, np.full(16_000, 0.5, np.float32), 16_000, format="WAV")
    said = answered(open_audio, file=file)
    assert [kind for kind, _ in said] == [b"S", b"A", b"Z"]


def test_a_message_tells_its_length() -> None:
    """In four bytes, the highest first."""
    assert message(b"A", b"abc") == b"A\0\0\0\3abc"
    assert message(b"Z") == b"Z\0\0\0\0"


def test_a_request_fits_its_packet() -> None:
    """With the longest name in letters that JSON writes longest."""
    request = Request("\U0001f600" * 255, 14_400.0, DecoderLimits())
    assert len(request.encoded()) < MAX_REQUEST_BYTES
    assert Request.decoded(request.encoded()) == request
