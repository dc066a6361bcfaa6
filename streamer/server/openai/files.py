"""
OpenAI's transcription of uploaded files: each upload is fed to a native session as fast as the scheduler takes it.

Bounded are the size of an upload, the duration of its audio, the uploads read at the same time, and the wait for the
next part of a body. A file is decoded once to count its sound, whatever its header says, and again, one second at a
time, while it is transcribed; the back-pressure of `OpenSession.feed` slows this down. What can be decoded is
transcribed, and what was lost is told. The session of a client that leaves is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import IO, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from streamer.access.keys import Caller
from streamer.access.owners import address_of
from streamer.access.places import Places
from streamer.access.refusals import refusal_headers
from streamer.audio.notes import Note
from streamer.audio.pcm import SAMPLE_RATE, Samples
from streamer.config import Config
from streamer.dialects.openai.errors import RequestError, http_status
from streamer.dialects.openai.http import JSON, TranscriptEvents, body, error_body, read_form, warning_headers
from streamer.dialects.skips import Skips
from streamer.errors import AudioFormatError, OverloadError, StreamerError
from streamer.protocol.events import Bye, Event
from streamer.protocol.options import Task
from streamer.protocol.turns import FinalTurns
from streamer.server.decoder_pool import DecoderPool
from streamer.server.interfaces import OpenSession, SessionService
from streamer.server.openai.forms import UploadForm, read_upload, store
from streamer.server.tasks import run_until_first

MAX_UPLOADS = 32
"""Uploads read or surveyed at the same time; each may take `limits.max_upload_bytes` in the temporary folder."""
MIN_BODY_RATE = 4096.0
"""Bytes of a body each second, once `server.idle_s` is used up: speech as Opus has as many, and a radio link more."""


class FileApi:
    """
    Transcribes uploaded recordings.

    Args:
        scheduler: Opens sessions.
        config: `limits` and `server` for the bounds, `session` for the defaults.
    """

    def __init__(self, scheduler: SessionService, config: Config) -> None:
        self._scheduler, self._config = scheduler, config
        self._places, self._decoders = Places(MAX_UPLOADS, "uploads are being read"), DecoderPool()

    async def transcribe(self, request: Request, task: Task, caller: Caller) -> Response:
        """
        Answer one upload form, with the whole transcript or a stream of events. Cancelling ends the session.

        Args:
            request: A multipart form.
            task: `transcribe`, or `translate` into English.
            caller: Owner of the client's key.

        Raises:
            StreamerError: The upload is refused or failed; `refusal` makes the response.
        """
        async with contextlib.AsyncExitStack() as stack:
            return await self._transcribe(request, task, caller, stack)

    async def _transcribe(
        self, request: Request, task: Task, caller: Caller, stack: contextlib.AsyncExitStack
    ) -> Response:
        owner = caller.name or address_of(request.scope)
        with self._places.taken(owner):
            form = await self._read_form(request)
            stack.callback(form.close)
            if form.file is None:
                message = "file: expected an audio file in this form field"
                raise RequestError("missing_required_parameter", message, "file")
            asked = read_form(form.fields, self._config.session, self._scheduler.languages, task)
            recording = await self._open(form.file, form.file_name, owner, stack)
        options = msgspec.structs.replace(asked.options, revise=asked.options.revise or True)
        stream = await self._scheduler.begin(options, caller=caller.name, revises_all=True)
        stack.callback(_leave, stream)
        events = recording.play(stream)
        stack.push_async_callback(events.aclose)
        if asked.is_streamed:
            transcript = TranscriptEvents(has_logprobs=asked.has_logprobs, warnings=recording.warnings)
            return _Streamed(_server_sent(events, transcript), stack.pop_all())
        turns = FinalTurns()
        await run_until_first(_collect(events, turns), _wait_disconnect(request))
        answer = body(asked, list(turns), recording.duration_s, recording.warnings)
        return Response(answer.content, media_type=answer.media_type, headers=warning_headers(recording.warnings))

    async def _open(self, file: IO[bytes], name: str, owner: str, stack: contextlib.AsyncExitStack) -> Upload:
        """Survey a file, which is moved to the disk for that, and check how long it is."""
        await store(file)
        max_s = self._config.limits.max_recording_s
        recording = Upload(await self._decoders.open(file, name or "file", max_s, owner), max_s)
        stack.callback(recording.close)
        recording.check_length(recording.counted_s)
        return recording

    async def _read_form(self, request: Request) -> UploadForm:
        body = read_body(request, self._config.limits.max_upload_bytes, self._config.server.idle_s)
        return await read_upload(request.headers.get("content-type", ""), body)


class Sound(Protocol):
    """A file that was surveyed and can be decoded."""

    @property
    def duration_s(self) -> float:
        """Sound in it, as counted, seconds."""

    @property
    def notes(self) -> Sequence[Note]:
        """What was lost, and which channels were chosen."""

    async def next_block(self) -> Samples | None:
        """The next samples, (n,), mono at 16 kHz; None at the end. Raises AudioFormatError: decoding failed."""

    def close(self) -> None:
        """Let go of the decoder."""


class Upload:
    """
    An uploaded recording that is decoded and fed to a session.

    Args:
        sound: An open file; `close` closes it.
        max_s: Longest accepted duration, seconds.
    """

    def __init__(self, sound: Sound, max_s: float) -> None:
        self._sound, self._max_s = sound, max_s
        self.warnings = list(map(str, sound.notes))
        """What was lost, and which channels were chosen."""
        self.duration_s = 0.0
        """Duration of the audio fed so far, seconds."""

    @property
    def counted_s(self) -> float:
        """Duration of all its audio, as the survey counted it, seconds."""
        return self._sound.duration_s

    async def play(self, stream: OpenSession) -> AsyncGenerator[Event, None]:
        """
        Feed the whole recording; yield the session's events up to `Bye`, and one for each place where sound was lost.

        Raises:
            RequestError: The audio is longer than was counted, and too long.
            OverloadError: The daemon stopped before the whole recording was transcribed.
            StreamerError: The session could not go on.
        """
        feeding, skips = asyncio.create_task(self._feed(stream)), Skips(self._sound.notes)
        try:
            async for event in stream:
                for skipped in skips.before(event):
                    yield skipped
                yield event
                if isinstance(event, Bye):
                    self._check_heard(event.audio_s, feeding)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)

    async def _feed(self, stream: OpenSession) -> None:
        try:
            while (samples := await self._sound.next_block()) is not None:
                self.duration_s += len(samples) / SAMPLE_RATE
                self.check_length(self.duration_s)
                await stream.feed(samples)
        except AudioFormatError as error:  # what was heard before is not thrown away
            self.warnings.append(f"at {self.duration_s:.1f} s: the rest is lost: {error}")
        finally:
            stream.end()

    def _check_heard(self, audio_s: float, feeding: asyncio.Task[None]) -> None:
        """Raise if a drain ended the session early: part of a transcript must not pass for the whole."""
        if feeding.done():
            feeding.result()
        if not feeding.done() or audio_s < self.duration_s - 0.1:
            raise OverloadError("the daemon stops in the middle of the recording; ask again", retry_after_s=5.0)

    def close(self) -> None:
        """Let go of the decoder."""
        self._sound.close()

    def check_length(self, duration_s: float) -> None:
        """Raise RequestError (413) if the audio is longer than `max_s`."""
        if duration_s > self._max_s:
            message = f"audio of more than {self._max_s:g} s; split it, or raise limits.max_recording_s"
            raise RequestError("audio_too_long", message, "file", status=413)


class _Streamed(StreamingResponse):
    """Server-sent events; closes a stack of resources when they end, fail or are cancelled."""

    def __init__(self, events: AsyncIterator[bytes], stack: contextlib.AsyncExitStack) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _server_sent(events: AsyncIterator[Event], transcript: TranscriptEvents) -> AsyncIterator[bytes]:
    try:
        async for event in events:
            if sent := transcript.project(event):
                yield sent
    except StreamerError as error:
        yield transcript.failed(error)
    else:
        yield transcript.done()


async def _collect(events: AsyncIterator[Event], turns: FinalTurns) -> None:
    async for event in events:
        turns.take(event)


async def _wait_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _leave(stream: OpenSession) -> None:
    stream.end()
    stream.detach(is_final=True)


async def read_body(request: Request, max_bytes: int, idle_s: float) -> AsyncIterator[bytes]:
    """
    Read the body of a request, bounded.

    Args:
        request: Its body was not read yet.
        max_bytes: Longest body.
        idle_s: Longest wait for the next part of the body, and longest debt to MIN_BODY_RATE, seconds.

    Raises:
        RequestError: The body is longer (413), no part of it came in time (408), or the client left before its end.
    """
    began_s = time.monotonic()
    announced = request.headers.get("content-length", "")
    _check_body(int(announced) if announced.isdecimal() and len(announced) < 20 else 0, max_bytes)
    n_bytes, more = 0, True
    while more:
        # a byte a minute would hold one of MAX_UPLOADS for ever
        left_s = began_s + idle_s + n_bytes / MIN_BODY_RATE - time.monotonic()
        try:
            async with asyncio.timeout(min(idle_s, left_s)):
                message = await request.receive()
        except TimeoutError:
            problem = f"body of {n_bytes} bytes so far: too slow, or nothing came for {idle_s:g} s"
            raise RequestError("timeout", problem, status=408) from None
        if message["type"] != "http.request":
            raise RequestError("incomplete_body", "the body ended before its length")
        part, more = message.get("body", b""), message.get("more_body", False)
        n_bytes += len(part)
        _check_body(n_bytes, max_bytes)
        yield part


def _check_body(n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        message = f"body of more than {max_bytes} bytes: split the file, or raise limits.max_upload_bytes"
        raise RequestError("file_too_large", message, "file", status=413)


def refusal(error: StreamerError) -> Response:
    """Make the error response in OpenAI's format, with `Retry-After` where a later try may succeed."""
    return Response(error_body(error), http_status(error), refusal_headers(error), JSON)
