"""Tests of streamer/audio/endings.py: recordings that break off."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.audio.endings import breaks_off
from tests.helpers.damaged_recordings import heard
from tests.helpers.live_recordings import recorded

NAMES = ["webm opus", "webm vorbis", "ogg opus", "ogg flac", "mp3", "aac", "mpegts"]


def is_told(data: bytes) -> bool:
    """Whether these bytes are taken for a recording without its end."""
    return breaks_off(io.BytesIO(data), 0, len(data))


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_recording_does_not_break_off(name: str) -> None:
    """Nor do two."""
    assert not is_told(recorded(name))
    assert not is_told(2 * recorded(name))
    assert not any("breaks off" in note.text for note in heard(recorded(name))[1])


@settings(max_examples=60)
@given(st.sampled_from(NAMES), st.integers(1, 1500))
@example("webm opus", 541)
@example("ogg opus", 342)
def test_a_cut_is_told_but_between_two_frames(name: str, n_lost: int) -> None:
    """A frame, a packet or a block may be the last one; a page of Ogg says whether it is."""
    cut = recorded(name)[:-n_lost]
    assert is_told(cut) or is_told(cut[:-1]) or is_told(cut[:-2])
    assert is_told(cut) or name not in ("ogg opus", "ogg flac")


@settings(max_examples=60)
@given(st.sampled_from(["ogg opus", "ogg flac"]), st.data(), st.integers(1, 255))
def test_a_damaged_last_page_is_told(name: str, data: st.DataObject, change: int) -> None:
    """A decoder drops a page of which one byte is wrong, and up to a second of sound with it."""
    recording = bytearray(recorded(name))
    recording[data.draw(st.integers(recording.rfind(b"OggS\0"), len(recording) - 1))] ^= change
    assert is_told(bytes(recording))


@given(st.sampled_from([b"OggS\0", b"\x1a\x45\xdf\xa3", b"\xff\xfb", b""]), st.binary(max_size=300))
def test_any_bytes_are_told_or_not(head: bytes, data: bytes) -> None:
    """Nothing else happens."""
    assert is_told(head + data) in (True, False)
