"""Files as they come: wrong headers, damage, cuts, several recordings in one. No second that can be decoded is lost."""

from __future__ import annotations

import contextlib
import io
import struct

import av
import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.audio.files import read_sound
from streamer.audio.signatures import HEAD_BYTES, is_frame, is_known
from streamer.errors import AudioFormatError
from tests.helpers.damaged_recordings import (
    FRAME_S,
    heard,
    in_last_fragment,
    seconds_of_ffmpeg,
    with_patch,
    with_random_bytes,
    with_total_samples,
)
from tests.helpers.live_recordings import FORMATS, RATE, SECONDS, recorded, recording, tone

SIZES = st.integers(0, 0xFFFFFFFF) | st.sampled_from([0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF - 36])
COMPRESSED = ["webm opus", "ogg opus", "ogg flac", "mp3", "aac", "flac", "fragmented mp4", "mpegts"]
TAG = b"ID3\x04\0\0\0\0\x08\0" + bytes(1024)


def wav(subtype: str = "PCM_16", channels: int = 1, format_: str = "WAV") -> bytes:
    """The tone, in the same samples on each channel."""
    file = io.BytesIO()
    soundfile.write(file, np.repeat(tone()[:, None], channels, axis=1), RATE, format=format_, subtype=subtype)
    return file.getvalue()


def riff_sizes(data: bytes, whole: int, samples: int) -> bytes:
    """A wav with these sizes in its header."""
    at = data.index(b"data") + 4
    return with_patch(with_patch(data, 4, struct.pack("<I", whole)), at, struct.pack("<I", samples))


@settings(max_examples=60)
@given(SIZES, SIZES, st.sampled_from(["PCM_16", "PCM_U8", "PCM_24", "FLOAT", "ULAW"]), st.integers(1, 3))
def test_no_size_in_a_wav_header_is_believed(whole: int, samples: int, subtype: str, channels: int) -> None:
    """Whatever a recorder that crashed left there, all samples behind it are decoded."""
    seconds, notes = heard(riff_sizes(wav(subtype, channels), whole, samples))
    assert seconds == pytest.approx(SECONDS, abs=0.001)
    assert all("its header announces" in note.text for note in notes)


@settings(max_examples=30)
@given(SIZES)
def test_no_size_in_an_aiff_header_is_believed(samples: int) -> None:
    """Likewise for AIFF, whose numbers begin with the highest byte."""
    data = wav(format_="AIFF")
    seconds, _ = heard(with_patch(data, data.index(b"SSND") + 4, struct.pack(">I", samples)))
    assert seconds == pytest.approx(SECONDS, abs=0.001)


@settings(max_examples=40)
@given(st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32, 2**64 - 1]))
def test_no_size_in_a_long_wav_header_is_believed(samples: int) -> None:
    """That of 64 bits neither (RF64)."""
    data = wav(format_="RF64")
    assert heard(with_patch(data, data.index(b"ds64") + 16, struct.pack("<Q", samples)))[0] == SECONDS
    assert heard(data)[0] == SECONDS


@settings(max_examples=30)
@given(st.integers(0, 2**36 - 1) | st.just(0))
def test_no_number_of_samples_in_a_flac_header_is_believed(n: int) -> None:
    """A FLAC that was written to a pipe tells none; others may tell days."""
    assert heard(with_total_samples(recorded("flac"), n))[0] == pytest.approx(SECONDS, abs=0.001)


def test_a_size_that_is_right_ends_the_samples() -> None:
    """Chunks behind the samples are not played, also an odd number of bytes, and a last one that is cut."""
    plain = wav("PCM_U8")[: 44 + 16_001]
    data = riff_sizes(plain, len(plain), 16_001)
    for behind in (b"\0LIST" + struct.pack("<I", 4000) + bytes(4000), b"\0LIST" + struct.pack("<I", 4000) + b"INFO"):
        assert heard(data + behind)[0] == pytest.approx(16_001 / RATE, abs=1e-6)


