"""
Recordings in MP4 and QuickTime: where each begins and ends, with the size of their sound put right.

A recorder that crashed or wrote to a pipe leaves a size of 0 or of what it had written in front of the sound, and
damage any. Where a size does not lead to another box, the index (`moov`) or the next fragment is looked for behind it.
The head of a fragment that is damaged is passed over: FFmpeg would give up the recording for it (`fragments`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from streamer.audio.chunked import is_name
from streamer.audio.fragments import is_readable, tracks_of
from streamer.audio.parts import Part, places, read_at

MAX_BOXES = 65_536
"""Boxes that are walked through: a fragmented recording has two for each fragment."""
MAX_PARTS = 64
"""Parts of the head of a fragment that are walked through: one tells its number, and one is of each track."""
MAX_CHECKED_BYTES = 1_048_576
"""An index or a head that is longer is believed: one fragment may hold hours."""
_FOLLOWING = re.compile(rb"....(?:moov....mvhd|moof....mfhd|ftyp....)", re.DOTALL)
"""What follows the sound."""
_SECOND = re.compile(rb"....(?:moov....mvhd|moof....mfhd|free|mdat)", re.DOTALL)
"""What follows the first box."""
_LEAST_BYTES, _FIRST_BYTES = 12, 256
"""Length of the first box."""
_NAMES = frozenset(b"ftyp styp moov moof mdat mfra sidx ssix free skip wide uuid meta udta emsg prft pdin".split())
"""Boxes that stand beside the sound: any four letters may stand in it."""
_HEAD_BYTES = 16


def movies(file: IO[bytes], start: int | None, size: int) -> Iterator[Part] | None:
    """
    The recordings from a place on: a second `ftyp` box begins the next one.

    Args:
        file: Its position is moved.
        start: Where the first one begins; None: its first box is damaged, or there is none.
        size: Of the whole file.

    Returns:
        None: It is no such recording.
    """
    if start is not None:
        return _parts(file, start, start, size, {}) if read_at(file, start + 4, 4) == b"ftyp" else None
    found = _SECOND.search(read_at(file, 0, _FIRST_BYTES), _LEAST_BYTES)
    if found is None:
        return None
    at = found.start()
    return _parts(file, 0, at, size, {0: (at.to_bytes(4, "big") + b"ftypisom").ljust(at, b"\0")})


def _parts(file: IO[bytes], begin: int, at: int, size: int, patches: dict[int, bytes]) -> Iterator[Part]:
    tracks: frozenset[int] = frozenset()
    for _ in range(MAX_BOXES):
        name, n_bytes = _box(file, at)
        if not _leads_on(file, at + n_bytes, size, n_bytes) and (following := _following(file, name, at, size)):
            patches |= _sized(file, at, following - at)
            n_bytes = following - at
        if n_bytes < 8 or at + n_bytes > size:
            yield Part(begin, size, patches, is_cut=name in (b"moof", b"mdat") and n_bytes >= 8)
            return
        if name in (b"moov", b"moof") and n_bytes <= MAX_CHECKED_BYTES:
            box = read_at(file, at, n_bytes)
            if name == b"moov":
                tracks = tracks_of(box)
            elif not is_readable(box, tracks):
                patches[at + 4] = b"free"
        if name == b"ftyp" and at > begin:
            yield Part(begin, at, patches)
            begin, patches = at, {}
        at += n_bytes
    yield Part(begin, size, patches)


def _box(file: IO[bytes], at: int) -> tuple[bytes, int]:
    """Name and length of the box at a place; 0: there is none, or it goes on to the end of the file."""
    head = read_at(file, at, _HEAD_BYTES)
    if not is_name(head[4:8]):
        return b"", 0
    n_bytes = int.from_bytes(head[:4], "big")
    return head[4:8], int.from_bytes(head[8:16], "big") if n_bytes == 1 else n_bytes


def _leads_on(file: IO[bytes], at: int, size: int, n_bytes: int) -> bool:
    """Whether a box of this length ends where another one begins, or with the file."""
    return n_bytes >= 8 and (at == size or (at < size and _box(file, at)[0] in _NAMES))


def _following(file: IO[bytes], name: bytes, at: int, size: int) -> int | None:
    """Where the next box begins behind one at a place whose size is wrong; None: nothing follows."""
    if name == b"moof" and (sound := _sound_at(file, at)):
        return sound
    found = places(file, _FOLLOWING, at + 8, size, _HEAD_BYTES)
    return next((place for place in found if 8 <= _box(file, place)[1] <= size - place), None)


def _sound_at(file: IO[bytes], at: int) -> int | None:
    """Where the sound behind the head of a fragment at a place begins; None: its parts do not lead to it."""
    at += 8
    for _ in range(MAX_PARTS):
        name, n_bytes = _box(file, at)
        if name in _NAMES or n_bytes < 8:
            return at if name == b"mdat" else None
        at += n_bytes
    return None


def _sized(file: IO[bytes], at: int, n_bytes: int) -> dict[int, bytes]:
    """The bytes that give the box at a place another length; what is no box becomes one that is passed over."""
    if read_at(file, at, 4) == b"\0\0\0\1":
        return {at + 8: n_bytes.to_bytes(8, "big")}
    size = min(n_bytes, 0xFFFFFFFF).to_bytes(4, "big")
    return {at: size if is_name(read_at(file, at + 4, 4)) else size + b"free"}
