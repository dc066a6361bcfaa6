"""
Frames of MPEG audio (MP3 and its older layers), of AAC in ADTS, and packets of transport streams: streams without a
header, which may be joined and left anywhere. A frame begins with few bits that chance has too, so it is believed only
where others follow it. Pure.

Sources: ISO/IEC 11172-3 and 13818-3 (MPEG audio), 14496-3 (ADTS), 13818-1 (transport streams).
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

CHAIN = 4
"""Frames that follow each other where a stream begins; fewer only up to the end of what is there, but two at least."""
HEAD_BYTES = 6
"""Bytes that tell a frame and its length."""
PACKET_BYTES = 188
"""Of a transport stream."""
_SYNC = re.compile(rb"\xff(?=[\xe0-\xff])|\x47")
_BITS = {
    # kilobits per second by version (1, or 2 and 2.5) and layer
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
_COUNTS = (b"Xing", b"Info")
"""Marks of a first frame of MP3 that tells how many follow."""
_TRIMMED_AT = 141
"""Where, from that mark on, encoders tell the samples that they have added in front and behind, in 12 bits each."""


class Frame(NamedTuple):
    """What the header of a frame tells."""

    n_bytes: int
    """Length with the header."""
    kind: tuple[int, ...]
    """What all frames of one stream have in common."""
    duration_s: float = 0.0
    """0: a packet, which has none."""
    rate: int = 0
    """Samples per second, where frames tell a duration."""


def frame_at(data: bytes, at: int = 0) -> Frame | None:
    """The frame or packet whose header stands at a place in `data`; None: none does."""
    head = data[at : at + HEAD_BYTES]
    if len(head) < HEAD_BYTES:
        return None
    if head[0] == 0x47:
        return Frame(PACKET_BYTES, (0x47,)) if head[3] & 0xC0 == 0 and head[3] & 0x30 else None
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return _adts(head)
    return _mpeg(head)


def chain_at(data: bytes, at: int = 0) -> bool:
    """Whether frames of one kind follow each other from a place in `data` on."""
    first = frame_at(data, at)
    if first is None:
        return False
    frame = first
    for n_found in range(1, CHAIN):
        at += frame.n_bytes
        if at + HEAD_BYTES > len(data):
            return n_found >= 2
        following = frame_at(data, at)
        if following is None or following.kind != first.kind:
            return False
        frame = following
    return True


def first_chain(data: bytes, most: int | None = None) -> int | None:
    """Place of the first frame that others follow; None: there is none, or none at the first `most` likely places."""
    likely = itertools.islice(_SYNC.finditer(data), most)
    return next((found.start() for found in likely if chain_at(data, found.start())), None)


def ends_within_frame(tail: bytes) -> bool:
    """Whether the end of a stream, some kilobytes of it, breaks off within a frame."""
    at = first_chain(tail)
    if at is None:
        return False
    while (frame := frame_at(tail, at)) is not None:
        at += frame.n_bytes
    return at > len(tail) or 0 < len(tail) - at < HEAD_BYTES


def announced_s(data: bytes) -> float | None:
    """Duration that the first frame of an MP3, with which `data` begins, tells of all others, seconds; None: none."""
    first = frame_at(data)
    if first is None or not first.duration_s:
        return None
    at = max(data.find(mark, 0, 64) for mark in _COUNTS)
    if at < 0 or not data[at + 7 : at + 8] or not data[at + 7] & 1:
        return None
    n_frames, trimmed = int.from_bytes(data[at + 8 : at + 12], "big"), data[at + _TRIMMED_AT : at + _TRIMMED_AT + 3]
    n_trimmed = sum(divmod(int.from_bytes(trimmed, "big"), 1 << 12))
    return n_frames * first.duration_s - n_trimmed / first.rate


def _adts(head: bytes) -> Frame | None:
    rate, n_bytes = head[2] >> 2 & 0x0F, (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return Frame(n_bytes, (0xF0, rate)) if rate < 13 and n_bytes >= 7 else None


def _mpeg(head: bytes) -> Frame | None:
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    hertz = _RATES[rate] >> (0 if version == 3 else 1 if version == 2 else 2)
    bits_per_s = 1000 * _BITS[1 if version == 3 else 2, layer][bits - 1]
    n_samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    padding = head[2] >> 1 & 1
    n_bytes = (12 * bits_per_s // hertz + padding) * 4 if layer == 1 else n_samples // 8 * bits_per_s // hertz + padding
    return Frame(n_bytes, (version, layer, rate), n_samples / hertz, hertz)
