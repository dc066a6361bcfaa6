"""Tests of streamer/remote/framing.py."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.remote.framing import LENGTH, Framing
from streamer.remote.wire import WireError

FRAMING = Framing(max_bytes=20, error=WireError)
DECODER = msgspec.msgpack.Decoder(list[int])


@given(st.binary(max_size=20))
def test_a_frame_tells_the_length_of_its_message(body: bytes) -> None:
    """The reader knows how much to read before it decodes."""
    frame = FRAMING.frame(body)

    assert FRAMING.length_of(frame[: LENGTH.size]) == len(body)
    assert frame[LENGTH.size :] == body


def test_a_longer_message_is_refused_by_who_sends_and_by_who_reads() -> None:
    """Before anything of it takes memory."""
    with pytest.raises(WireError, match="a message of 21 bytes: expected at most 20"):
        FRAMING.frame(bytes(21))
    with pytest.raises(WireError, match="expected at most 20"):
        FRAMING.length_of(LENGTH.pack(2**32 - 1))


def test_what_is_no_message_names_its_sender() -> None:
    """Neither damaged bytes nor another type pass."""
    assert FRAMING.decode(DECODER, msgspec.msgpack.encode([1, 2]), "the hub") == [1, 2]
    for body in (b"", b"\xc1", msgspec.msgpack.encode(["a"])):
        with pytest.raises(WireError, match="no message of the hub"):
            FRAMING.decode(DECODER, body, "the hub")
