"""Messages on a stream of bytes, each behind its length, bounded, and decoded with an error that names the sender."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import TypeVar

import msgspec

LENGTH = struct.Struct(">I")
"""Length of the message behind it, bytes."""
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Framing:
    """How one wire frames its messages."""

    max_bytes: int
    """Of a message."""
    error: type[Exception]
    """Raised for what is no message of the wire."""

    def frame(self, body: bytes) -> bytes:
        """The frame of an encoded message; raises `error` where it is longer than `max_bytes`."""
        return LENGTH.pack(self._checked(len(body))) + body

    def length_of(self, head: bytes) -> int:
        """Bytes of the message behind the first `LENGTH.size` bytes; raises `error` beyond `max_bytes`."""
        (length,) = LENGTH.unpack(head)
        return self._checked(length)

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """The next message of a stream; raises as `readexactly` where it ends, and `error` beyond `max_bytes`."""
        return await reader.readexactly(self.length_of(await reader.readexactly(LENGTH.size)))

    def decode(self, decoder: msgspec.msgpack.Decoder[M], body: bytes, sender: str) -> M:
        """
        The message of a frame; raises `error` where it is none of the sender.

        Args:
            decoder: Of the sender's messages.
            body: Of the frame.
            sender: Who sent it, for the error.
        """
        try:
            return decoder.decode(body)
        except (msgspec.MsgspecError, ValueError) as error:
            raise self.error(f"no message of {sender}: {error}") from error

    def _checked(self, length: int) -> int:
        if length > self.max_bytes:
            raise self.error(f"a message of {length} bytes: expected at most {self.max_bytes}")
        return length
