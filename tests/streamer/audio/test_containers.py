"""Tests of streamer/audio/containers.py: recordings that come in messages of any size, one after the other."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import random
import threading
from collections.abc import Iterable, Iterator

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.hostile.bombs import BOMBS
from streamer.audio.containers import ContainerDecoder
from streamer.audio.pcm import Samples
from streamer.errors import AudioFormatError
from tests.helpers.live_recordings import FORMATS, RATE, SECONDS, heard_by_ffmpeg, recorded

OWN = {"webm opus", "ogg opus", "wav 24 bit", "wav 32 bit"}
"""Formats that FFmpeg does not read here, or whose rate is changed: the same sound, not the same samples."""
ENDLESS = {"mp3", "aac", "mpegts"}
"""Formats in which nothing marks the beginning of a recording: FFmpeg reads the next one as more of the same."""


@functools.cache
def expected(name: str) -> NDArray[np.float32]:
    """What FFmpeg hears in it, (n,)."""
    return heard_by_ffmpeg(recorded(name))


def messages(data: bytes, seed: int) -> Iterator[bytes]:
    """A recording in messages of random sizes; the first one is a byte, as Chromium's is."""
    sizes, at, n = random.Random(seed), 0, 1
    while at < len(data):
        yield data[at : at + n]
        at, n = at + n, sizes.choice([1, 7, 300, 4000, 60_000])


def decoded(recordings: Iterable[bytes], seed: int = 0, decoder: ContainerDecoder | None = None) -> Samples:
    """All samples of recordings that come one after the other, (n,)."""
    decoder = decoder or ContainerDecoder()
    try:
        blocks = [np.zeros(0, np.float32)]
        for data in recordings:
            for message in messages(data, seed):
                blocks += decoder.blocks(message)
        return np.concatenate([*blocks, *decoder.end()])
    finally:
        decoder.close()


@settings(max_examples=25)
@given(st.sampled_from(list(FORMATS)), st.integers(0, 9999))
def test_message_sizes_do_not_matter(name: str, seed: int) -> None:
    """The sound is that of the whole file, as FFmpeg decodes it."""
    heard = decoded([recorded(name)], seed)
    if name in OWN:
        assert len(heard) == pytest.approx(len(expected(name)), abs=0.05 * RATE)
        assert np.abs(heard).mean() == pytest.approx(np.abs(expected(name)).mean(), rel=0.05)
    else:
        # what the header of an mp3 says of the padding at its end is known of a file alone
        assert np.array_equal(heard[: len(expected(name))], expected(name))
        assert len(heard) <= len(expected(name)) + 0.1 * RATE


@settings(max_examples=25)
@given(st.sampled_from(list(FORMATS)), st.integers(0, 9999), st.floats(0.2, 0.99))
def test_a_recording_that_is_cut_loses_no_more_than_ffmpeg_does(name: str, seed: int, part: float) -> None:
    """What came before the cut is there, half a second at most excepted."""
    data = recorded(name)[: int(part * len(recorded(name)))]
    heard = np.zeros(0, np.float32)
    with contextlib.suppress(AudioFormatError):  # cut in its header, it holds no sound
        heard = decoded([data], seed)
    assert len(heard) >= len(heard_by_ffmpeg(data)) - 0.5 * RATE


@settings(max_examples=25)
@given(st.lists(st.sampled_from(sorted(FORMATS.keys() - ENDLESS)), min_size=2, max_size=4), st.integers(0, 9999))
def test_a_recorder_that_stops_and_starts_goes_on(names: list[str], seed: int) -> None:
    """Also in another format: a message that begins with a header begins a recording, and nothing is lost."""
    heard, whole = decoded(map(recorded, names), seed), np.concatenate([expected(name) for name in names])
    assert len(heard) == pytest.approx(len(whole), abs=0.05 * RATE * len(names))
    assert np.abs(heard).mean() == pytest.approx(np.abs(whole).mean(), rel=0.1)


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_recordings_without_a_header_go_on_too(name: str) -> None:
    """They are more of the same stream."""
    assert len(decoded([recorded(name)] * 3)) == pytest.approx(3 * len(expected(name)), abs=0.3 * RATE)


@settings(max_examples=10)
@given(st.integers(1, 5000))
def test_webm_goes_on_wherever_its_bytes_are_split(n: int) -> None:
    """Its header stands between elements, so a message need not begin with it."""
    decoder, data = ContainerDecoder(), 3 * recorded("webm opus")
    blocks = [block for at in range(0, len(data), n) for block in decoder.blocks(data[at : at + n])]
    heard = np.concatenate([*blocks, *decoder.end()])
    assert len(heard) == pytest.approx(3 * SECONDS * RATE, abs=0.2 * RATE)


@settings(max_examples=15)
@given(
    st.sampled_from(["webm opus", "webm vorbis", "ogg opus", "wav 8 bit", "wav adpcm", "mp3"]),
    st.floats(0, 5),
    st.integers(0, 99),
)
def test_a_client_that_comes_back_is_heard_from_where_it_was(name: str, from_s: float, seed: int) -> None:
    """Its recordings come from their start again; what the session has is left out, over several recordings too."""
    both = [recorded(name), recorded(name)]
    whole = decoded(both, seed)
    decoder = ContainerDecoder()
    decoder.skip_to(from_s)
    rest = decoded(both, seed, decoder)
    assert len(rest) == pytest.approx(max(len(whole) - from_s * RATE, 0), abs=0.05 * RATE)


