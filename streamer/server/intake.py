"""
Feeds one client's audio and messages into its session: audio is decoded to 16 kHz mono first.

The work of one message is bounded: long audio is decoded in pieces, between which other clients are served. Live
recordings without sound wait for what their caller may spend on them (`decoding_budget`), and so does a client that
changes its key terms all the time, since each list is encoded and kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TypeAlias

from streamer.access.decoding_budget import DecodingAccount
from streamer.access.token_buckets import Bucket
from streamer.audio.container_stream import NOTHING_YET
from streamer.audio.containers import ContainerDecoder
from streamer.audio.mixer import Mixer
from streamer.audio.pcm import SAMPLE_RATE, AudioDecoder, Samples
from streamer.errors import AudioFormatError
from streamer.protocol.bounds import MAX_KEYTERMS_BYTES, keyterms_bytes
from streamer.protocol.messages import SAMPLE_BYTES, AudioFormat, Flush
from streamer.protocol.options import Update
from streamer.server.interfaces import OpenSession
from streamer.server.tasks import TimeSlice

Decoder: TypeAlias = AudioDecoder | ContainerDecoder

DECODING_S = 0.002
"""Seconds in which other clients get their turn while another thread decodes."""
SLICE_BYTES = 65_536
"""Bytes of a live recording that are paid for and decoded at once; no packet of Opus is longer."""
KEYTERM_BYTES_PER_S = 2048.0
"""Key terms that one connection may change each second, after `MAX_KEYTERMS_BYTES` at once; then it is not read."""
MIN_UPDATE_BYTES = 64
"""What an update counts as, however short its list: a new list of terms costs a trie."""


def decoder_of(audio: AudioFormat) -> Decoder:
    """Make the decoder for an announced format. Raises ProtocolError (`no_codecs`): compressed audio needs PyAV."""
    if audio.encoding not in SAMPLE_BYTES:
        return ContainerDecoder(is_opus=audio.encoding == "opus_packets")
    return AudioDecoder(audio.encoding, audio.rate, audio.channels, Mixer(audio.channels, audio.rate).mix)


class Intake:
    """
    Input of one connection to its session. Once another connection has resumed the session, input does nothing.

    Args:
        stream: The session, just opened or resumed.
        decoder: For the audio format of the connection.
        account: Pays for what is decoded.
    """

    def __init__(self, stream: OpenSession, decoder: Decoder, account: DecodingAccount) -> None:
        self._stream, self._decoder, self._holder = stream, decoder, stream.holder
        self._account = account
        self._keyterms = Bucket(KEYTERM_BYTES_PER_S, MAX_KEYTERMS_BYTES)

    async def take(self, message: bytes | Update | Flush) -> None:
        """
        Feed audio, change options, or flush. Waits while the backlog is full or the caller has spent too much on
        recordings without sound; cancelling is safe at any block of audio.

        Raises:
            AudioFormatError: The audio is not as announced.
        """
        match message:
            case bytes() if isinstance(self._decoder, ContainerDecoder):
                await self._decode(self._decoder, message)
            case bytes():
                await self._feed(self._decoder.blocks(message))
            case Update() if self._is_open:
                self._stream.update(message)
                await self._pay_for(message)
            case Flush(id=id_):
                # the samples in the resampler were sent before the flush
                await self._stream.feed(self._decoder.finish(), self._holder)
                if self._is_open:
                    self._stream.flush(id_)

    async def _decode(self, decoder: ContainerDecoder, message: bytes) -> None:
        for at in range(0, len(message), SLICE_BYTES):
            piece, skipped_s = message[at : at + SLICE_BYTES], decoder.left_to_skip_s
            if not await self._account.take(len(piece)):
                return  # whoever resumes sends it again
            try:
                await self._feed(decoder.blocks(piece))
            except AudioFormatError:
                self._account.fail()
                raise
            # of a client that resumes: what its session has heard before is sound too
            self._account.pay(max(0, round((skipped_s - decoder.left_to_skip_s) * SAMPLE_RATE)))

    async def _feed(self, blocks: Iterator[Samples]) -> None:
        time_slice = TimeSlice()
        for samples in blocks:
            self._account.pay(len(samples))
            if samples is NOTHING_YET:
                await asyncio.sleep(DECODING_S)
                continue
            await self._stream.feed(samples, self._holder)
            await time_slice.give_way()

    async def _pay_for(self, update: Update) -> None:
        """Wait, and so let the client wait, until its bucket can pay for the key terms of an update."""
        if update.keyterms is not None:
            cost = max(MIN_UPDATE_BYTES, keyterms_bytes(update.keyterms))
            await asyncio.sleep(self._keyterms.spend(cost, time.monotonic()))

    async def finish(self) -> None:
        """
        Feed what the decoder still holds: no audio follows.

        Raises:
            AudioFormatError: There was nothing that can be decoded.
        """
        try:
            await self._feed(self._decoder.end())
        except AudioFormatError:
            self._account.fail()
            raise

    def close(self) -> None:
        """Let go of the decoder; call it in any case. A second call does nothing."""
        self._decoder.close()

    def end(self, *, continues_elsewhere: bool = False) -> None:
        """End the session unless another connection has it; `continues_elsewhere`: the client will resume elsewhere."""
        if self._is_open:
            self._stream.end(continues_elsewhere=continues_elsewhere)

    @property
    def _is_open(self) -> bool:
        return self._stream.holder == self._holder
