"""The way of what one client sends into its session: audio decoded, messages carried out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, TypeAlias

from numpy import float32
from numpy.typing import NDArray

from streamer.audio import AudioDecoder
from streamer.events import Event
from streamer.options import SessionOptions, Update
from streamer.opus import WebmDecoder
from streamer.protocol import AudioFormat, Flush


class Stream(Protocol):
    """What a connection needs of its session."""

    @property
    def id(self) -> str:
        """Name of the session."""

    @property
    def token(self) -> str:
        """What proves that a client may resume it."""

    @property
    def options(self) -> SessionOptions:
        """As they are now."""

    @property
    def received_s(self) -> float:
        """Stream time of the sample that is expected next."""

    @property
    def holder(self) -> int:
        """Which connection has the session; another number once a newer one has taken it over."""

    async def feed(self, samples: NDArray[float32], holder: int | None = None) -> None:
        """Take samples, (n,), mono at 16 kHz, from this holder; wait while the session's backlog is full."""

    def update(self, update: Update) -> None:
        """Change options for the audio that comes."""

    def flush(self, id: int) -> None:  # noqa: A002 - the wire's word
        """Ask for a Flushed event once all audio so far is final."""

    def end(self, *, goes_on: bool = False) -> None:
        """No more audio comes, here. Nobody needs to read the events for it to finish; twice is once."""

    def detach(self) -> None:
        """Nobody reads the events for now: keep the session for a while, then end it."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """The events, until after Bye."""


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

    def __init__(self, stream: Stream, decoder: Decoder) -> None:
        self._stream, self._decoder, self._holder = stream, decoder, stream.holder

    async def take(self, message: bytes | Update | Flush) -> None:
        """Audio waits, and may be cancelled, as `Stream.feed`. Raises AudioFormatError."""
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

    def end(self, *, goes_on: bool = False) -> None:
        """End the session, unless it is another's by now; `goes_on` where the client is to resume elsewhere."""
        if self._is_open:
            self._stream.end(goes_on=goes_on)

    @property
    def _is_open(self) -> bool:
        return self._stream.holder == self._holder
