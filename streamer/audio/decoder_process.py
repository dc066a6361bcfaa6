"""
The process in which files of strangers are decoded: a server that forks a child for each file, without torch.

    python -m streamer.audio.decoder_process      standard input: a Unix socket of sequenced packets

A request is a packet of JSON with two descriptors: the file, and a socket for the answer. The server touches neither,
so no file can harm it. The child can open no file and no connection, write no file, and take no more memory and
processor time than its file justifies; the kernel ends it otherwise. Its answer is a sequence of messages, each a
letter, four bytes of length, and a body:

    P     the survey goes on
    S     the survey as JSON: seconds, and notes as pairs of text and time
    A     samples, float32, mono at 16 kHz, a second at most
    Z     the end
    E     text: the file cannot be decoded
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import IO

import numpy as np

from streamer.audio.files import READERS, AudioFile, open_audio, read_sound
from streamer.errors import AudioFormatError

MAX_REQUEST_BYTES = 4096
HEAD_BYTES = 5
NICENESS = 5
"""Live captions come first."""
STOPS = (signal.SIGINT, signal.SIGTERM)
"""Signals that reach all processes of a daemon: it drains, and they end with it."""

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


def serve(control: socket.socket, open_file: Open = open_audio) -> None:
    """
    Fork a child for each request, until the other side closes.

    Args:
        control: Brings the requests.
        open_file: Decodes, in the child.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 2)
        if not packet:
            return
        if os.fork() == 0:
            control.close()
            with contextlib.suppress(BaseException):
                file, answer = descriptors
                _decode(Request.decoded(packet), file, answer, open_file)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _decode(request: Request, file: int, answer: int, open_file: Open) -> None:
    """In the child: answer a request."""
    told = _Answer(socket.socket(fileno=answer), _Budget(request, os.fstat(file).st_size))
    _confine(request.limits)
    try:
        with open(file, "rb", closefd=False) as opened:
            opened.seek(0)  # the caller has the same position
            audio = open_file(opened, request.name, request.max_s, told.go_on)
            told.say(b"S", json.dumps([audio.duration_s, [(note.text, note.at_s) for note in audio.notes]]).encode())
            for samples in audio.blocks if audio.duration_s <= request.max_s else ():
                told.say(b"A", samples.astype("<f4").tobytes())
            told.say(b"Z")
    except AudioFormatError as error:
        told.say(b"E", str(error).encode()[:MAX_REQUEST_BYTES])
    except MemoryError:
        needed = f"{request.limits.memory_bytes // 10**6} MB of memory"
        told.say(b"E", f"{request.name}: it needs more than {needed} to be decoded".encode())


class _Answer:
    """The messages of a child."""

    def __init__(self, to: socket.socket, budget: _Budget) -> None:
        self._to, self._budget = to, budget
        budget.renew()

    def go_on(self) -> None:
        self.say(b"P")

    def say(self, kind: bytes, body: bytes = b"") -> None:
        """Send a message, for which there is progress; raises OSError once the caller has gone."""
        signal.alarm(0)  # the caller may take its time
        self._to.sendall(kind + len(body).to_bytes(4, "big") + body)
        self._budget.renew()


class _Budget:
    """Time until the next message. The kernel ends the process that has used it up, whatever it does."""

    def __init__(self, request: Request, n_bytes: int) -> None:
        self._limits = request.limits
        self._cpu_s = request.limits.cpu_s + request.limits.cpu_s_per_mb * n_bytes / 1e6
        self._most_s = int(self._cpu_s + request.limits.cpu_s_per_s * request.max_s) + 1

    def renew(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        until_s = int(used.ru_utime + used.ru_stime + self._cpu_s) + 1  # whole seconds
        _limit(resource.RLIMIT_CPU, until_s, self._most_s)
        signal.setitimer(signal.ITIMER_REAL, self._limits.silence_s)


def _confine(limits: DecoderLimits) -> None:
    """Give up for good what decoding does not need."""
    os.nice(NICENESS)
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 0,  # those that are open stay so; neither files nor sockets can be opened
        resource.RLIMIT_DATA: _data_bytes() + limits.memory_bytes,
    }
    for name, bound in bounds.items():
        _limit(name, bound, bound)


def _limit(name: int, soft: int, hard: int) -> None:
    """Set a limit of this process, no higher than it may be."""
    _, highest = resource.getrlimit(name)
    hard = hard if highest == resource.RLIM_INFINITY else min(hard, highest)
    resource.setrlimit(name, (min(soft, hard), hard))


def _data_bytes() -> int:
    """Private memory that this process may write, as RLIMIT_DATA counts it."""
    with open("/proc/self/status", encoding="ascii") as status:
        [kilobytes] = (line.split()[1] for line in status if line.startswith("VmData:"))
    return int(kilobytes) * 1024


def _preload() -> None:
    """Load everything now that decoding may need: a child can open no library and no module."""
    import soundfile

    sound = io.BytesIO()
    soundfile.write(sound, np.zeros((800, 2), np.float32), 8000, format="WAV")
    with contextlib.suppress(ImportError):
        import av

        for found in pkgutil.walk_packages(av.__path__, "av."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    for reader in READERS:
        with contextlib.suppress(AudioFormatError), contextlib.closing(reader(sound, "")) as opened:
            list(opened.blocks())
        sound.seek(0)
    read_sound(sound, "")


def main(open_file: Open = open_audio) -> None:
    """Serve on standard input."""
    _preload()
    with socket.socket(fileno=0) as control:
        serve(control, open_file)


if __name__ == "__main__":
    main()
