"""
Reads recordings by FFmpeg (PyAV, extra `codecs`): everything that it can decode, past damaged packets.

Files are not trusted, so FFmpeg may open containers only: playlists and stream descriptions can name other files and
addresses. It may decode sound only: the pictures of a video take memory and threads, and nobody asks for them. Samples
come at the rate and in the channels of each frame, whatever the header says.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from streamer.audio.pcm import Samples
from streamer.audio.reader import PIECE_VALUES, Block, Track, cleaned, problem_of_layout
from streamer.audio.signatures import RIFX
from streamer.errors import AudioFormatError
from streamer.extras import missing

CONTAINERS = (
    "mov",
    "matroska",
    "ogg",
    "mp3",
    "aac",
    "wav",
    "w64",
    "flac",
    "aiff",
    "caf",
    "asf",
    "amr",
    "mpeg",
    "mpegts",
    "au",
    "avi",
    "flv",
    "mxf",
    "ac3",
    "eac3",
    "dts",
    "loas",
    "wv",
    "tta",
    "ape",
    "voc",
    "nistsphere",
)
"""Formats that FFmpeg may detect."""
EXACT = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "wav", "w64", "flac", "aiff", "caf", "au", "wv", "tta", "ape")
"""Formats whose header tells a length. FFmpeg guesses it for all others from the rate of their bits."""
TIMED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "ogg")
"""Formats that tell when each packet is heard, so that a packet that is lost leaves a gap."""
MIN_GAP_S, MAX_GAP_S = 0.25, 86_400.0
"""Gaps that are told, seconds: times of recorders are inexact, and damaged ones can be anything."""
UNKNOWN = (
    "it is in no format that is known, or its header is damaged: convert it to wav, flac, mp3 or mp4, as "
    "`ffmpeg -i FILE out.wav` does"
)
"""What to say of what FFmpeg cannot open; its own words name no remedy."""
_DTYPES = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "s64": np.int64, "flt": np.float32, "dbl": np.float64}
"""Of samples by FFmpeg's name of their format, without the letter for planes."""
MAX_TRACKS = 8
"""Tracks that are read; of more the first."""
MAX_FAILURES = 16
"""Failures in a row after which the rest of a file is given up."""


