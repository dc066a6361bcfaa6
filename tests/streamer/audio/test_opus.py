"""Tests of streamer/audio/opus.py and of recordings made by FFmpeg: whole, in pieces and damaged."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.opus import WebmDecoder
from streamer.audio.webm import MAX_HEADER_BYTES, WebmReader
from streamer.errors import AudioFormatError, ProtocolError
from tests.helpers.webm import RATE, recorded

TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)).astype(np.float32)
RECORDING = recorded(TONE)
HEADER = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm"
SEGMENT = b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"
BEGINNING = HEADER + SEGMENT + b"\x16\x54\xae\x6b\x8a\xae\x88\x86\x86A_OPUS"


def decoded(data: bytes, *, piece: int = 1000, from_s: float = 0.0) -> NDArray[np.float32]:
    """All samples of a recording that comes in pieces."""
    decoder = WebmDecoder()
    decoder.skip_to(from_s)
    blocks = [block for at in range(0, len(data), piece) for block in decoder.blocks(data[at : at + piece])]
    return np.concatenate([*blocks, decoder.finish()])


def loudness(samples: NDArray[np.float32]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(samples**2)))


def test_sound_comes_back() -> None:
    """As long and as loud as it was, at 16 kHz."""
    samples = decoded(RECORDING)

    assert len(samples) / 16000 == pytest.approx(3.0, abs=0.05)
    assert loudness(samples[8000:40000]) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_pieces_do_not_matter(piece: int) -> None:
    """However the recording is split, it says the same."""
    np.testing.assert_array_equal(decoded(RECORDING, piece=piece), decoded(RECORDING))


def test_who_comes_back_is_heard_from_where_he_was() -> None:
    """The recording is sent from its start; what the session has is left out, to the sample."""
    whole, rest = decoded(RECORDING), decoded(RECORDING, from_s=1.25)

    assert len(rest) == pytest.approx(len(whole) - 20000, abs=2)
    np.testing.assert_allclose(rest[4000:20000], whole[24000:40000], atol=0.02)


def test_a_pause_of_the_recorder_is_silence() -> None:
    """Times stay true; a pause that is too long is left out."""
    cluster = b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff"
    packet = next(WebmReader().read(RECORDING)).data
    head = b"\xa3" + bytes([0x40 | (len(packet) + 4) >> 8, (len(packet) + 4) & 255]) + b"\x81"

    def block(at_ms: int) -> bytes:
        return cluster + b"\xe7\x84" + at_ms.to_bytes(4, "big") + head + b"\0\0\x80" + packet

    assert len(decoded(BEGINNING + block(0) + block(5000))) / 16000 == pytest.approx(5.02, abs=0.01)
    late = BEGINNING + block(0) + block(100_000) + block(105_000)
    assert len(decoded(late)) / 16000 == pytest.approx(5.04, abs=0.01)
    assert len(decoded(late, from_s=2.0)) / 16000 == pytest.approx(3.04, abs=0.01)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RIFF\x24\0\0\0WAVE", "does not begin with a WebM header"),
        (b"OggS" + bytes(40), "does not begin with a WebM header"),
        (RECORDING[3000:], "does not begin with a WebM header"),
        (HEADER.replace(b"webm", b"exec"), "expected webm"),
        (BEGINNING.replace(b"A_OPUS", b"V_MPEG"), "expected one track of Opus alone"),
        (BEGINNING + b"\x16\x54\xae\x6b\x8a\xae\x88\x86\x86A_OPUS", "a second track"),
        (HEADER + SEGMENT + b"\x1f\x43\xb6\x75\xff\xa3\x85\x81\0\0\x80x", "sound before the header"),
        (BEGINNING + b"\xa3\x85\x81\0\0\x86x", "several packets in one block"),
        (BEGINNING + b"\xa3\x82\x81\0", "block of 2 bytes"),
        (BEGINNING + b"\xa3\x10\x02\x00\x00", "at most 65536"),
        (BEGINNING + b"\xec\x01\xff\xff\xff\xff\xff\xff\xff", "or of no size"),
        (BEGINNING + b"\x2a\xd7\xb1\x81\0", "time scale"),
        (BEGINNING + b"\0", "damaged"),
        (
            HEADER + SEGMENT + b"\xec\x41\x00" + bytes(256) + b"\xec\x21\x00\x00" * (MAX_HEADER_BYTES // 4),
            "no Opus track",
        ),
        (BEGINNING + b"\xa3\x87\x81\0\0\x80\xff\xff\xff", "is no Opus"),
    ],
)
def test_what_is_no_such_recording_is_refused(data: bytes, message: str) -> None:
    """With what was found, and without keeping or decoding it."""
    with pytest.raises(AudioFormatError, match=re.escape(message)):
        decoded(data)


@settings(max_examples=60)
@given(st.integers(0, len(RECORDING) - 1), st.binary(min_size=1, max_size=8), st.integers(0, 3))
def test_damage_is_an_error_or_sound_but_nothing_else(at: int, noise: bytes, lost: int) -> None:
    """Whatever is overwritten or lost: an audio error, or samples within [-1, 1] of a bounded length."""
    damaged = RECORDING[:at] + noise + RECORDING[at + len(noise) + lost :]
    try:
        samples = decoded(damaged)
    except AudioFormatError:
        return
    assert len(samples) < 70 * 16000
    assert float(np.abs(samples).max(initial=0.0)) <= 1.0


def test_without_the_codecs_the_client_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told what is missing, before it has sent anything."""
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ProtocolError, match=r"extra codecs is not installed \(av>=14; ") as error:
        WebmDecoder()

    assert error.value.code == "no_codecs"
