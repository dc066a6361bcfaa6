"""A process as `streamer.audio.decoder_process`, whose children do what the first word of their file says."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np

from streamer.audio.decoder_process import main
from streamer.audio.files import AudioFile, open_audio
from streamer.audio.pcm import Samples
from streamer.errors import AudioFormatError


def open_file(file: IO[bytes], name: str, max_s: float, progress: Callable[[], None]) -> AudioFile:
    """Fail in a way, or decode the file."""
    match file.read(8).strip():
        case b"CRASH":
            ctypes.string_at(0)
        case b"SPIN":
            while True:
                pass
        case b"SLEEP":
            time.sleep(3600)
        case b"BOMB":
            kept = [b"x" * 1_000_000 for _ in range(1000)]
            raise AudioFormatError(f"{len(kept)} MB could be taken")
        case b"OPEN":
            _tried(lambda: os.open("/etc/hostname", os.O_RDONLY))
        case b"CONNECT":
            _tried(lambda: socket.create_connection(("127.0.0.1", 9)))
        case b"WRITE":
            _tried(lambda: os.pwrite(file.fileno(), b"x", 100))
        case b"LIE":
            raise AudioFormatError("x" * 1_000_000)
        case b"LATER":
            return AudioFile(2.0, (), _two_seconds(), lambda: None)
    file.seek(0)
    return open_audio(file, name, max_s, progress)


def _tried(something: Callable[[], object]) -> None:
    """Do what a decoder has no business to do, and tell what came of it."""
    try:
        something()
    except OSError as error:
        raise AudioFormatError(f"refused: {error.strerror}") from None
    raise AudioFormatError("allowed")


def _two_seconds() -> Iterator[Samples]:
    """One of them."""
    yield np.zeros(16_000, np.float32)
    ctypes.string_at(0)


if __name__ == "__main__":
    main(open_file)
