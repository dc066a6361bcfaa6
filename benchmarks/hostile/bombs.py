"""Audio files that claim or hold more than their size justifies, made byte by byte. No library is needed."""

from __future__ import annotations

import itertools
import random
import struct


def element(name: bytes, content: bytes) -> bytes:
    """An element of Matroska, its size in eight bytes."""
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def matroska(rate: float, n_channels: int, samples: bytes) -> bytes:
    """One track of 8-bit samples in one block."""
    audio = (
        element(b"\xb5", struct.pack(">d", rate))
        + element(b"\x9f", bytes([n_channels]))
        + element(b"\x62\x64", b"\x08")
    )
    track = [
        element(b"\xd7", b"\x01"),
        element(b"\x73\xc5", b"\x01"),
        element(b"\x83", b"\x02"),
        element(b"\x86", b"A_PCM/INT/LIT"),
        element(b"\xe1", audio),
    ]
    tracks = element(b"\x16\x54\xae\x6b", element(b"\xae", b"".join(track)))
    cluster = element(b"\x1f\x43\xb6\x75", element(b"\xe7", b"\x00") + element(b"\xa3", b"\x81\0\0\x80" + samples))
    segment = element(b"\x18\x53\x80\x67", tracks + cluster)
    return element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"matroska")) + segment


def wav(rate: int, n_channels: int, samples: bytes) -> bytes:
    """8-bit samples, with sizes of the largest number."""
    format_ = struct.pack("<HHIIHH", 1, n_channels, rate, rate * n_channels, n_channels, 8)
    return b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", 16) + format_ + b"data\xff\xff\xff\xff" + samples


def boxes(depth: int) -> bytes:
    """An MP4 of boxes in boxes, and a table that claims four thousand million entries."""
    table = struct.pack(">I4sII", 16, b"stsz", 0, 0) + struct.pack(">I", 0xFFFFFFFF)
    for name in itertools.islice(itertools.cycle((b"moov", b"trak", b"mdia", b"minf", b"stbl")), depth):
        table = struct.pack(">I4s", len(table) + 8, name) + table
    return struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + table


def chance(beginning: bytes, n: int) -> bytes:
    """Bytes of chance behind a header."""
    return beginning + random.Random(n).randbytes(n)


BOMBS = {
    "a Matroska at 1 Hz": matroska(1.0, 1, bytes(14_000)),
    "a Matroska of one block of a megabyte": matroska(1000.0, 1, bytes(1_000_000)),
    "a wav at 1,000 Hz": wav(1000, 1, bytes(900_000)),
    "a wav of 255 channels": wav(8000, 255, bytes(900_000)),
    "an MP4 of boxes in boxes": boxes(3000),
    "a megabyte of chance as MP3": chance(b"\xff\xfb\x90\x64", 1_000_000),
    "a megabyte of chance as Ogg": chance(b"OggS\0\x02", 1_000_000),
    "a megabyte of chance as FLAC": chance(b"fLaC\0\0\0\x22" + bytes(34), 1_000_000),
    "ten thousand headers of wav": wav(8000, 1, b"")[:44] * 10_000,
}
"""By what they are."""