class FfmpegReader:
    """
    One recording.

    Args:
        file: Its bytes; must be seekable. The caller closes it.
        name: For error messages.

    Raises:
        AudioFormatError: PyAV is not installed, or finds no audio track.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._name = name
        self._container = _opened(file, name)
        audio = [stream for stream in self._container.streams.audio if stream.codec_context is not None]
        self._streams = {stream.index: number for number, stream in enumerate(audio[:MAX_TRACKS])}
        self._audio = audio[:MAX_TRACKS]
        if not self._audio:
            self._container.close()
            raise AudioFormatError(f"{name}: no audio that can be decoded (no audio track)")
        for stream in self._audio:
            stream.codec_context.thread_count = 1  # a process that decodes uploads may start none
        self.tracks = [Track() for _ in self._audio]
        self._speakers: dict[str, tuple[str, ...]] = {}
        self._is_timed = self._container.format.name in TIMED
        self._expected_s: dict[int, float] = {}
        """When the next frame of each track is due, seconds."""

    def announced_s(self, track: int) -> float | None:
        """As `Reader.announced_s`."""
        name, container, stream = self._container.format.name, self._container, self._audio[track]
        if name not in EXACT:
            return None
        if len(container.streams) > 1:  # a picture or another track may be longer than this one
            return float(stream.duration * stream.time_base) if stream.duration else None
        return float(container.duration) / 1e6 if container.duration else None

    def blocks(self) -> Iterator[Block]:
        """As `Reader.blocks`."""
        for packet in packets(self._container, self._audio, self._count_failure):
            number = self._streams[packet.stream.index]  # the last packet of a track has no index of its own
            for frame in self._frames(packet, self.tracks[number]):
                if self._is_timed:
                    self._tell_gap(frame, number)
                yield from self._blocks(frame, number)

    def close(self) -> None:
        """As `Reader.close`."""
        self._container.close()

    def _count_failure(self) -> None:
        for track in self.tracks:
            track.losses.add(track.decoded_s, 0.0)

    def _frames(self, packet: Any, track: Track) -> list[Any]:
        import av

        frames: list[Any] = []
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            duration = packet.duration * packet.time_base if packet.duration and packet.time_base else 0
            track.losses.add(track.decoded_s, min(float(duration), 1.0))
        return frames

    def _blocks(self, frame: Any, number: int) -> Iterator[Block]:
        track, rate, layout = self.tracks[number], frame.sample_rate, frame.layout
        if problem := problem_of_layout(rate, layout.nb_channels):
            track.losses.add(track.decoded_s, 0.0, f"has {problem}")
            return
        for piece in pieces(frame):
            samples = cleaned(piece, track, rate)
            yield Block(number, rate, self._names(layout), samples)
            track.count(len(samples), rate)

    def _tell_gap(self, frame: Any, number: int) -> None:
        """Count a loss where the time of a frame says that others are missing before it."""
        if frame.pts is None or not frame.time_base or not frame.sample_rate:
            return
        track, at_s = self.tracks[number], float(frame.pts * frame.time_base)
        gap_s = at_s - self._expected_s.get(number, at_s)
        if MIN_GAP_S < gap_s < MAX_GAP_S:
            track.losses.add(track.decoded_s, gap_s, "is missing, or was not recorded")
        self._expected_s[number] = at_s + frame.samples / frame.sample_rate

    def _names(self, layout: Any) -> tuple[str, ...]:
        if layout.name not in self._speakers:
            self._speakers[layout.name] = tuple(channel.name for channel in layout.channels)
        return self._speakers[layout.name]


def pieces(frame: Any) -> Iterator[Samples]:
    """
    Samples of one frame of PyAV, (n, n_channels), a second and PIECE_VALUES at a time at most: a packet may hold any
    number, and at a low rate becomes many more. They may be infinite or no numbers.
    """
    stored = _stored(frame)
    n_channels = frame.layout.nb_channels
    by_time = stored.T if frame.format.is_planar else stored.reshape(-1, n_channels)  # (n, n_channels)
    n_piece = max(1, min(PIECE_VALUES // n_channels, frame.sample_rate))
    for at in range(0, len(by_time), n_piece):
        yield _floats(by_time[at : at + n_piece])


def _stored(frame: Any) -> np.ndarray[Any, Any]:
    """
    Samples of a frame, (n_channels, n) where each channel has a plane of its own, else (1, n * n_channels).

    PyAV's `to_ndarray` knows no samples of 64 bits, and of more than eight channels it takes for further planes
    whatever lies behind the last one, which ends the process.
    """
    n_planes, n = (frame.layout.nb_channels, 1) if frame.format.is_planar else (1, frame.layout.nb_channels)
    dtype = _DTYPES[frame.format.name.removesuffix("p")]
    return np.stack([np.frombuffer(plane, dtype, n * frame.samples) for plane in frame.planes[:n_planes]])


def packets(container: Any, streams: Sequence[Any], count_failure: Callable[[], None] = lambda: None) -> Iterator[Any]:
    """
    All packets of some tracks, at last an empty one of each; damage between them is passed over.

    Args:
        container: Opened by PyAV.
        streams: Its tracks.
        count_failure: Called where no next packet is found; after `MAX_FAILURES` in a row the rest is given up.
    """
    import av

    n_failures = 0
    while n_failures < MAX_FAILURES:
        try:
            for packet in container.demux(streams):
                n_failures = 0 if packet.size else n_failures
                yield packet
        except (av.error.FFmpegError, ValueError):
            n_failures += 1
            count_failure()
        else:
            return
    for stream in streams:
        packet = av.Packet()
        packet.stream = stream
        yield packet


def allowed() -> dict[str, str]:
    """What FFmpeg may open and decode, as options of a container."""
    return {
        "format_whitelist": ",".join(CONTAINERS),
        "protocol_whitelist": "none",
        "codec_whitelist": _sound_decoders(),
    }


@functools.cache  # one look at each of some hundred codecs, which stay the same
def _sound_decoders() -> str:
    import av

    sound = []
    for name in av.codecs_available:
        with contextlib.suppress(ValueError):  # an encoder alone has this name
            codec = av.Codec(name, "r")
            if codec.type == "audio":
                sound.append(codec.name)
    return ",".join(sound)


def _opened(file: IO[bytes], name: str) -> Any:
    try:
        import av
    except ImportError:
        raise AudioFormatError(f"{name}: not wav, flac, ogg or mp3, and {missing('codecs')}") from None
    is_big_endian = file.read(4) == RIFX
    file.seek(0)
    if is_big_endian:
        raise AudioFormatError(
            f"{name}: no audio that can be decoded (FFmpeg takes its samples for little-endian ones)"
        )
    try:
        # without `mode` PyAV uses the file's own: a temporary file, open for writing, would become an output
        return av.open(file, mode="r", container_options=allowed(), metadata_errors="replace")
    except (av.error.FFmpegError, ValueError):
        raise AudioFormatError(f"{name}: no audio that can be decoded ({UNKNOWN})") from None


def _floats(stored: np.ndarray[Any, Any]) -> Samples:
    """Samples in [-1, 1], (n, n_channels), of stored ones of any type."""
    if stored.dtype == np.uint8:
        return (stored.astype(np.float32) - np.float32(128)) / np.float32(128)
    if np.issubdtype(stored.dtype, np.integer):
        return stored.astype(np.float32) / np.float32(-float(np.iinfo(stored.dtype).min))
    with np.errstate(over="ignore", invalid="ignore"):  # damaged numbers of 64 bits
        return stored.astype(np.float32)
