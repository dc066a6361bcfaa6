"""Where the first recording of a file begins: behind tags, the header of a form, or bytes of chance."""

from __future__ import annotations

from typing import IO

from streamer.audio.frames import chain_at
from streamer.audio.parts import read_at
from streamer.audio.signatures import HEAD_BYTES, begins_recording, first_recording, has_wav_format, is_frame, is_known

SEARCHED_BYTES = 1_048_576
"""Bytes in front of a recording in which its beginning is looked for."""
FRAME_SEARCHED_BYTES = 4096
"""The same where a frame seems to begin the file: among more bytes of true frames a header may stand by chance."""
_TAG = b"ID3"


def beginning(file: IO[bytes], size: int) -> int | None:
    """
    Where the first recording of a file begins; None where nothing shows one.

    Args:
        file: Its position is moved.
        size: Of the whole file.
    """
    at = tags_end(file, 0)
    head = read_at(file, at, SEARCHED_BYTES) if at < size else b""
    first = head[:HEAD_BYTES]
    if begins_recording(first) or has_wav_format(head):
        return at
    if chain_at(head) or (is_known(first) and not is_frame(first)):
        return 0  # frames, with their tags, or what describes itself
    skipped = len(_TAG) if at else 0  # the length of a tag that leads to nothing is wrong
    n_searched = FRAME_SEARCHED_BYTES if is_frame(first) and not at else SEARCHED_BYTES
    found = first_recording(read_at(file, skipped, n_searched))
    return None if found is None else skipped + found


def tags_end(file: IO[bytes], at: int) -> int:
    """Where the tags (ID3v2) that stand at a place end."""
    while (tag := read_at(file, at, 10))[:3] == _TAG and len(tag) == 10:
        n_bytes = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        at += 10 + n_bytes + (10 if tag[5] & 0x10 else 0)
    return at
