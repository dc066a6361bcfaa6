"""Tests of streamer.audio.files."""

from __future__ import annotations

import io
import itertools
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.audio.files import open_audio, read_audio, read_sound, survey
from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import AudioFormatError


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def test_read_audio_mixes_and_resamples(tmp_path: Path) -> None:
    """A 44.1 kHz stereo file is read as its 16 kHz mean."""
    stereo = np.stack([tone(44100), tone(44100, hertz=700)], axis=1)
    soundfile.write(tmp_path / "tone.flac", stereo, 44100, subtype="PCM_24")
    expected = soxr.resample(stereo.mean(axis=1), 44100, SAMPLE_RATE)
    # 24 bit quantisation
    np.testing.assert_allclose(read_audio(tmp_path / "tone.flac"), expected, atol=1e-6)


def test_read_audio_passes_16_khz_through(tmp_path: Path) -> None:
    """A 16 kHz float file is read bit for bit."""
    soundfile.write(tmp_path / "tone.wav", tone(SAMPLE_RATE), SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "tone.wav"), tone(SAMPLE_RATE))


def test_read_audio_names_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is an error naming its path."""
    with pytest.raises(AudioFormatError, match=r"nothing\.wav: no such file"):
        read_audio(tmp_path / "nothing.wav")


def test_read_audio_names_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """With the reason of the system."""
    with pytest.raises(AudioFormatError, match=r"cannot be read: is a directory"):
        read_audio(tmp_path)
    with pytest.raises(AudioFormatError, match=r"cannot be read: file name too long"):
        read_audio(tmp_path / ("x" * 300))


@pytest.mark.parametrize("channels", [1, 2])
def test_integers_of_64_bits_are_read(channels: int) -> None:
    """PyAV gives no arrays of them."""
    samples = np.repeat(tone(SAMPLE_RATE)[:, None], channels, axis=1)
    n = 8 * channels
    format_ = struct.pack("<HHIIHH", 1, channels, SAMPLE_RATE, n * SAMPLE_RATE, n, 64)
    data = (samples * 2.0**63).astype("<i8").tobytes()
    head = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + format_
    found = read_sound(io.BytesIO(head + b"data" + struct.pack("<I", len(data)) + data), "long.wav")
    np.testing.assert_allclose(found.samples, tone(SAMPLE_RATE), atol=1e-6)


def test_a_format_that_is_not_known_is_refused_with_a_remedy() -> None:
    """Also one that FFmpeg knows and may not read."""
    for data in (b"#!/bin/sh\n" * 100, b".RMF\0\0\0\x12\0\0\0\0\0\0" + bytes(100), b""):
        with pytest.raises(AudioFormatError, match=r"clip: no audio that can be decoded .*: convert it to wav"):
            read_sound(io.BytesIO(data), "clip")


def test_a_single_sample_is_no_error() -> None:
    """At 48 kHz it becomes none."""
    file = io.BytesIO()
    soundfile.write(file, tone(48000)[:1], 48000, format="WAV")
    assert len(read_sound(file, "short.wav").samples) == 0


def test_read_audio_says_how_to_get_codecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container libsndfile does not know names the extra that reads it."""
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.m4a").write_bytes(b"\0\0\0\x20ftypM4A " * 10)
    with pytest.raises(AudioFormatError, match=r"clip\.m4a: not wav.* extra codecs is not installed \(av>=14; "):
        read_audio(tmp_path / "clip.m4a")


def test_read_audio_with_codecs(tmp_path: Path) -> None:
    """With the extra `codecs`, an AAC file comes out as the tone that went in."""
    av = pytest.importorskip("av")
    path = tmp_path / "tone.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(44100)[None, :], format="fltp", layout="mono")
        frame.rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    samples = read_audio(path)
    assert abs(len(samples) - SAMPLE_RATE / 2) < 2048
    # lossy and delayed by the encoder: the frequency is what must hold
    peak = np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples)
    assert abs(peak - 440) < 5


