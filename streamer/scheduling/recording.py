"""
Recordings of sessions on disk for replay: the audio, and the journal of every input and event.

Each session has a folder with `audio.f32` (float32 samples at 16 kHz, little-endian) and `journal.jsonl`. A thread of
each recording writes them from a bounded queue, so a slow or full disk neither delays nor harms the session. A
recording that exceeds the disk, the queue or its limits ends with a warning and is counted.
"""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog
from torch import Tensor

from streamer.errors import reason_of
from streamer.session.journal import Entry

AUDIO, JOURNAL = "audio.f32", "journal.jsonl"
MAX_QUEUED = 4096
"""Journal entries and blocks of audio that wait for the disk; at 0.1 s a block, minutes of one session."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions:
    """Where recordings go, and how large they may become."""

    folder: Path | None
    """None: nothing is recorded."""
    max_session_bytes: int
    """Size at which a recording stops; an hour of audio is 230 MB."""
    max_folder_bytes: int
    """Size of the folder from which on no recording begins."""


class SessionRecorder:
    """
    Records one session; `audio` and `entry` never wait.

    Args:
        folder: Made for this recording; must not exist.
        max_bytes: Size of both files together at which the recording stops.
        on_stop: Called once, from any thread, with the reason, if something of the session is not kept.
        max_queued: Blocks and entries that may wait for the disk.
        is_full: Whether there is no room for one more recording; asked once, on the thread.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        on_stop: Callable[[str], None],
        max_queued: int = MAX_QUEUED,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.folder = folder
        self._room, self._on_stop, self._is_full = max_bytes, on_stop, is_full
        self._queue: queue.Queue[tuple[str, bytes] | None] = queue.Queue(max_queued)
        self._stopped = self._is_told = False
        self._encoder = msgspec.json.Encoder()
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def audio(self, samples: Tensor) -> None:
        """Keep samples, (n,) float32."""
        if not self._stopped:
            self._put(AUDIO, samples.numpy().astype("<f4").tobytes())

    def entry(self, entry: Entry) -> None:
        """Keep an entry of the journal."""
        if not self._stopped:
            self._put(JOURNAL, self._encoder.encode(entry) + b"\n")

    def close(self) -> None:
        """End the recording; what waits is still written."""
        self._stopped = True
        try:
            self._queue.put_nowait(None)
        except queue.Full:  # the writer is stuck, and will find `_stopped` when it is not
            return

    @property
    def is_writing(self) -> bool:
        """Whether the thread may still write."""
        return self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        """Wait until everything is written after `close`, at most `timeout_s` seconds."""
        self._thread.join(timeout_s)

    def _put(self, name: str, data: bytes) -> None:
        self._room -= len(data)
        if self._room < 0:
            self._stop("full")
            return
        try:
            self._queue.put_nowait((name, data))
        except queue.Full:
            self._stop("slow disk")

    def _stop(self, reason: str) -> None:
        self.close()
        if not self._is_told:  # after the end of the session too: what waited then is lost
            self._is_told = True
            self._on_stop(reason)

    def _run(self) -> None:
        if self._is_full():
            self._stop("folder full")
            return
        try:
            self._write()
        except OSError as error:
            self._stop(reason_of(error))

    def _write(self) -> None:
        self.folder.mkdir(parents=True)
        with (self.folder / AUDIO).open("wb") as audio, (self.folder / JOURNAL).open("wb") as journal:
            files = {AUDIO: audio, JOURNAL: journal}
            while (piece := self._next()) is not None:
                name, data = piece
                files[name].write(data)
                if self._queue.empty():
                    audio.flush()
                    journal.flush()

    def _next(self) -> tuple[str, bytes] | None:
        """The next piece, once there is one; None after the last, also where the queue had no room for the end."""
        return None if self._stopped and self._queue.empty() else self._queue.get()


class Recordings:
    """
    Begins the recordings of sessions, within bounds.

    Args:
        options: See `RecordingOptions`.
        on_stop: Called from any thread, with the reason of each recording that is not whole or cannot begin.
    """

    def __init__(self, options: RecordingOptions, on_stop: Callable[[str], None]) -> None:
        self._options, self._on_stop = options, on_stop
        self._open: list[SessionRecorder] = []

    def open(self, session: str) -> SessionRecorder | None:
        """Begin the recording of a session; None if recording is off."""
        folder = self._options.folder
        if folder is None:
            return None
        self._open = [recording for recording in self._open if recording.is_writing]
        # clients may choose the name: it must not lead out of the folder
        name = re.sub(r"[^A-Za-z0-9_-]", "_", session)[:64]
        # in UTC, as the log: in local time an hour of every autumn would be mixed with the one before
        place = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}"
        recording = SessionRecorder(
            place,
            self._options.max_session_bytes,
            lambda reason: self._stopped(session, reason),
            # on its thread: a folder may hold thousands of recordings
            is_full=lambda: bytes_in(folder) >= self._options.max_folder_bytes,
        )
        self._open.append(recording)
        return recording

    def wait(self, timeout_s: float) -> None:
        """Wait until all closed recordings are written, at most `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        for recording in self._open:
            recording.wait(max(0.0, deadline - time.monotonic()))

    def _stopped(self, session: str, reason: str) -> None:
        log.warning("recording_stopped", session=session, reason=reason)
        self._on_stop(reason)


def bytes_in(folder: Path) -> int:
    """Size of all files in a folder; one that is removed meanwhile is passed over."""
    return sum(_bytes_of(Path(place, name)) for place, _, names in os.walk(folder) for name in names)


def _bytes_of(path: Path) -> int:
    """Size of a file; 0 where it has just been removed."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
