"""
Sessions kept on disk for replay: the sound, and the journal of every decision.

A folder for each session: `audio.f32` (float32 samples at 16 kHz, little-endian) and `journal.jsonl`. Writing never
holds up a session and never harms it: it happens on a thread of each recording, behind a bounded queue. What does not
fit, on the disk, in the queue or within the limits, ends the recording with a warning, and is counted; the session
goes on.
"""

from __future__ import annotations

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

from streamer.session.journal import Entry

AUDIO, JOURNAL = "audio.f32", "journal.jsonl"
MAX_QUEUED = 4096
"""Pieces that wait to be written; entries and blocks of 0.1 s, so minutes of one session."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingOptions:
    """Where recordings go, and how large they may become."""

    folder: Path | None = None
    """None: nothing is recorded."""
    max_session_bytes: int = 500_000_000
    """A recording stops there; an hour of sound is 230 MB."""
    max_folder_bytes: int = 5_000_000_000
    """No recording begins while the folder holds more."""


class SessionRecorder:
    """
    One session being recorded. `audio` and `entry` never wait.

    Args:
        folder: Its own, fresh.
        max_bytes: Of both files together.
        on_stop: Called once, from any thread, with the reason, if the recording ends before its session.
    """

    def __init__(self, folder: Path, max_bytes: int, on_stop: Callable[[str], None]) -> None:
        self.folder = folder
        self._room, self._on_stop = max_bytes, on_stop
        self._queue: queue.Queue[tuple[str, bytes] | None] = queue.Queue(MAX_QUEUED)
        self._stopped = False
        self._encoder = msgspec.json.Encoder()
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def audio(self, samples: Tensor) -> None:
        """Keep samples, (n,) float32."""
        self._put(AUDIO, samples.numpy().astype("<f4").tobytes())

    def entry(self, entry: Entry) -> None:
        """Keep an entry of the journal."""
        self._put(JOURNAL, self._encoder.encode(entry) + b"\n")

    def close(self) -> None:
        """The session is over; what waits is still written."""
        self._stopped = True
        try:
            self._queue.put_nowait(None)
        except queue.Full:  # the writer is stuck, and will find `_stopped` when it is not
            return

    @property
    def is_writing(self) -> bool:
        """Whether something may still be written."""
        return self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        """Until all is written after `close`."""
        self._thread.join(timeout_s)

    def _put(self, name: str, data: bytes) -> None:
        if self._stopped:
            return
        self._room -= len(data)
        if self._room < 0:
            self._stop("full")
            return
        try:
            self._queue.put_nowait((name, data))
        except queue.Full:
            self._stop("slow disk")

    def _stop(self, reason: str) -> None:
        if not self._stopped:
            self.close()
            self._on_stop(reason)

    def _run(self) -> None:
        try:
            self.folder.mkdir(parents=True)
            with (self.folder / AUDIO).open("wb") as audio, (self.folder / JOURNAL).open("wb") as journal:
                files = {AUDIO: audio, JOURNAL: journal}
                while (piece := self._queue.get()) is not None:
                    name, data = piece
                    files[name].write(data)
                    if self._queue.empty():
                        audio.flush()
                        journal.flush()
        except OSError as error:
            self._stop((error.strerror or str(error)).lower())


class Recordings:
    """
    Begins recordings, and bounds them.

    Args:
        options: See `RecordingOptions`.
        on_stop: Called with the reason of each recording that ends before its session or cannot begin.
    """

    def __init__(self, options: RecordingOptions, on_stop: Callable[[str], None]) -> None:
        self._options, self._on_stop = options, on_stop
        self._open: list[SessionRecorder] = []

    def open(self, session: str) -> SessionRecorder | None:
        """A recording for a session of this name; None where nothing is to be recorded, or there is no room."""
        folder = self._options.folder
        if folder is None:
            return None
        self._open = [recording for recording in self._open if recording.is_writing]
        if _bytes_in(folder) >= self._options.max_folder_bytes:
            self._stopped(session, "folder full")
            return None
        # names may come from clients: nothing of them may lead out of the folder
        name = re.sub(r"[^A-Za-z0-9_-]", "_", session)[:64]
        place = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{name}"
        recording = SessionRecorder(
            place, self._options.max_session_bytes, lambda reason: self._stopped(session, reason)
        )
        self._open.append(recording)
        return recording

    def wait(self, timeout_s: float) -> None:
        """Until everything of closed recordings is written."""
        deadline = time.monotonic() + timeout_s
        for recording in self._open:
            recording.wait(max(0.0, deadline - time.monotonic()))

    def _stopped(self, session: str, reason: str) -> None:
        log.warning("recording_stopped", session=session, reason=reason)
        self._on_stop(reason)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*"))
