"""Tests of streamer/session/journal.py: what is written of a session; test_replay shows that it repeats the session."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from streamer.build.options import recording_options
from streamer.config import Config
from streamer.protocol.events import Event
from streamer.protocol.options import Update
from streamer.scheduling.recording import JOURNAL, Recordings
from streamer.session.journal import Answer, AnyEntry, Ask, Change, EndEntry, Failed, FlushEntry, Frames, Opened, Said
from tests.helpers.scripted_engine import collect, serving, spoken, story


@pytest.fixture
async def told(tmp_path: Path) -> tuple[list[AnyEntry], list[Event]]:
    """The journal of a session in which everything happens, and what its client was told."""
    kept = Recordings(replace(recording_options(Config()), folder=tmp_path), lambda _: None)
    async with serving(recordings=kept) as service:
        stream = service.open()
        await stream.feed(spoken(story(9, seed=1), pause_s=1.0))
        stream.flush(3)
        stream.update(Update(keyterms=("b",)))
        await stream.feed(spoken("c d", pause_s=1.0))
        stream.end()
        events = await collect(stream)
        await service.scheduler.finish_recordings()
    return read(tmp_path), events


def read(folder: Path) -> list[AnyEntry]:
    """The journal of the one session that was recorded."""
    (recorded,) = folder.iterdir()
    lines = (recorded / JOURNAL).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=AnyEntry) for line in lines]


def test_entries_follow_the_grammar(told: tuple[list[AnyEntry], list[Event]]) -> None:
    """Opened first and once, steps asked for before they are answered, nothing said but in answer to something."""
    entries, _ = told
    kinds = [type(entry) for entry in entries]

    assert kinds.index(Opened) == 0
    assert kinds.count(Opened) == kinds.count(FlushEntry) == kinds.count(Change) == kinds.count(EndEntry) == 1
    steps = [kind for kind in kinds if kind in (Ask, Answer, Failed)]
    assert steps[::2] == [Ask] * (len(steps) // 2)
    assert Ask not in steps[1::2]
    assert all(
        before in (Frames, Answer, FlushEntry, EndEntry) for before, kind in itertools.pairwise(kinds) if kind is Said
    )


def test_all_that_the_client_was_told_is_there_in_order(told: tuple[list[AnyEntry], list[Event]]) -> None:
    """A slow reader may be spared partials that were replaced; the journal has them all."""
    entries, events = told
    said = iter([event for entry in entries if isinstance(entry, Said) for event in entry.events])

    assert all(event in said for event in events)


def test_an_entry_is_as_it_was_after_it_was_written(told: tuple[list[AnyEntry], list[Event]]) -> None:
    """Numbers to the last bit: a threshold decides on them."""
    for entry in told[0]:
        assert msgspec.json.decode(msgspec.json.encode(entry), type=AnyEntry) == entry
    voice = (0.1 + 0.2, 1 / 3, 1e-17)
    heard = msgspec.json.decode(msgspec.json.encode(Frames(n_frames=3, voice=voice)), type=AnyEntry)
    assert heard == Frames(n_frames=3, voice=voice)
