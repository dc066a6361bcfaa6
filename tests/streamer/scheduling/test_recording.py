"""Tests of streamer/scheduling/recording.py: what is kept of a session, and what happens where it cannot be kept."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from streamer.build.options import recording_options
from streamer.config import Config
from streamer.scheduling.recording import AUDIO, JOURNAL, Recordings, SessionRecorder
from tests.helpers.scripted_engine import recite, serving, spoken, story, texts


def recordings(folder: Path | None, reasons: list[str], **bounds: int) -> Recordings:
    """Those of a folder; reasons of recordings that stop are collected."""
    options = replace(recording_options(Config()), folder=folder, **bounds)
    return Recordings(options, reasons.append)


def only(folder: Path) -> Path:
    """The one recording in a folder."""
    (place,) = folder.iterdir()
    return place


async def test_all_sound_and_every_entry_are_kept(tmp_path: Path) -> None:
    """In a folder for each session, under its name; complete once the sessions are over and waited for."""
    kept = recordings(tmp_path, reasons := [])
    async with serving(recordings=kept) as service:
        await recite(service.open(session="../s/1"), "b c d", pause_s=1.0)
        await service.scheduler.finish_recordings()

    folder = only(tmp_path)
    assert folder.name.endswith("-___s_1")
    samples = np.fromfile(folder / AUDIO, "<f4")
    heard = spoken("b c d", pause_s=1.0)
    np.testing.assert_array_equal(samples[: len(heard)], heard)
    assert not samples[len(heard) :].any()
    assert (folder / JOURNAL).read_bytes().endswith(b"\n")
    assert reasons == []


def test_recordings_are_named_by_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order, whatever the clocks of the place do, and as the log tells time."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
    time.tzset()
    try:
        earliest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        recording = recordings(tmp_path, []).open("s")
        latest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert recording
    recording.close()
    recording.wait(60)
    assert earliest <= only(tmp_path).name.removesuffix("-s") <= latest


async def test_a_session_outlives_its_recording(tmp_path: Path) -> None:
    """Where the bound is reached, or the disk fails, the session says what it would have said; the reason is told."""
    (tmp_path / "file").write_text("no folder")
    for folder, bounds, reason in (
        (tmp_path / "small", {"max_session_bytes": 20_000}, "full"),
        (tmp_path / "file", {}, "not a directory"),
    ):
        kept = recordings(folder, reasons := [], **bounds)
        async with serving(recordings=kept) as service:
            events = await recite(service.open(), text := story(12), pause_s=1.0)
            await service.scheduler.finish_recordings()

        assert texts(events) == [text]
        assert reasons == [reason]
    assert sum(path.stat().st_size for path in (tmp_path / "small").glob("*/*")) <= 20_000


def test_a_full_folder_takes_no_more(tmp_path: Path) -> None:
    """Older recordings are left alone; it is for whoever runs the daemon to remove them."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / AUDIO).write_bytes(bytes(1000))

    recording = recordings(tmp_path, reasons := [], max_folder_bytes=1000).open("s")

    assert recording
    recording.wait(60)
    assert reasons == ["folder full"]
    assert only(tmp_path).name == "old"
    assert recordings(None, reasons).open("s") is None


def test_how_full_a_folder_is_holds_nobody_up(tmp_path: Path) -> None:
    """It may hold thousands of recordings on a slow disk; what comes meanwhile is kept."""
    looked = threading.Event()

    def is_full() -> bool:
        return not looked.wait(60)

    recording = SessionRecorder(tmp_path / "s", 10**9, (reasons := []).append, is_full=is_full)
    recording.audio(torch.zeros(1))
    looked.set()
    recording.close()
    recording.wait(60)

    assert (tmp_path / "s" / AUDIO).stat().st_size == 4
    assert reasons == []


def test_a_recording_that_is_removed_just_now_harms_no_session(tmp_path: Path) -> None:
    """Whoever runs the daemon removes old ones; a link to a file that is gone is met in the same way."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / AUDIO).symlink_to(tmp_path / "gone")

    recording = recordings(tmp_path, reasons := []).open("s")

    assert recording
    recording.close()
    recording.wait(60)
    assert reasons == []


def test_what_cannot_be_written_after_the_end_is_told(tmp_path: Path) -> None:
    """A disk that is full by then has not kept the end of the session."""
    (tmp_path / "file").write_text("no folder")
    ended, reasons = threading.Event(), list[str]()
    recording = SessionRecorder(tmp_path / "file" / "s", 10**9, reasons.append, is_full=lambda: not ended.wait(60))
    recording.audio(torch.zeros(1))
    recording.close()
    ended.set()
    recording.wait(60)

    assert reasons == ["not a directory"]


def test_a_slow_disk_holds_nothing_up(tmp_path: Path) -> None:
    """When the queue is full the recording stops, at once and once."""
    recording = SessionRecorder(tmp_path / "s", 10**9, (reasons := []).append, max_queued=1)
    for _ in range(1000):
        recording.audio(torch.zeros(16_000))
    recording.close()
    recording.wait(60)

    assert reasons == ["slow disk"]
    assert not recording.is_writing


def test_a_disk_that_stands_still_beyond_the_end_keeps_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is written when it goes on, and then the recording is over."""
    goes_on, make = threading.Event(), Path.mkdir

    def mkdir(self: Path, *, parents: bool) -> None:
        assert goes_on.wait(60)
        make(self, parents=parents)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    recording = SessionRecorder(tmp_path / "s", 10**9, (reasons := []).append, max_queued=1)
    recording.audio(torch.zeros(1))
    recording.close()
    goes_on.set()
    recording.wait(60)

    assert not recording.is_writing
    assert (tmp_path / "s" / AUDIO).stat().st_size == 4
    assert reasons == []