def test_without_codecs_libsndfile_reads_and_passes_over_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples come as with them, and what cannot be decoded is told."""
    file = io.BytesIO()
    soundfile.write(file, tone(44100, 2.0), 44100, format="FLAC")
    whole = read_sound(io.BytesIO(file.getvalue()), "clip.flac")
    monkeypatch.setitem(sys.modules, "av", None)

    np.testing.assert_array_equal(read_sound(io.BytesIO(file.getvalue()), "clip.flac").samples, whole.samples)
    damaged = bytearray(file.getvalue())
    damaged[20_000:21_000] = bytes(1000)
    sound = read_sound(io.BytesIO(damaged), "clip.flac")
    assert len(sound.samples) > SAMPLE_RATE / 4
    assert sound.notes


def test_counting_ends_after_the_longest_that_is_wanted() -> None:
    """A small file can hold days."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000 * 3600, np.float32), 8000, format="FLAC")
    n_progress = itertools.count()

    surveyed = survey(file, "hour.flac", max_s=100.0, progress=lambda: next(n_progress))

    assert 100 < surveyed.duration_s < 110
    assert 9 <= next(n_progress) <= 10


def test_read_audio_refuses_what_codecs_cannot_decode(tmp_path: Path) -> None:
    """With the extra `codecs`, rubbish is an error naming the file."""
    pytest.importorskip("av")
    (tmp_path / "clip.m4a").write_bytes(b"\0\0\0\x20ftypM4A " * 10)
    with pytest.raises(AudioFormatError, match=r"clip\.m4a: no audio that can be decoded"):
        read_audio(tmp_path / "clip.m4a")


@pytest.mark.parametrize(("container", "codec"), [("webm", "libopus"), ("mp4", "aac"), ("mpegts", "aac")])
def test_containers_of_browsers_and_phones(container: str, codec: str) -> None:
    """What MediaRecorder and telephones make is read from a file object, whatever its name says."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(48000, 2.5)[None, :], format="fltp", layout="mono")
        frame.rate = 48000
        resampler = av.AudioResampler(format=stream.codec_context.format, rate=48000, frame_size=960)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    file.seek(0)

    audio = open_audio(file, "blob")
    samples = np.concatenate(list(audio.blocks))
    audio.close()

    assert abs(len(samples) / SAMPLE_RATE - 2.5) < 0.1
    assert audio.duration_s == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.001)
    assert audio.notes == ()
    assert not file.closed


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_picture_may_be_longer_than_its_sound(container: str) -> None:
    """No sound is missing where a video goes on without any: the length of the whole is not that of the track."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        # cameras write the picture first
        picture, sound = out.add_stream("mpeg4", rate=5), out.add_stream("aac", rate=16000, layout="mono")
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        for _ in range(25):
            out.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(tone(16000, 2.0)[None, :], format="fltp", layout="mono")
        frame.rate = 16000
        out.mux([*picture.encode(None), *sound.encode(frame), *sound.encode(None)])

    surveyed = survey(file, "talk")

    assert surveyed.duration_s == pytest.approx(2.0, abs=0.2)
    assert surveyed.notes == ()


def test_a_playlist_is_no_audio_file(tmp_path: Path) -> None:
    """FFmpeg would follow it to other files of the machine, or to other machines."""
    pytest.importorskip("av")
    soundfile.write(tmp_path / "secret.wav", tone(SAMPLE_RATE), SAMPLE_RATE)
    concat = f"ffconcat version 1.0\nfile {tmp_path}/secret.wav\n".encode()
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n".encode()

    for playlist in (concat, hls):
        with pytest.raises(AudioFormatError, match=r"upload: no audio that can be decoded"):
            list(open_audio(io.BytesIO(playlist), "upload").blocks)


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        (1, -1, "the channels are out of phase: channels 1, 2 are transcribed, some turned over, not the plain mean"),
        (0, 1, "channel 1 is silent: channel 2 is transcribed, not the plain mean"),
    ],
)
def test_channels_are_chosen_by_what_sounds(left: int, right: int, told: str) -> None:
    """Opposite channels and a silent one leave the sound as loud as it is; what was done is told."""
    file = io.BytesIO()
    soundfile.write(file, tone(SAMPLE_RATE)[:, None] * [[left, right]], SAMPLE_RATE, format="WAV", subtype="FLOAT")
    sound = read_sound(file, "stereo.wav")
    np.testing.assert_allclose(np.abs(sound.samples), np.abs(tone(SAMPLE_RATE)), atol=1e-6)
    assert [str(note) for note in sound.notes] == [told]


