"""
Heads of fragments of MP4 (`moof`): whether FFmpeg can read one.

FFmpeg gives up a whole recording for one head whose parts do not fit together. What a head says is redundant: boxes
fill the box around them, flags tell how long a box is, and the index tells which tracks there are.

Source: ISO/IEC 14496-12, 8.8 (movie fragments).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from streamer.audio.chunked import is_name

_TRACK_FIELDS = {0x01: 8, 0x02: 4, 0x08: 4, 0x10: 4, 0x20: 4}
"""Bytes of the fields of a `tfhd` box by their flags."""
_RUN_FIELDS = {0x01: 4, 0x04: 4}
"""Of a `trun` box."""
_SAMPLE_FIELDS = {0x100: 4, 0x200: 4, 0x400: 4, 0x800: 4}
"""Of each sample of a `trun` box."""
_TRACK = re.compile(rb"\0\0\0\x20trex....(....)", re.DOTALL)


def tracks_of(index: bytes) -> frozenset[int]:
    """Numbers of the tracks of which fragments follow an index (`moov`)."""
    return frozenset(int.from_bytes(number, "big") for number in _TRACK.findall(index))


def is_readable(head: bytes, tracks: frozenset[int]) -> bool:
    """
    Whether everything in a head is as long as it says, and of a track that there is.

    Args:
        head: From its size on.
        tracks: See `tracks_of`; none: they are not known.
    """
    parts = [*_boxes(head[8:])]
    parts_of_tracks = [part for name, part in parts if name == b"traf"]
    is_whole = _fill(parts, len(head) - 8) and bool(parts_of_tracks)
    return is_whole and all(_is_track(part, tracks) for part in parts_of_tracks)


def _is_track(track: bytes, tracks: frozenset[int]) -> bool:
    parts = [*_boxes(track)]
    has_head = any(name == b"tfhd" for name, _ in parts)
    return has_head and _fill(parts, len(track)) and all(_is_box_of_track(*each, tracks) for each in parts)


def _is_box_of_track(name: bytes, part: bytes, tracks: frozenset[int]) -> bool:
    """Whether a box without its first 8 bytes is as long as its flags say, and of a track that there is."""
    if name not in (b"tfhd", b"trun"):
        return True
    if len(part) < 8:
        return False
    flags, number = (int.from_bytes(part[at : at + 4], "big") for at in (0, 4))
    if name == b"tfhd":
        is_known = number in tracks or not tracks
        return is_known and len(part) == 8 + _n_bytes(_TRACK_FIELDS, flags)
    return len(part) == 8 + _n_bytes(_RUN_FIELDS, flags) + number * _n_bytes(_SAMPLE_FIELDS, flags)


def _n_bytes(fields: dict[int, int], flags: int) -> int:
    return sum(n for flag, n in fields.items() if flags & flag)


def _fill(parts: list[tuple[bytes, bytes]], n_bytes: int) -> bool:
    """Whether these boxes take so many bytes together."""
    return sum(8 + len(part) for _, part in parts) == n_bytes


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each box, one after the other, as far as they are whole and hold no sound."""
    at = 0
    while at + 8 <= len(data):
        n_bytes, name = struct.unpack(">I4s", data[at : at + 8])
        if not is_name(name) or name == b"mdat" or not 8 <= n_bytes <= len(data) - at:
            return
        yield name, data[at + 8 : at + n_bytes]
        at += n_bytes