@settings(max_examples=40)
@given(
    st.sampled_from(["webm opus", "ogg flac", "mp3", "aac", "flac", "mpegts", "fragmented mp4"]), st.integers(0, 999)
)
def test_damage_costs_what_is_damaged(name: str, seed: int) -> None:
    """A stretch of bytes that is overwritten, anywhere behind the first third: what follows it is heard."""
    data, source = recorded(name), random.Random(seed)
    at = source.randrange(len(data) // 3, len(data) - 600)
    damaged = data[:at] + source.randbytes(150) + data[at + 150 :]
    heard = np.zeros(0, np.float32)
    with contextlib.suppress(AudioFormatError):  # damaged in its only page, it holds no sound
        heard = decoded([damaged], seed)
    assert len(heard) >= len(heard_by_ffmpeg(damaged)) - 0.3 * RATE


@pytest.mark.parametrize("name", ["webm opus", "mp3", "aac", "mpegts"])
def test_bytes_that_were_lost_cost_no_others(name: str) -> None:
    """As of a client that drops a message when its network is slow."""
    data = recorded(name)
    for share in (0.4, 0.6, 0.8):
        at = int(share * len(data))
        assert len(decoded([data[:at] + data[at + 700 :]])) > (SECONDS - 0.9) * RATE


@pytest.mark.parametrize("name", ["mp3", "aac", "mpegts"])
def test_a_stream_may_be_joined_anywhere(name: str) -> None:
    """As a relay of a radio station does."""
    data = recorded(name)
    for at in (1, 100, 777):
        assert len(decoded([data[at:]])) == pytest.approx(SECONDS * RATE, abs=0.4 * RATE)


@pytest.mark.parametrize("name", FORMATS)
def test_what_stands_in_front_is_passed_over(name: str) -> None:
    """The head of a form, or of an answer, that was sent along."""
    before = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert np.array_equal(decoded([before + recorded(name)]), decoded([recorded(name)]))


def test_a_packet_of_opus_that_is_damaged_costs_no_other() -> None:
    """Behind the first that was none."""
    with av.open(io.BytesIO(recorded("ogg opus"))) as file:
        packets = [bytes(packet) for packet in file.demux(audio=0) if packet.size]
    packets[20] = packets[40] = b"\xff\xff\xff"
    decoder = ContainerDecoder(is_opus=True)
    blocks = [block for packet in packets for block in decoder.blocks(packet)]
    assert len(np.concatenate([*blocks, *decoder.end()])) == pytest.approx((SECONDS - 0.04) * RATE, abs=0.05 * RATE)


def test_opus_packets_come_one_a_message() -> None:
    """As chat clients send them; a container under the same name is read as one."""
    with av.open(io.BytesIO(recorded("ogg opus"))) as file:
        packets = [bytes(packet) for packet in file.demux(audio=0) if packet.size]
    decoder = ContainerDecoder(is_opus=True)
    blocks = [block for packet in packets for block in decoder.blocks(packet)]
    assert len(np.concatenate([*blocks, *decoder.end()])) == pytest.approx(SECONDS * RATE, abs=0.05 * RATE)
    heard = decoded([recorded("ogg opus")], decoder=ContainerDecoder(is_opus=True))
    np.testing.assert_allclose(heard, expected("ogg opus"), atol=0.02)


@pytest.mark.parametrize(
    "data", [b"", b"RIF", bytes(40), b"GET / HTTP/1.1\r\n", b"OggS" * 10, b"\0\0\0\x18ftypmp42" + bytes(99)]
)
def test_what_holds_no_sound_is_refused(data: bytes) -> None:
    """By its first bytes or at its end; nothing at all is no mistake."""
    if not data:
        assert len(decoded([data])) == 0
        return
    with pytest.raises(AudioFormatError):
        decoded([data])


@pytest.mark.parametrize("rate", [8000, 48_000])
@pytest.mark.parametrize("size", [997, 10**6])
def test_headers_of_wav_are_no_sound(rate: int, size: int) -> None:
    """FFmpeg would hear their bytes as minutes of noise."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(0, np.int16), rate, format="WAV")
    headers, decoder = file.getvalue() * 500, ContainerDecoder()
    parts = [headers[at : at + size] for at in range(0, len(headers), size)]
    with pytest.raises(AudioFormatError, match="wavs in a row of less than"):
        list(itertools.chain.from_iterable(decoder.blocks(part) for part in parts))


def test_decoders_leave_no_thread_behind() -> None:
    """Neither one that was read to its end nor one that was abandoned, before or in the middle of its sound."""
    decoded([recorded("mp3")])
    for n in (100, 10_000):
        decoder = ContainerDecoder()
        next(decoder.blocks(recorded("mp3")[:n]), None)
        decoder.close()
        decoder.close()
    for thread in threading.enumerate():
        if thread.name == "container":
            thread.join(60)
            assert not thread.is_alive()


def test_a_rate_out_of_this_world_is_refused() -> None:
    """A block of 14 kB at 1 Hz would become 224 million samples."""
    decoder = ContainerDecoder()
    try:
        with pytest.raises(AudioFormatError, match="1 samples per second, expected 1000 to 384000"):
            [*decoder.blocks(BOMBS["a Matroska at 1 Hz"]), *decoder.end()]
    finally:
        decoder.close()


def test_a_long_block_comes_in_seconds() -> None:
    """However many samples a packet holds, a second of them is decoded at once."""
    decoder = ContainerDecoder()
    try:
        data = BOMBS["a Matroska of one block of a megabyte"]
        blocks = [*decoder.blocks(data), *decoder.end()]
    finally:
        decoder.close()
    assert sum(map(len, blocks)) == pytest.approx(1000 * RATE, rel=0.01)
    assert max(map(len, blocks)) <= 2 * RATE
