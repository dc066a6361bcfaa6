"""
Recordings whose beginning is lost or damaged, with one written anew: where their sound tells what it is.

A later part of what a browser records has no header, nor has a stream of Ogg or FLAC that was joined. Frames of FLAC
say all of themselves; a page of Opus tells more samples than the one before by as many as its packets hold; blocks of
WebM without a header are Opus, as browsers write them.

Sources: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg), RFC 9639 (FLAC), RFC 9559 (Matroska).
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from streamer.audio.ogg_page import signed
from streamer.audio.opus_packet import n_samples
from streamer.audio.parts import Part, read_at

SEARCHED_BYTES = 262_144
"""Bytes in which sound has to begin."""
_PAGE_HEAD_BYTES = 27
_FIRST_PAGE, _CONTINUED = 2, 1
_FRAME = re.compile(rb"\xff[\xf8\xf9][\x10-\xff][\x00-\xae]", re.DOTALL)
_RATES = (0, 88_200, 176_400, 192_000, 8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 0, 0, 0, 0)
_BITS = (0, 8, 12, 0, 16, 20, 24, 32)
_BLOCK = re.compile(rb"(?=\xa3(?:[\x80-\xfe]|[\x40-\x7f].)\x81..[\x80\x00])", re.DOTALL)
_CLUSTER = b"\x1f\x43\xb6\x75"
_OPUS_HEAD = b"OpusHead\1\2\0\0\x80\xbb\0\0\0\0\0"
"""Two channels, as a decoder makes of one too."""
_OPUS_TAGS = b"OpusTags" + bytes(8)
_WEBM_HEAD = (
    bytes.fromhex("1a45dfa3 87 4282 84 7765626d18538067 01ffffffffffffff1654ae6b b8 ae b6")
    + bytes.fromhex("d7 81 01 73c5 81 01 83 81 02 86 86")
    + b"A_OPUS"
    + bytes.fromhex("63a2 93")
    + _OPUS_HEAD
    + bytes.fromhex("e1 89 b5 84 473b8000 9f 81 02")
)
"""EBML header, segment of unknown length, and one track of Opus, number 1."""
_CLUSTER_HEAD = _CLUSTER + bytes.fromhex("01ffffffffffffff e7 81 00")


class _Told(NamedTuple):
    head: bytes
    """What is written anew."""
    at: int
    """Where what is left begins."""


def headless(file: IO[bytes], size: int) -> Part | None:
    """
    A recording without a beginning; None: there is none that could be told.

    Args:
        file: Its position is moved.
        size: Of the whole file.
    """
    data = read_at(file, 0, SEARCHED_BYTES)
    told = _ogg(data) or _webm(data) or _flac(data)
    return None if told is None else Part(told.at, size, head=told.head, lacks_head=True)


class _Page(NamedTuple):
    """One page of Ogg."""

    at: int
    flags: int
    granule: int
    serial: bytes
    packets: tuple[bytes, ...]
    """Those that end in it."""


def _ogg(data: bytes) -> _Told | None:
    pages = [page for page in _pages(data) if not page.packets or not page.packets[0].startswith(_OPUS_TAGS[:8])]
    if not any(itertools.starmap(_is_opus, itertools.pairwise(pages))):
        return None
    first = next(page for page in pages if not page.flags & _CONTINUED)
    head = _page(first.serial, 0, _OPUS_HEAD) + _page(first.serial, 1, _OPUS_TAGS)
    return _Told(head, first.at)


def _pages(data: bytes) -> Iterator[_Page]:
    at = data.find(b"OggS\0")
    while at >= 0 and data[at : at + 5] == b"OggS\0" and at + _PAGE_HEAD_BYTES < len(data):
        flags, granule, serial = struct.unpack("<Bq4s", data[at + 5 : at + 18])
        lengths = data[at + _PAGE_HEAD_BYTES : at + _PAGE_HEAD_BYTES + data[at + 26]]
        begin = stop = at + _PAGE_HEAD_BYTES + len(lengths)
        packets = []
        for length in lengths:
            stop += length
            if length < 255:
                packets.append(data[begin:stop])
                begin = stop
        yield _Page(at, flags, granule, serial, tuple(packets))
        at = stop


def _is_opus(before: _Page, page: _Page) -> bool:
    """Whether a page tells as many more samples as its packets hold, were they Opus."""
    if not all(page.packets) or not page.packets or (before.flags | page.flags) & (_CONTINUED | _FIRST_PAGE):
        return False
    return page.granule - before.granule == sum(map(n_samples, page.packets)) > 0


def _page(serial: bytes, number: int, packet: bytes) -> bytes:
    """A page of one packet at the beginning of a stream."""
    flags = 0 if number else _FIRST_PAGE
    start = b"OggS\0" + bytes([flags]) + bytes(8) + serial + number.to_bytes(4, "little")
    return signed(start + bytes(4) + b"\1" + bytes([len(packet)]) + packet)


def _webm(data: bytes) -> _Told | None:
    for found in _BLOCK.finditer(data):
        at = found.start()
        if _follow(data, at):
            cluster = data.rfind(_CLUSTER, max(0, at - 32), at)
            return _Told(_WEBM_HEAD, cluster) if cluster >= 0 else _Told(_WEBM_HEAD + _CLUSTER_HEAD, at)
    return None


def _follow(data: bytes, at: int) -> bool:
    """Whether some blocks of sound follow each other."""
    for _ in range(4):
        if not _BLOCK.match(data, at):
            return False
        first = data[at + 1]
        n_head, n_bytes = (
            (2, first & 0x7F) if first & 0x80 else (3, int.from_bytes(data[at + 1 : at + 3], "big") & 0x3FFF)
        )
        at += n_head + n_bytes
    return True


def _flac(data: bytes) -> _Told | None:
    last, first = b"", 0
    places = (found.start() for found in _FRAME.finditer(data))
    for at in (place for place in places if _is_frame(data[place : place + 16])):
        layout = bytes([data[at + 2] & 0x0F]) + data[at + 3 : at + 4]
        if layout == last:
            return _Told(_flac_head(*layout), first)
        first, last = at, layout
    return None


def _is_frame(head: bytes) -> bool:
    """Whether a header of a frame stands here: it ends with a sum of itself."""
    n_number = max(1, 8 - (~head[4] & 0xFF).bit_length()) if len(head) == 16 else 16
    n_head = 4 + n_number + {6: 1, 7: 2}.get(head[2] >> 4, 0)
    if n_head >= len(head) or not _RATES[head[2] & 0x0F] or not _BITS[head[3] >> 1 & 7]:
        return False
    found = 0
    for byte in head[:n_head]:
        found ^= byte
        for _ in range(8):
            found = (found << 1 ^ (0x107 if found & 0x80 else 0)) & 0x1FF
    return found == head[n_head]


def _flac_head(rate: int, layout: int) -> bytes:
    """The header of a FLAC, by the codes in the header of a frame."""
    n_channels = (layout >> 4) + 1 if layout >> 4 < 8 else 2
    told = _RATES[rate] << 44 | (n_channels - 1) << 41 | (_BITS[layout >> 1 & 7] - 1) << 36
    return b"fLaC\x80\0\0\x22\0\x10\xff\xff" + bytes(6) + told.to_bytes(8, "big") + bytes(16)
