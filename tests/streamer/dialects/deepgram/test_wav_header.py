"""Tests of streamer/dialects/deepgram/wav_header.py."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from streamer.dialects.deepgram.wav_header import MAX_HEADER_BYTES, WavHeader
from streamer.errors import AudioFormatError
from streamer.protocol.messages import AudioFormat


def wav(subtype: str, rate: int, channels: int) -> bytes:
    """A file that another library has written."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros((100, channels)), rate, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("subtype", "encoding", "width"),
    [("PCM_16", "pcm_s16le", 2), ("FLOAT", "pcm_f32le", 4), ("ULAW", "mulaw", 1), ("ALAW", "alaw", 1)],
)
def test_written_formats_are_read(subtype: str, encoding: str, width: int) -> None:
    """Format and audio, however the bytes come."""
    data = wav(subtype, 44100, 2)
    header, found, n = WavHeader(), None, 0
    while found is None:
        found = header.receive(data[n : n + 7])
        n += 7
    audio, begun = found
    assert audio == AudioFormat(encoding=encoding, rate=44100, channels=2)
    assert (begun + data[n:])[: 200 * width] == data[-200 * width :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"OggS", "neither wav nor webm"),
        (wav("PCM_24", 16000, 1), "wav format 1 with 24 bits"),
        (wav("PCM_16", 96000, 1), "wav of 96000 hertz"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "no format before its data"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0ab", "wav format of 2 bytes"),
        (b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\x7f" + bytes(MAX_HEADER_BYTES), "no audio within"),
    ],
)
def test_other_data_is_refused_with_the_reason(data: bytes, message: str) -> None:
    """What it is and what is taken."""
    with pytest.raises(AudioFormatError, match=message):
        WavHeader().receive(data)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, begins_well: bool) -> None:
    """Nothing but its own error."""
    with contextlib.suppress(AudioFormatError):
        WavHeader().receive(b"RIFF\0\0\0\0WAVE" + data if begins_well else data)
