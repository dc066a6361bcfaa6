"""Tests of streamer/audio/ogg_page.py"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.ogg_page import is_intact, signed
from tests.helpers.live_recordings import recorded


def pages(recording: bytes) -> list[bytes]:
    """Cut where each page begins: no packet of these recordings holds such bytes."""
    return [b"OggS\0" + page for page in recording.split(b"OggS\0")[1:]]


@pytest.mark.parametrize("name", ["ogg opus", "ogg flac"])
def test_pages_of_an_encoder_are_intact(name: str) -> None:
    """As FFmpeg signs them."""
    found = pages(recorded(name))
    assert len(found) > 2
    assert all(map(is_intact, found))


@given(st.binary(min_size=27, max_size=400), st.data(), st.integers(1, 255))
def test_a_page_is_signed_and_any_byte_breaks_it(page: bytes, data: st.DataObject, change: int) -> None:
    """Signing changes nothing else, and finds any change of one byte."""
    whole = signed(page)
    assert (whole[:22], whole[26:]) == (page[:22], page[26:])
    assert is_intact(whole)

    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(page) - 1))] ^= change
    assert not is_intact(bytes(damaged))
