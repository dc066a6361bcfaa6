"""
Decodes files of strangers in processes of their own, so that a fault or a bomb in one costs that upload alone.

`audio.decoder_process` is started with the first file, forks a child for each file, and is started again should it end.
A file is surveyed first, which takes processor time: only some are at once, one of each caller, and the others wait.
After that a child stands still most of the time, until the transcription takes its samples.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import structlog

import streamer
from streamer.audio.decoder_messages import HEAD_BYTES, DecoderLimits, Request
from streamer.audio.notes import Note
from streamer.audio.pcm import Samples, bounded, finite
from streamer.errors import AudioFormatError, OverloadError

MAX_SURVEYS = 2
"""Files that are surveyed at once, of different callers: nobody waits for all the files of another."""
MAX_BODY_BYTES = 262_144
"""Longest message of a child: it may be taken over by its file."""
GRACE_S = 30.0
"""Time that a child gets beyond the one after which the kernel ends it, seconds."""
COMMAND = (sys.executable, "-m", "streamer.audio.decoder_process")

log = structlog.get_logger()


class DecoderPool:
    """
    Opens files.

    Args:
        max_surveys: Files that are surveyed at once.
        limits: What one file may cost.
        command: Starts the process that decodes.
    """

    def __init__(
        self,
        *,
        max_surveys: int = MAX_SURVEYS,
        limits: DecoderLimits | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._surveys = asyncio.Semaphore(max_surveys)
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        """Of the callers whose files are surveyed or wait for that."""
        self._starting = asyncio.Lock()
        self._limits, self._command = limits or DecoderLimits(), command
        self._process: _Process | None = None

    async def open(self, file: IO[bytes], name: str, max_s: float, caller: str = "") -> DecodedFile:
        """
        Survey a file. Cancelling ends its process.

        Args:
            file: Has a descriptor, and is not touched until the result is closed.
            name: For error messages.
            max_s: Sound after which the survey ends, seconds.
            caller: Owner of the key, or the address.

        Raises:
            AudioFormatError: There is no sound in it that can be decoded, or its process failed.
            OverloadError: No process can be started.
        """
        request = Request(name, max_s, self._limits)
        async with self._turns.setdefault(caller, asyncio.Lock()), self._surveys:
            decoded = DecodedFile(await self._ask(request, file.fileno()), request)
            try:
                await decoded.survey()
            except BaseException:
                decoded.close()
                raise
        return decoded

    @property
    def pid(self) -> int | None:
        """The process that decodes; None before the first file."""
        return self._process.pid if self._process is not None else None

    def close(self) -> None:
        """End the process. Files that are being decoded are decoded to their end."""
        if self._process is not None:
            self._process.end()
            self._process = None

    async def _ask(self, request: Request, file: int) -> socket.socket:
        """Send a request; returns the socket of its answer."""
        ours, theirs = socket.socketpair()
        try:
            await self._send(request.encoded(), [file, theirs.fileno()])
        except BaseException as error:
            ours.close()
            if not isinstance(error, OSError):
                raise
            log.error("decoder_not_started", error=str(error))  # noqa: TRY400 - of the system: a traceback says nothing more
            raise OverloadError("no process to decode the file; try again later", retry_after_s=30.0) from None
        finally:
            theirs.close()
        return ours

    async def _send(self, packet: bytes, descriptors: list[int]) -> None:
        """Send a packet to the process, which is started first if there is none, or if it has ended."""
        async with self._starting:
            try:
                await self._send_now(packet, descriptors)
            except (BrokenPipeError, ConnectionResetError):  # it has ended
                log.warning("decoder_ended")
                self.close()
                await self._send_now(packet, descriptors)

    async def _send_now(self, packet: bytes, descriptors: list[int]) -> None:
        if self._process is None:
            self._process = await asyncio.to_thread(_Process, self._command)
        socket.send_fds(self._process.control, [packet], descriptors)


class DecodedFile:
    """
    A file that is decoded elsewhere. Close it.

    Args:
        answer: Brings the messages of the child.
        request: What was asked for.
    """

    def __init__(self, answer: socket.socket, request: Request) -> None:
        self._socket, self._request = answer, request
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.duration_s = 0.0
        """Sound in it, as counted, seconds."""
        self.notes: tuple[Note, ...] = ()
        """What was lost, and which channels were chosen."""

    async def survey(self) -> None:
        """
        Wait for the survey.

        Raises:
            AudioFormatError: The file cannot be decoded.
        """
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        kind = b"P"
        while kind == b"P":
            kind, body = await self._receive()
        if kind != b"S":
            raise self._failure()
        duration_s, notes = json.loads(body)
        self.duration_s = float(duration_s)
        self.notes = tuple(Note(str(text), at_s) for text, at_s in notes)

    async def next_block(self) -> Samples | None:
        """
        The next samples, (n,), mono at 16 kHz, about a second of them; None at the end.

        Raises:
            AudioFormatError: Decoding failed although the survey had not.
        """
        kind, body = await self._receive()
        if kind == b"Z":
            return None
        if kind != b"A" or len(body) % 4:
            raise self._failure()
        return bounded(finite(np.frombuffer(body, "<f4")))

    def close(self) -> None:
        """Let the process go."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._socket.close()

    async def _receive(self) -> tuple[bytes, bytes]:
        """Kind and body of the next message; that of an error is raised."""
        assert self._reader is not None
        try:
            async with asyncio.timeout(self._request.limits.silence_s + GRACE_S):
                head = await self._reader.readexactly(HEAD_BYTES)
                kind, n_bytes = head[:1], int.from_bytes(head[1:], "big")
                if n_bytes > MAX_BODY_BYTES:
                    raise self._failure()
                body = await self._reader.readexactly(n_bytes)
        except (asyncio.IncompleteReadError, TimeoutError, OSError):
            raise self._failure() from None
        if kind == b"E":
            raise AudioFormatError(body.decode(errors="replace"))
        return kind, body

    def _failure(self) -> AudioFormatError:
        log.warning("decoder_failed", memory_bytes=self._request.limits.memory_bytes)
        return AudioFormatError(
            f"{self._request.name}: its decoder failed, by a fault or at a bound of memory or time; convert the file, "
            "for example to wav, and send that"
        )


class _Process:
    """The process that decodes. It ends with this object."""

    def __init__(self, command: Sequence[str]) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            popen = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libmpg123 writes what it thinks of a file
                cwd="/",
                env=_environment(),
            )
        except BaseException:
            self.control.close()
            raise
        finally:
            theirs.close()
        self.pid = popen.pid
        self.control.setblocking(False)
        self.end = weakref.finalize(self, _end, popen, self.control)
        """Ends the process; called at the end of this one in any case."""


def _environment() -> dict[str, str]:
    """The variables of the daemon that the process needs; the others may hold secrets."""
    paths = [str(Path(streamer.__file__).parent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
    # threads of numpy, of which it needs none, would take memory
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OPENBLAS_NUM_THREADS": "1"}


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    control.close()
    process.kill()
    process.wait()
