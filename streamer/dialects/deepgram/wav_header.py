"""The header of a WAV stream: the format of its samples, and where they begin."""

from __future__ import annotations

import struct

import msgspec

from streamer.errors import AudioFormatError
from streamer.protocol.messages import AudioFormat, Encoding

MAX_HEADER_BYTES = 65_536
"""Largest header; more bytes without a data chunk are refused."""
_ENCODINGS: dict[tuple[int, int], Encoding] = {
    (1, 16): "pcm_s16le",
    (3, 32): "pcm_f32le",
    (6, 8): "alaw",
    (7, 8): "mulaw",
}
"""Encoding by format tag and bits per sample."""
_EXTENSIBLE = 0xFFFE


class WavHeader:
    """Reads the header from the beginning of a stream, in pieces of any size."""

    def __init__(self) -> None:
        self._bytes = b""

    def receive(self, data: bytes) -> tuple[AudioFormat, bytes] | None:
        """
        Return the format and the audio bytes after the header; None while the header is incomplete.

        Raises:
            AudioFormatError: The data is not a WAV header, or announces audio that is not supported.
        """
        self._bytes += data
        if not b"RIFF".startswith(self._bytes[:4]) and not self._bytes.startswith(b"RIFF"):
            raise AudioFormatError(
                "no encoding was named and this is neither wav nor webm: send encoding=linear16&sample_rate=…"
            )
        audio, at = None, 12
        while at + 8 <= len(self._bytes):
            name, size = self._bytes[at : at + 4], int.from_bytes(self._bytes[at + 4 : at + 8], "little")
            if name == b"data":
                if audio is None:
                    raise AudioFormatError("this wav has no format before its data")
                return audio, self._bytes[at + 8 :]
            if name == b"fmt " and at + 8 + size <= len(self._bytes):
                audio = _format(self._bytes[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
        if len(self._bytes) > MAX_HEADER_BYTES:
            raise AudioFormatError(f"no audio within {MAX_HEADER_BYTES} bytes of wav header")
        return None


def _format(chunk: bytes) -> AudioFormat:
    if len(chunk) < 16:
        raise AudioFormatError(f"wav format of {len(chunk)} bytes: expected 16 or more")
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        tag = int.from_bytes(chunk[24:26], "little")
    if (tag, bits) not in _ENCODINGS:
        raise AudioFormatError(f"wav format {tag} with {bits} bits: expected 16-bit or float samples, mu-law or A-law")
    try:
        fields = {"encoding": _ENCODINGS[tag, bits], "rate": rate, "channels": channels}
        return msgspec.convert(fields, AudioFormat)
    except msgspec.ValidationError as error:
        raise AudioFormatError(f"wav of {rate} hertz and {channels} channels: {error}") from None
