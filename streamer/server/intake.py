"""The way of what one client sends into its session: audio decoded, messages carried out."""

from __future__ import annotations

from typing import TypeAlias

from streamer.audio.opus import WebmDecoder
from streamer.audio.pcm import AudioDecoder
from streamer.protocol.messages import AudioFormat, Flush
from streamer.protocol.options import Update
from streamer.server.interfaces import OpenSession

Decoder: TypeAlias = AudioDecoder | WebmDecoder


def decoder_of(audio: AudioFormat) -> Decoder:
    """What takes audio as announced. Raises ProtocolError: a part that it needs is not installed."""
    if audio.encoding == "webm_opus":
        return WebmDecoder()
    return AudioDecoder(audio.encoding, audio.rate, audio.channels)


class Intake:
    """
    Closed once another connection has taken the session over.

    Args:
        stream: The session, just opened or resumed.
        decoder: Of what the connection sends.
    """

    def __init__(self, stream: OpenSession, decoder: Decoder) -> None:
        self._stream, self._decoder, self._holder = stream, decoder, stream.holder

    async def take(self, message: bytes | Update | Flush) -> None:
        """Audio waits, and may be cancelled, as `OpenSession.feed`. Raises AudioFormatError."""
        match message:
            case bytes():
                for samples in self._decoder.blocks(message):
                    await self._stream.feed(samples, self._holder)
            case Update() if self._is_open:
                self._stream.update(message)
            case Flush(id=id_) if self._is_open:
                await self.finish()  # what the resampler holds was sent before it
                self._stream.flush(id_)

    async def finish(self) -> None:
        """No more audio comes, or none for a while: take what the resampler holds."""
        await self._stream.feed(self._decoder.finish(), self._holder)

    def end(self, *, continues_elsewhere: bool = False) -> None:
        """End the session unless another connection has it; `continues_elsewhere`: the client will resume elsewhere."""
        if self._is_open:
            self._stream.end(continues_elsewhere=continues_elsewhere)

    @property
    def _is_open(self) -> bool:
        return self._stream.holder == self._holder
