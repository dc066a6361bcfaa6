"""Whether a recording breaks off: in or with a damaged page (Ogg), in an element, in packets (ASF), in a frame."""

from __future__ import annotations

from typing import IO

from streamer.audio.frames import ends_within_frame
from streamer.audio.ogg_page import is_intact
from streamer.audio.parts import read_at

TAIL_BYTES = 16_384
"""Bytes at the end in which frames are looked for."""
PAGE_BYTES = 65_307
"""Longest page of Ogg (RFC 3533)."""
MAX_ELEMENTS = 65_536
"""Elements of Matroska that are walked through."""
HEAD_BYTES = 12
"""Longest id and size of an element of Matroska."""
CLUSTER_BYTES = 1_048_576
"""Bytes at the end in which the last cluster is looked for, where lengths do not lead to it."""
_LAST_PAGE = 0x04
_EBML, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x1f\x43\xb6\x75"
_ASF = b"\x30\x26\xb2\x75"
_ASF_HEAD_BYTES = 24
"""Name of an object of ASF, and its size with them."""
_SEGMENT = b"\x18\x53\x80\x67"
_ID3V1_BYTES = 128


def breaks_off(file: IO[bytes], start: int, size: int) -> bool:
    """
    Whether a recording lacks its end. False also where its bytes do not tell.

    Args:
        file: Its position is moved.
        start: Where it begins.
        size: Where it ends, or the file.
    """
    head = read_at(file, start, 4)
    if head == b"OggS":
        return _ogg_breaks_off(_tail(file, start, size, PAGE_BYTES))
    if head == _EBML:
        return _matroska_breaks_off(file, start, size)
    if head == _ASF:
        return _asf_breaks_off(file, start, size)
    tail = _tail(file, start, size, TAIL_BYTES)
    tag = tail[-_ID3V1_BYTES : -_ID3V1_BYTES + 3]
    return tag != b"TAG" and ends_within_frame(tail)


def _tail(file: IO[bytes], start: int, size: int, n: int) -> bytes:
    """So many bytes before `size`, but none before `start`."""
    at = max(start, size - n)
    return read_at(file, at, size - at)


def _ogg_breaks_off(tail: bytes) -> bool:
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return False
    n_segments = tail[at + 26] if at + 26 < len(tail) else 255
    n_bytes = 27 + n_segments + sum(tail[at + 27 : at + 27 + n_segments])
    is_last = at + n_bytes <= len(tail) and tail[at + 5] & _LAST_PAGE
    return not is_last or not is_intact(tail[at : at + n_bytes])


def _asf_breaks_off(file: IO[bytes], start: int, size: int) -> bool:
    """Whether the object of the packets, which follows the header, goes on behind the end."""
    at = start
    for _ in range(2):
        head = read_at(file, min(at, size), _ASF_HEAD_BYTES)
        at += int.from_bytes(head[16:], "little")
    return at > size


def _matroska_breaks_off(file: IO[bytes], start: int, size: int) -> bool:
    """Whether an element goes on behind the end: a cluster, or a block in a cluster of unknown length."""
    at = start
    for _ in range(MAX_ELEMENTS):
        name, n_head, n_bytes = _element(read_at(file, at, HEAD_BYTES))
        if not n_head:
            return 0 < size - at < HEAD_BYTES
        if n_bytes is None or name == _SEGMENT:
            if name == _CLUSTER:
                return _cluster_breaks_off(file, max(at, size - CLUSTER_BYTES), size)
            n_bytes = 0  # its children follow
        at += n_head + n_bytes
        if at >= size:
            return at > size
    return False


def _cluster_breaks_off(file: IO[bytes], at: int, size: int) -> bool:
    """Whether the last cluster in the bytes from a place on breaks off."""
    tail = read_at(file, at, size - at)
    at = tail.rfind(_CLUSTER)
    for _ in range(MAX_ELEMENTS):
        name, n_head, n_bytes = _element(tail[max(at, 0) : at + HEAD_BYTES])
        if at < 0 or not n_head:
            return at >= 0 and len(tail) > at
        at += n_head + (n_bytes if n_bytes is not None and name != _CLUSTER else 0)
        if at >= len(tail):
            return at > len(tail)
    return False


def _element(head: bytes) -> tuple[bytes, int, int | None]:
    """Id, length of id and size, and size of an element of EBML; None: unknown; no length: there is none."""
    n_id = 9 - head[0].bit_length() if head else 9
    if n_id > 4 or len(head) <= n_id:
        return b"", 0, None
    n_size = 9 - head[n_id].bit_length()
    if n_size > 8 or len(head) < n_id + n_size:
        return b"", 0, None
    most = 2 ** (7 * n_size) - 1
    n_bytes = int.from_bytes(head[n_id : n_id + n_size], "big") & most
    return head[:n_id], n_id + n_size, None if n_bytes == most else n_bytes
