"""Tests of streamer/evaluation/replay.py: recorded sessions repeat themselves, and tell where each word came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.build.options import recording_options
from streamer.cli.transcribe import TranscribeOptions
from streamer.cli.transcribe import run as transcribe
from streamer.config import Config, ModelConfig, RecordingConfig
from streamer.errors import AudioFormatError
from streamer.evaluation.replay import Replay, read_frames, read_journal, run
from streamer.protocol.events import TurnRevised
from streamer.protocol.options import SessionOptions, Update
from streamer.scheduling.recording import AUDIO, JOURNAL, Recordings
from streamer.scheduling.session_handle import SessionHandle
from streamer.session.journal import Opened
from tests.helpers.engines import toy
from tests.helpers.scripted_engine import ScriptedEngine, collect, reviser, serving, spoken, story


def only(folder: Path) -> Path:
    """The one recording in a folder."""
    (place,) = folder.iterdir()
    return place


async def record(folder: Path, *said: str, between: Callable[[SessionHandle], None] = lambda _: None) -> Path:
    """A recording of these utterances; `between` is called after each."""
    kept = Recordings(replace(recording_options(Config()), folder=folder), lambda _: None)
    async with serving(recordings=kept) as service:
        stream = service.open()
        for text in said:
            await stream.feed(spoken(text, pause_s=1.0))
            between(stream)
        stream.end()
        await collect(stream)
        await service.scheduler.finish_recordings()
    return only(folder)


def replay_of(folder: Path) -> Replay:
    """A recording replayed."""
    opened, *entries = read_journal(folder)
    assert isinstance(opened, Opened)
    again = Replay(opened, toy()[1], read_frames(folder, opened.n_mels))
    for entry in entries:
        again.take(entry)
    return again


async def test_a_replay_says_the_same_as_the_recorded_session(tmp_path: Path) -> None:
    """Over turns, flushes, changed options and a window that rolls."""

    def between(stream: SessionHandle) -> None:
        stream.flush(1)
        stream.update(Update(keyterms=("b",), endpoint_ms=800))

    texts = [story(30, seed=1), "c d", story(9, seed=2)]
    again = replay_of(await record(tmp_path, *texts, between=between))

    assert (again.n_differences, again.first_difference) == (0, "")
    assert [replayed.turn.text for replayed in again.turns] == texts


async def test_a_replay_repeats_revisions(tmp_path: Path) -> None:
    """Without decoding anything: the journal has the results of the second pass."""
    kept = Recordings(replace(recording_options(Config()), folder=tmp_path), lambda _: None)
    async with serving(recordings=kept, revisers=[reviser(ScriptedEngine())]) as service:
        stream = service.scheduler.open(SessionOptions(language="en", revise=True, endpoint_ms=500), revises_all=True)
        for text in ("b d b", "d f d"):
            await stream.feed(spoken(text, pause_s=1.0))
        stream.end()
        events = await collect(stream)
        await service.scheduler.finish_recordings()
    again = replay_of(only(tmp_path))

    assert sum(isinstance(event, TurnRevised) for event in events) == 1
    assert (again.n_differences, again.first_difference) == (0, "")


async def test_words_tell_where_they_came_from(tmp_path: Path) -> None:
    """First said no later than stable; most by agreement, the last ones at the end of the turn."""
    (turn,) = replay_of(await record(tmp_path, story(20))).turns

    assert [origin.word for origin in turn.origins] == list(turn.turn.words or ())
    assert all(o.first.step <= o.stable.step and o.first.received_s <= o.stable.received_s for o in turn.origins)
    assert turn.origins[0].reason.endswith("steps agreed")
    assert turn.origins[-1].reason == "end of turn (silence)"
    assert [o.first.step for o in turn.origins] == sorted(o.first.step for o in turn.origins)


async def test_an_event_that_differs_is_found(tmp_path: Path) -> None:
    """The first difference is told with both sides."""
    folder = await record(tmp_path, "b c d")
    path = folder / JOURNAL
    path.write_text(path.read_text().replace('"text":"b c d"', '"text":"b c f"'))

    again = replay_of(folder)

    assert again.n_differences == 1
    assert "recorded" in again.first_difference


async def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    """The entries before it are replayed."""
    folder = await record(tmp_path, story(20))
    path = folder / JOURNAL
    path.write_bytes(path.read_bytes()[:-20])

    assert replay_of(folder).n_differences <= 1


def test_a_folder_without_a_recording_is_refused(tmp_path: Path) -> None:
    """The error names the folder and the files that were expected."""
    with pytest.raises(AudioFormatError, match=rf"is no recording: expected {AUDIO} and {JOURNAL}"):
        read_journal(tmp_path)
    for line in (b'{"t": 1}\n', b'{"x": "\xff"}\n', b'{"x": ' + b"[" * 100_000 + b"\n", b"\n"):
        (tmp_path / JOURNAL).write_bytes(line)
        with pytest.raises(AudioFormatError, match="no journal of this version"):
            read_journal(tmp_path)


async def test_of_a_folder_of_recordings_one_is_named(tmp_path: Path) -> None:
    """The newest: the folder is what `--record` was told."""
    place = await record(tmp_path, "b c d")
    with pytest.raises(AudioFormatError, match=rf"is no recording: expected .* in it, as of {place}$"):
        read_journal(tmp_path)


async def test_audio_that_is_not_whole_is_told(tmp_path: Path) -> None:
    """Cut off, or not there."""
    place = await record(tmp_path, "b c d")
    audio = place / AUDIO
    audio.write_bytes(audio.read_bytes()[:4000])
    with pytest.raises(AudioFormatError, match=f"the recording is not whole: {AUDIO} ends before {JOURNAL} does"):
        replay_of(place)
    audio.unlink()
    with pytest.raises(AudioFormatError, match=rf"cannot read {audio}: no such file or directory"):
        replay_of(place)


def test_the_command_lists_every_word_of_a_recorded_file(
    tmp_path: Path, speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The words are those that were transcribed."""
    config = Config(model=ModelConfig(name="tiny.en", threads=1), recording=RecordingConfig(folder=str(tmp_path)))
    transcribe(config, TranscribeOptions(files=[speech / "dev-LJ002-0020.flac"]))
    heard = next(line for line in capsys.readouterr().out.splitlines() if "[info" not in line)

    assert run(only(tmp_path)) == 0

    turn, *words, last = capsys.readouterr().out.splitlines()
    assert turn.endswith(f": {heard}")
    assert [line.split()[2] for line in words] == heard.split()
    assert last.startswith("same as recorded: 1 turns")
