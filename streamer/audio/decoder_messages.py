"""
What is asked of a process that decodes a file, and what it answers, as bytes.

A request is JSON. The answer is a sequence of messages, each a letter, four bytes of length, and a body:

    P     the survey goes on
    S     the survey as JSON: seconds, and notes as pairs of text and time
    A     samples, float32, mono at 16 kHz, a second at most
    Z     the end
    E     text: the file cannot be decoded
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import IO

from streamer.audio.files import AudioFile
from streamer.errors import AudioFormatError

MAX_REQUEST_BYTES = 4096
"""Also the longest error."""
HEAD_BYTES = 5
"""Letter and length of a message."""

Open = Callable[[IO[bytes], str, float, Callable[[], None]], AudioFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderLimits:
    """What one file may cost."""

    memory_bytes: int = 100_000_000
    """Beyond what the process has before it opens the file."""
    cpu_s: float = 3.0
    """Processor time for every `PROGRESS_S` of decoded sound, seconds, and `cpu_s_per_mb` more."""
    cpu_s_per_mb: float = 0.2
    """A megabyte of damage is searched in a hundredth of this."""
    cpu_s_per_s: float = 0.2
    """Processor time in all for a second of the longest sound; decoding takes a hundredth of this."""
    silence_s: float = 60.0
    """Time without progress, seconds, while the caller takes what there is."""


@dataclass(frozen=True, slots=True)
class Request:
    """One file."""

    name: str
    """For error messages."""
    max_s: float
    """Sound after which the survey ends, seconds."""
    limits: DecoderLimits

    def encoded(self) -> bytes:
        """As a packet."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def decoded(packet: bytes) -> Request:
        """Of a packet."""
        fields = json.loads(packet)
        return Request(fields["name"], fields["max_s"], DecoderLimits(**fields["limits"]))


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message of an answer."""
    return kind + len(body).to_bytes(HEAD_BYTES - 1, "big") + body


def answer(request: Request, file: IO[bytes], open_file: Open, say: Callable[[bytes], None]) -> None:
    """
    Decode a file, and say everything of it.

    Args:
        request: What is asked.
        file: Its position may be anywhere.
        open_file: As `files.open_audio`.
        say: Sends a message.
    """
    try:
        file.seek(0)
        audio = open_file(file, request.name, request.max_s, lambda: say(message(b"P")))
        say(message(b"S", json.dumps([audio.duration_s, [(note.text, note.at_s) for note in audio.notes]]).encode()))
        for samples in audio.blocks if audio.duration_s <= request.max_s else ():
            say(message(b"A", samples.astype("<f4").tobytes()))
        say(message(b"Z"))
    except AudioFormatError as error:
        say(message(b"E", str(error).encode()[:MAX_REQUEST_BYTES]))
    except MemoryError:
        needed = f"{request.limits.memory_bytes // 10**6} MB of memory"
        say(message(b"E", f"{request.name}: it needs more than {needed} to be decoded".encode()))
