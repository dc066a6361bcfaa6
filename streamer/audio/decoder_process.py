"""
The process in which files of strangers are decoded: a server that forks a child for each file, without torch.

    python -m streamer.audio.decoder_process      standard input: a Unix socket of sequenced packets

A request (`decoder_messages`) is a packet with two descriptors: the file, and a socket for the answer. The server
touches neither, so no file can harm it. The child can open no file and no connection, write no file, and take no more
memory and processor time than its file justifies; the kernel ends it otherwise.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
import resource
import signal
import socket

import numpy as np

from streamer.audio.decoder_messages import MAX_REQUEST_BYTES, DecoderLimits, Open, Request, answer
from streamer.audio.files import READERS, open_audio, read_sound
from streamer.errors import AudioFormatError

NICENESS = 5
"""Live captions come first."""
STOPS = (signal.SIGINT, signal.SIGTERM)
"""Signals that reach all processes of a daemon: it drains, and they end with it."""


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
                file, to = descriptors
                _decode(Request.decoded(packet), file, to, open_file)
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def _decode(request: Request, file: int, to: int, open_file: Open) -> None:
    """In the child: answer a request. An OSError says that the caller has gone."""
    caller, budget = socket.socket(fileno=to), _Budget(request, os.fstat(file).st_size)
    confine(request.limits)
    budget.renew()

    def say(message: bytes) -> None:
        signal.alarm(0)  # the caller may take its time
        caller.sendall(message)
        budget.renew()

    with open(file, "rb", closefd=False) as opened:
        answer(request, opened, open_file, say)


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


def confine(limits: DecoderLimits) -> None:
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


def preload() -> None:
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
    preload()
    with socket.socket(fileno=0) as control:
        serve(control, open_file)


if __name__ == "__main__":
    main()
