"""
Checksums of Ogg pages (RFC 3533). Pure.

A decoder drops a page whose checksum is wrong, with all packets in it.
"""

from __future__ import annotations

_POLYNOMIAL = 0x04C11DB7
_CHECKSUM = slice(22, 26)
"""Where a page tells its own."""


def _remainder(byte: int) -> int:
    found = byte << 24
    for _ in range(8):
        found = found << 1 ^ (_POLYNOMIAL if found & 0x80000000 else 0)
    return found & 0xFFFFFFFF


_REMAINDERS = tuple(map(_remainder, range(256)))


def signed(page: bytes) -> bytes:
    """The page with the checksum of its bytes; a whole page, with any checksum."""
    start, _, behind = page[: _CHECKSUM.start], page[_CHECKSUM], page[_CHECKSUM.stop :]
    found = 0
    for byte in start + bytes(4) + behind:
        found = (found << 8 & 0xFFFFFFFF) ^ _REMAINDERS[found >> 24 ^ byte]
    return start + found.to_bytes(4, "little") + behind


def is_intact(page: bytes) -> bool:
    """Whether the checksum of a whole page is that of its bytes."""
    return signed(page) == page
