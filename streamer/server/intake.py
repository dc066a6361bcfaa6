"""Feeds one client's audio and messages into its session: audio is decoded to 16 kHz mono first."""

from __future__ import annotations

from typing import TypeAlias

from streamer.audio.opus import WebmDecoder
from streamer.audio.pcm import AudioDecoder
from streamer.protocol.messages import AudioFormat, Flush
from streamer.protocol.options import Update
from streamer.server.interfaces import OpenSession

Decoder: TypeAlias = AudioDecoder | WebmDecoder


def decoder_of(audio: AudioFormat) -> Decoder:
    """Make the decoder for an announced format. Raises ProtocolError (`no_codecs`): webm_opus needs PyAV."""
    if audio.encoding == "webm_opus":
        return WebmDecoder()
    return AudioDecoder(audio.encoding, audio.rate, audio.channels)


class Intake:
    """
    Input of one connection to its session. Once another connection has resumed the session, input does nothing.

    Args:
        stream: The session, just opened or resumed.
        decoder: For the audio format of the connection.
    """

    def __init__(self, stream: OpenSession, decoder: Decoder) -> None:
        self._stream, self._decoder, self._holder = stream, decoder, stream.holder

    async def take(self, message: bytes | Update | Flush) -> None:
        """
        Feed audio, change options, or flush. Waits while the backlog is full; cancelling is safe at any block of audio.

        Raises:
            AudioFormatError: The audio is not as announced.
        """
        match message:
            case bytes():
                for samples in self._decoder.blocks(message):
                    await self._stream.feed(samples, self._holder)
            case Update() if self._is_open:
                self._stream.update(message)
            case Flush(id=id_) if self._is_open:
                await self.finish()  # the samples in the resampler were sent before the flush
                self._stream.flush(id_)

    async def finish(self) -> None:
        """Feed the samples that the resampler still holds: no audio follows, or none for a while."""
        await self._stream.feed(self._decoder.finish(), self._holder)

    def end(self, *, continues_elsewhere: bool = False) -> None:
        """End the session unless another connection has it; `continues_elsewhere`: the client will resume elsewhere."""
        if self._is_open:
            self._stream.end(continues_elsewhere=continues_elsewhere)

    @property
    def _is_open(self) -> bool:
        return self._stream.holder == self._holder
