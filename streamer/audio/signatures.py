"""The container of a recording, by its first bytes. Pure."""

from __future__ import annotations

from streamer.errors import AudioFormatError

WEBM = b"\x1a\x45\xdf\xa3"
"""First bytes of a WebM recording."""
HEAD_BYTES = 12
"""Bytes that always tell the container."""
_OGG = b"OggS\0"
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
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"\x00\x00\x01\xba",
)
"""Matroska, Ogg, FLAC, tagged MP3, AIFF, CAF, AMR, Wave64, ASF, MPEG."""
_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"free", b"skip", b"wide", b"mdat")
"""Types of the first box of MP4 and QuickTime, after four bytes of size."""


def is_known(head: bytes) -> bool | None:
    """
    Whether a recording that begins with `head` is in a known container; None while `head` is too short to tell.

    MPEG audio frames (MP3, AAC in ADTS) and transport streams count as containers: they describe themselves.
    """
    if begins_recording(head) or is_frame(head) or head[4:8] in _BOXES or head.startswith(_STARTS):
        return True
    return False if len(head) >= HEAD_BYTES else None


def check_known(head: bytes) -> bool:
    """
    Whether `head` is long enough to tell its container.

    Raises:
        AudioFormatError: It is in no known container.
    """
    known = is_known(head)
    if known is False:
        raise AudioFormatError(
            "no encoding was named and this is neither wav nor webm nor another recording (ogg, mp3, aac, flac, "
            "mp4, …): send encoding=linear16&sample_rate=…"
        )
    return known is True


def begins_recording(head: bytes) -> bool:
    """Whether these bytes begin a recording, rather than continue one: headers that stand at a beginning alone."""
    if head.startswith(_OGG):
        return len(head) > 5 and bool(head[5] & _FIRST_PAGE)
    is_riff = head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE"
    return is_riff or head.startswith((WEBM, b"fLaC", b"caff", b"#!AMR")) or head[4:8] == b"ftyp"


def may_begin_recording(head: bytes) -> bool:
    """Whether more bytes could show that these begin a recording."""
    if len(head) >= HEAD_BYTES or begins_recording(head):
        return False
    starts = (WEBM, _OGG, b"fLaC", b"caff", b"#!AMR", b"RIFF", b"RF64", b"RIFX")
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