@settings(max_examples=30)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=8), st.sampled_from(["WAV", "FLAC"]))
def test_no_layout_of_channels_silences_a_sound(gains: list[float], container: str) -> None:
    """Whatever its level and sign in each of them, as long as it is in one."""
    file = io.BytesIO()
    sound = tone(SAMPLE_RATE)
    soundfile.write(file, sound[:, None] * [gains], SAMPLE_RATE, format=container, subtype="PCM_16")
    heard = np.sqrt((read_sound(file, "layout").samples ** 2).mean())
    assert heard > (0.2 if any(gains) else -1) * np.sqrt((sound**2).mean())


def test_channels_out_of_phase_for_a_while_are_told() -> None:
    """With how long."""
    file, whole = io.BytesIO(), tone(SAMPLE_RATE, 8.0)
    right = np.where(np.arange(len(whole)) < 5 * SAMPLE_RATE, whole, -whole)
    soundfile.write(file, np.stack([whole, right], axis=1), SAMPLE_RATE, format="WAV", subtype="FLOAT")
    sound = read_sound(file, "stereo.wav")
    assert [note.text for note in sound.notes] == [
        "in 3.0 s of it the channels are out of phase: there some are turned over"
    ]
    np.testing.assert_allclose(np.abs(sound.samples[-SAMPLE_RATE:]), np.abs(whole[-SAMPLE_RATE:]), atol=1e-6)


def tracks(*sounds: NDArray[np.float32], container: str = "matroska") -> io.BytesIO:
    """A file with a track for each sound at 16 kHz."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        streams = [out.add_stream("flac", rate=SAMPLE_RATE, layout="mono") for _ in sounds]
        for at in range(0, len(sounds[0]), 4096):
            for stream, sound in zip(streams, sounds, strict=True):
                block = (sound[None, at : at + 4096] * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                frame.sample_rate, frame.pts = SAMPLE_RATE, at
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return file


def test_a_silent_first_track_hides_no_other() -> None:
    """The first that sounds is transcribed; what else sounds is told."""
    first, second = tone(SAMPLE_RATE, 2.0), tone(SAMPLE_RATE, 2.0, hertz=700)
    silent = np.zeros_like(first)
    for sounds, expected, told in (
        ((silent, first), first, ["track 2 of 2 is transcribed: those before it hold no speech"]),
        ((first, silent), first, []),
        ((first, second), first, ["track 1 of 2 is transcribed, not what sounds in 2"]),
    ):
        sound = read_sound(tracks(*sounds), "tracks.mkv")
        np.testing.assert_allclose(sound.samples, expected, atol=1e-4)
        assert [note.text for note in sound.notes] == told


def test_long_files_come_in_blocks() -> None:
    """A block is about a second, so memory does not grow with the file."""
    file = io.BytesIO()
    soundfile.write(file, tone(8000, 20.0), 8000, format="WAV")
    file.seek(0)

    audio = open_audio(file, "long.wav")

    assert audio.duration_s == 20.0
    lengths = [len(block) for block in audio.blocks]
    assert max(lengths) <= 1.1 * SAMPLE_RATE
    assert sum(lengths) == 20 * SAMPLE_RATE


@pytest.mark.parametrize(
    ("rate", "channels", "message"),
    [(500_000, 1, "500000 samples per second, expected 1000 to 384000"), (8000, 65, "65 channels, expected 1 to 64")],
)
def test_absurd_layouts_are_refused(rate: int, channels: int, message: str) -> None:
    """A frame can claim anything; what it claims decides how much memory a second takes."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros((100, channels), np.float32), rate, format="WAV")
    file.seek(0)
    with pytest.raises(AudioFormatError, match=message):
        open_audio(file, "odd.wav")


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("container", ["WAV", "AIFF", "CAF"])
def test_floats_in_the_range_of_integers_are_divided(subtype: str, container: str) -> None:
    """The sound is that of ordinary floats, and the division is told."""
    files = [io.BytesIO(), io.BytesIO()]
    for file, scale in zip(files, (1, 32768), strict=True):
        soundfile.write(file, scale * tone(SAMPLE_RATE), SAMPLE_RATE, format=container, subtype=subtype)
    expected, found = (read_sound(file, "tone") for file in files)
    np.testing.assert_array_equal(found.samples, expected.samples)
    assert not expected.notes
    assert [str(note) for note in found.notes] == [
        "its samples are floats in the range of integers, not of -1 to 1: divided by 32768"
    ]
