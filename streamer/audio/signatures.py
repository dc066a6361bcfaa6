"""The container of a recording, by its first bytes, and where these stand among others. Pure."""

from __future__ import annotations

import itertools
import re
import struct

from streamer.audio.frames import first_chain
from streamer.errors import AudioFormatError

WEBM = b"\x1a\x45\xdf\xa3"
"""First bytes of a WebM recording."""
WAV = (b"RIFF", b"RF64", b"BW64")
"""First bytes of a WAV and of its longer forms, which other containers (AVI, WebP) may have too."""
RIFX = b"RIFX"
"""First bytes of a WAV with the most significant byte of each number first."""
WAV_HEADER = b"(?:%s)....WAVE" % b"|".join(WAV)
"""Pattern of the first bytes of a WAV, where a dot is any byte."""
HEAD_BYTES = 12
"""Bytes that always tell the container."""
_OGG = b"OggS\0"
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_FIRST_PAGE = 0x02
"""Bit in the header type of an Ogg page: the first page of a stream (RFC 3533)."""
_STARTS = (
    WEBM,
    _OGG,
    b"fLaC",
    b"ID3",
    b"FORM",
    b"caff",
    b"#!AMR",
    b"riff\x2e\x91\xcf\x11",
    _ASF,
    b"\x00\x00\x01\xba",
    b".snd",
    b"FLV\1",
    b"wvpk",
    b"TTA1",
    b"MAC ",
    b"Creative Voi",
    b"NIST_1A",
    b"\x06\x0e\x2b\x34\2\5\1\1",
)
"""
Matroska, Ogg, FLAC, tagged MP3, AIFF, CAF, AMR, Wave64, ASF, MPEG, AU, FLV, WavPack, TTA, Monkey's Audio, VOC, NIST,
MXF.
"""
SEARCHED_BYTES = 4096
"""Bytes of a stream in which the beginning of a recording is looked for."""
LONG_SEARCHED_BYTES = 65_536
"""The same where more of them come at once: searching them takes 4 ms."""
MAX_PLACES = 2048
"""Places in them that are looked at, of headers and of frames: 65,536 bytes of chance have 300, and each takes 3 us."""
_RIFF = (*WAV, RIFX)
_BEGINNINGS = (WEBM, b"fLaC", b"caff", b"#!AMR", b"riff\x2e\x91\xcf\x11", b".snd\0\0", b"FLV\1", _ASF)
"""Headers that stand at a beginning alone, beside those that are told by more than their first bytes."""
_MAGIC = re.compile(b"|".join([*map(re.escape, (*_RIFF, *_BEGINNINGS, _OGG)), b"FORM....AIF", b"....ftyp"]), re.DOTALL)
_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"free", b"skip", b"wide", b"mdat")
"""Types of the first box of MP4 and QuickTime, after four bytes of size."""


def is_known(head: bytes) -> bool | None:
    """
    Whether a recording that begins with `head` is in a known container; None while `head` is too short to tell.

    MPEG audio frames (MP3, AAC in ADTS) and transport streams count as containers: they describe themselves.
    """
    if begins_recording(head) or is_frame(head) or head[4:8] in _BOXES or head.startswith(_STARTS):
        return True
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return True
    return False if len(head) >= HEAD_BYTES else None


def first_recording(data: bytes) -> int | None:
    """Place of the first header in `data`, or of the first frames that follow each other; None: there is neither."""
    headers = (found.start() for found in itertools.islice(_MAGIC.finditer(data), MAX_PLACES))
    header = next((at for at in headers if begins_recording(data[at : at + HEAD_BYTES])), None)
    return first_chain(data, MAX_PLACES) if header is None else header


class Beginning:
    """
    Finds where in a stream a recording begins, while its bytes come.

    A stream may be joined in the middle of a frame, or begin with what somebody has put in front of a recording.
    """

    def __init__(self) -> None:
        self._head = b""
        self._is_found = False
        self._n_next = 2 * HEAD_BYTES
        """Bytes from which on it is searched again: twice as many each time, since messages may be a byte long."""

    def receive(self, data: bytes) -> bytes:
        """
        Return the bytes of the recording that `data` completes; none while more are needed to tell.

        Raises:
            AudioFormatError: There is no beginning of a known container in `SEARCHED_BYTES`.
        """
        if self._is_found:
            return data
        self._head += data
        if is_known(self._head) and not is_frame(self._head):
            return self._from(0)
        if len(self._head) < self._n_next:
            return b""
        self._n_next = 2 * len(self._head)
        at = self._first()
        return b"" if at is None and len(self._head) < SEARCHED_BYTES else self._from(at)

    def end(self) -> bytes:
        """
        Return what is left where no more bytes come: one frame is a recording too.

        Raises:
            AudioFormatError: It is in no known container.
        """
        return self._from(self._first())

    def _first(self) -> int | None:
        return first_recording(self._head[:LONG_SEARCHED_BYTES])

    def _from(self, at: int | None) -> bytes:
        """The recording that begins at a place; None: none was found, but one frame is a recording too."""
        if at is None and self._head and not is_known(self._head):
            raise AudioFormatError(
                "no encoding was named and this is neither wav nor webm nor another recording (ogg, mp3, aac, flac, "
                "mp4, …): send encoding=linear16&sample_rate=…"
            )
        found, self._head, self._is_found = self._head[at or 0 :], b"", True
        return found


def begins_recording(head: bytes) -> bool:
    """Whether these bytes begin a recording, rather than continue one: headers that stand at a beginning alone."""
    if head.startswith(_OGG):
        return len(head) > 5 and bool(head[5] & _FIRST_PAGE)
    if head.startswith(_RIFF):
        return head[8:12] == b"WAVE"
    if head.startswith(b"FORM"):
        return head[8:11] == b"AIF"
    return head.startswith(_BEGINNINGS) or (head[4:8] == b"ftyp" and head[0] == 0)  # it has a few bytes


def has_wav_format(head: bytes) -> bool:
    """Whether the format of a WAV stands at its usual place: its numbers agree with each other."""
    if len(head) < 44:
        return False
    tag, n_channels, rate, bytes_per_s, n_frame, bits = struct.unpack("<HHIIHH", head[20:36])
    n_whole = n_channels * bits // 8
    return tag in (1, 3, 6, 7, 0xFFFE) and 0 < n_whole == n_frame and bytes_per_s == rate * n_frame > 0


def may_begin_recording(head: bytes) -> bool:
    """Whether more bytes could show that these begin a recording."""
    if len(head) >= HEAD_BYTES or begins_recording(head):
        return False
    starts = (*_BEGINNINGS, *_RIFF, _OGG, b"FORM")
    is_box = head[:1] == b"\0" and b"ftyp".startswith(head[4:8])
    return is_box or any(start.startswith(head) or head.startswith(start) for start in starts)


def is_frame(head: bytes) -> bool:
    """Whether a frame of MPEG audio or a packet of a transport stream begins here, by few bits: chance has them too."""
    is_sync = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return is_sync or _is_packet(head)


def _is_packet(head: bytes) -> bool:
    """
    Whether a packet of a transport stream begins here: not scrambled, and with a payload or an adaptation field.

    It begins with G, as does GET, or a stray byte before another header: the bytes after it are neither text nor that.
    """
    if len(head) < HEAD_BYTES or head[0] != 0x47 or head[:HEAD_BYTES].decode("latin-1").isprintable():
        return False
    return head[3] & 0xC0 == 0 and head[3] & 0x30 != 0