@settings(max_examples=40)
@given(st.sampled_from(["mvhd", "mdhd", "tkhd"]), st.binary(min_size=4, max_size=4))
def test_no_duration_of_an_mp4_is_believed(box: str, duration: bytes) -> None:
    """In any of its three headers."""
    data = recorded("fragmented mp4")
    at = data.index(box.encode()) + (24 if box == "tkhd" else 20)
    damaged = with_patch(data, at, duration)
    assert heard(damaged)[0] >= seconds_of_ffmpeg(damaged) - 0.001
    assert heard(damaged)[0] == pytest.approx(SECONDS, abs=FRAME_S)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_no_length_in_an_mp3_header_is_believed(frames: int, n_bytes: int) -> None:
    """Its first frame may tell a number of frames and of bytes (Xing, Info)."""
    data = recorded("mp3")
    at = max(data.find(b"Xing"), data.find(b"Info"))
    damaged = with_patch(data, at + 8, struct.pack(">II", frames, n_bytes))
    assert heard(damaged)[0] == pytest.approx(SECONDS, abs=0.3)


@pytest.mark.parametrize("at", [596, 600, 604])
def test_damage_behind_which_libsndfile_counts_below_nothing(at: int) -> None:
    """It looks for the next frame behind the end that it has counted, and has less than no samples left there."""
    mp3 = recording("mp3", tone()[: RATE // 2])
    with pytest.raises(AudioFormatError, match="no audio that can be decoded"):
        heard(mp3[:at] + b"[" * 60_000 + mp3[at:])


@settings(max_examples=120)
@given(st.sampled_from(sorted(FORMATS)), st.sampled_from([0.01, 0.03, 0.1, 0.3]), st.integers(0, 2**32))
def test_damage_in_the_middle_costs_what_is_damaged(name: str, share: float, seed: int) -> None:
    """What FFmpeg decodes is decoded, before the damage and behind it; what is missing is told."""
    damaged = with_random_bytes(recorded(name), share, seed)
    if (most := seconds_of_ffmpeg(damaged)) > 0:
        assert heard(damaged)[0] >= most - 0.02


@settings(max_examples=120)
@given(st.sampled_from(sorted(FORMATS)), st.floats(0.3, 0.999))
def test_a_cut_end_costs_what_is_missing(name: str, share: float) -> None:
    """A recording without its end is transcribed up to there."""
    data = recorded(name)
    cut = data[: int(len(data) * share)]
    if (most := seconds_of_ffmpeg(cut)) > 0:
        assert heard(cut)[0] >= most - 0.02


@pytest.mark.parametrize(
    "data", [recorded("flac"), recorded("wav 24 bit"), wav(format_="AIFF")], ids=["flac", "wav", "aiff"]
)
def test_a_cut_end_is_told(data: bytes) -> None:
    """Where the header says how long the whole was: with the place, and the length that can be decoded."""
    seconds, notes = heard(data[: len(data) // 2])
    assert notes[-1].at_s == pytest.approx(seconds, abs=0.2)
    assert "its header announces 2.0 s of sound" in notes[-1].text


@settings(max_examples=20)
@given(st.integers(10, 1000))
def test_a_fragmented_mp4_that_breaks_off_is_told(n_left: int) -> None:
    """Wherever in its last fragment."""
    seconds, notes = heard(in_last_fragment(recorded("fragmented mp4"), n_left))
    assert notes[-1].at_s == pytest.approx(seconds, abs=0.01)


@pytest.mark.parametrize("name", ["mp3", "aac", "flac"])
def test_a_packet_that_is_damaged_is_told(name: str) -> None:
    """With its place."""
    data = recorded(name)
    told = [note for seed in range(20) for note in heard(with_random_bytes(data, 0.1, seed))[1]]
    assert any("could not be decoded" in note.text and note.at_s is not None for note in told)


def test_a_gap_in_the_times_of_packets_is_told() -> None:
    """Fragments that are missing fail nowhere: only the times of the others show them."""
    data = recorded("fragmented mp4")
    moofs = [at for at in range(len(data)) if data.startswith(b"moof", at)]
    seconds, [note, *_] = heard(data[: moofs[2] - 4] + data[moofs[6] - 4 :])
    assert seconds < SECONDS - 0.5
    assert note.text.endswith("is missing, or was not recorded")


@settings(max_examples=60)
@given(st.sampled_from(["mp3", "aac", "flac", "ogg opus", "ogg flac", "wav 24 bit", "webm opus", "fragmented mp4"]))
def test_recordings_one_behind_the_other_are_all_heard(name: str) -> None:
    """As of a recorder that was stopped and started."""
    assert heard(recorded(name) * 3)[0] == pytest.approx(3 * SECONDS, abs=3 * FRAME_S)


@settings(max_examples=30)
@given(st.lists(SIZES, min_size=2, max_size=4))
def test_wavs_one_behind_the_other_are_told_apart_without_sizes(sizes: list[int]) -> None:
    """The next header ends the samples, where the size does not."""
    data = b"".join(riff_sizes(wav(), size, size) for size in sizes)
    assert heard(data)[0] == pytest.approx(len(sizes) * SECONDS, abs=0.01)


def holds_no_header(junk: bytes) -> bool:
    """Whether nothing in these bytes is the header of a recording, but for the few bits of a frame."""
    heads = (junk[at : at + HEAD_BYTES] for at in range(len(junk)))
    return not any(is_known(head) and not is_frame(head) for head in heads)


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(FORMATS)),
    st.binary(max_size=3000).filter(holds_no_header) | st.sampled_from([TAG, TAG + TAG, b"G", b"GG"]),
)
@example("caf", b"G")
@example("caf", b"\xff\xe0")
@example("flac", b"\xff\xf0" + bytes(40))
def test_bytes_in_front_are_passed_over(name: str, junk: bytes) -> None:
    """Tags, and bytes of chance, before any container that has a header."""
    data = junk + recorded(name)
    if name not in ("mp3", "aac", "mpegts"):
        assert heard(data)[0] == pytest.approx(SECONDS, abs=FRAME_S)
    elif (most := seconds_of_ffmpeg(data)) > 0:
        assert heard(data)[0] >= most - 0.1  # what the encoder has added is left out


def test_samples_that_are_no_numbers_are_silence_and_told() -> None:
    """The rest of the recording is heard."""
    data = bytearray(wav("FLOAT"))
    data[-400:-200] = np.full(50, np.nan, "<f4").tobytes()
    seconds, [note] = heard(bytes(data))
    assert seconds == SECONDS
    assert note.text == "sound is not made of numbers: silence stands for it"


def test_a_recording_that_cannot_be_decoded_costs_no_other() -> None:
    """It is told, at its place."""
    broken = wav()[:20] + bytes(16) + wav()[36:60]
    seconds, [note] = heard(wav() + broken + wav())
    assert seconds == 2 * SECONDS
    assert str(note) == "at 2.0 s: recording 2 of 3 in this file could not be decoded"


def test_a_film_without_sound_is_refused() -> None:
    """It has a track, but none of sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(10):
            out.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        out.mux(stream.encode(None))
    with pytest.raises(AudioFormatError, match="no audio track"):
        heard(file.getvalue())


@pytest.mark.parametrize("data", [b"", b"x" * 100, wav()[:44], TAG, recorded("mp3")[:20]])
def test_a_file_without_any_sound_is_refused(data: bytes) -> None:
    """It is the only one that is."""
    with pytest.raises(AudioFormatError, match="file: no audio that can be decoded"):
        read_sound(io.BytesIO(data), "file")


@settings(max_examples=200)
@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"RIFF\0\0\0\0WAVEfmt ", b"FORM\0\0\0\0AIFFCOMM", b"\0\0\0\x18ftypisom"]),
)
def test_bytes_of_chance_are_refused_or_read(data: bytes, beginning: bytes) -> None:
    """Nothing else happens."""
    with contextlib.suppress(AudioFormatError):
        heard(beginning + data)
