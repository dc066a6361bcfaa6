"""
Relays a foreign protocol: frames to actions of its dialect, actions to sessions, session events to texts.

A client that leaves has its sessions ended: these protocols have no resume. When the daemon stops, the text of the
audio so far is still delivered, then the connection closes with 1012, after which clients connect again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from streamer.access.decoding_budget import DecodingAccount
from streamer.access.keys import Caller
from streamer.config import Config
from streamer.dialects.actions import Action, Dialect, EndAndClose, EndSessions, HangUp, Open, To
from streamer.errors import AudioFormatError, StreamerError
from streamer.protocol.errors import wire_error
from streamer.server.duplex import ClientGone, Transport, converse
from streamer.server.intake import Intake, decoder_of
from streamer.server.interfaces import OpenSession, SessionService


class Relay:
    """
    One client of a foreign protocol.

    Args:
        transport: Accepted before `run`.
        scheduler: Opens sessions.
        config: `server` and `limits` for the bounds, `session` for the defaults.
        caller: Owner of the client's key.
        account: Pays for what is decoded.
        dialect: Translates between the client and `captions.v1`.
    """

    def __init__(
        self,
        transport: Transport,
        scheduler: SessionService,
        config: Config,
        caller: Caller,
        account: DecodingAccount,
        dialect: Dialect,
    ) -> None:
        self._transport, self._scheduler, self._config, self._caller = transport, scheduler, config, caller
        self._account, self._dialect = account, dialect
        self._greeting: list[str] = []
        self._sending = asyncio.Lock()
        self._streams: list[OpenSession] = []
        self._intakes: list[Intake] = []
        self._opened: asyncio.Queue[list[OpenSession]] = asyncio.Queue()
        """Sessions whose events are delivered next; none: the connection ends without any."""
        self._is_silent = asyncio.Event()
        """Set while no session has anything more to say."""
        self._is_silent.set()
        self._received_s = 0.0
        """Stream time at which the next sessions begin."""
        self._is_followed = False
        """Whether the sessions were ended for others to follow."""
        self._bad_audio: AudioFormatError | None = None
        """Raised once the text of the audio before it is delivered."""
        self.has_ended = False
        """Whether no more frames are expected."""
        self.closing = 1012, "the daemon is stopping"
        """Close code and reason once every session has said everything."""

    async def begin(self) -> None:
        """
        Carry out the dialect's first actions, before the handshake is answered; `run` or `leave` must follow.

        Raises:
            StreamerError: The client is to be refused; no session is open.
        """
        for action in self._dialect.begin():
            if isinstance(action, Open):
                await self._open(action)
            else:
                assert isinstance(action, str)
                self._greeting.append(action)

    async def run(self) -> None:
        """
        Carry the connection to its close.

        Cancelling is safe: the sessions are ended. An unforeseen error closes with 1011 and is raised.
        """
        try:
            await converse(self._transport, self, self._config)
        finally:
            self._bad_audio = None  # it was raised here: it holds this client, and with it the audio, in a circle

    async def greet(self) -> None:
        """Send the texts that come before the client's first frame."""
        await self._say(self._greeting)

    async def write(self) -> None:
        """Send the events of every session, until all have said `Bye` and no others follow."""
        while True:
            await self._tell_all(await self._opened.get())
            if not self._is_followed:
                break
            self._received_s = self._streams[0].received_s
            self.leave()
            self._is_silent.set()
        if self._bad_audio is not None:
            raise self._bad_audio
        await self._say(self._dialect.finish())

    async def take(self, frame: str | bytes) -> None:
        """As `Conversation.take`; frames after the end are dropped."""
        if self.has_ended:
            return
        try:
            await self._carry_out(self._dialect.receive(frame))
        except AudioFormatError as error:
            await self._end_with(error)

    async def idle(self) -> None:
        """Do what the dialect does about a silent client."""
        await self._carry_out(self._dialect.idle(self._config.server.idle_s))

    async def expire(self) -> None:
        """End the sessions and deliver their tails."""
        await self._end()

    async def fail(self, error: StreamerError) -> None:
        """Tell the error in the words of the dialect, and close."""
        await self._say(self._dialect.fail(error))
        await self._transport.close(wire_error(error).fault_close_code, str(error))

    def farewell(self) -> None:
        """Do nothing: no client of these protocols can come back to a session."""

    def leave(self) -> None:
        """End and detach the sessions: nobody reads what they still say."""
        for stream in self._streams:
            stream.end()
            stream.detach(is_final=True)
        for intake in self._intakes:
            intake.close()
        self._streams, self._intakes = [], []

    async def _tell_all(self, streams: Sequence[OpenSession]) -> None:
        telling = [asyncio.create_task(self._tell(i, stream)) for i, stream in enumerate(streams)]
        try:
            await asyncio.gather(*telling)
        finally:
            for task in telling:
                task.cancel()
            await asyncio.gather(*telling, return_exceptions=True)

    async def _tell(self, session: int, stream: OpenSession) -> None:
        async for event in stream:
            await self._say(self._dialect.project(session, event))

    async def _carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case str():
                    await self._say([action])
                case Open():
                    await self._is_silent.wait()
                    await self._open(action)
                case To(session=session, message=message):
                    for intake in self._intakes if session is None else [self._intakes[session]]:
                        await intake.take(message)
                case EndSessions():
                    self._is_followed = True
                    await self._end_sessions()
                case EndAndClose(code=code, reason=reason):
                    self.closing = code, reason
                    await self._end()
                case HangUp(code=code, reason=reason):
                    await self._transport.close(code, reason)
                    raise ClientGone

    async def _open(self, action: Open) -> None:
        # none of these protocols can take a final text back
        options = msgspec.structs.replace(action.start.options(self._config.session), revise=False)
        audio = action.start.audio
        if options.endpoint_ms is None:
            options = msgspec.structs.replace(options, endpoint_ms=action.endpoint_ms)
        decoders = [decoder_of(audio) for _ in range(action.n_sessions)]
        try:
            for decoder in decoders:
                stream = await self._scheduler.begin(options, offset_s=self._received_s, caller=self._caller.name)
                self._streams.append(stream)
                self._intakes.append(Intake(stream, decoder, self._account))
        except BaseException:  # sessions that could not be opened together take no place
            self.leave()
            raise
        self._is_followed = False
        self._is_silent.clear()
        self._opened.put_nowait(self._streams)

    async def _end_with(self, error: AudioFormatError) -> None:
        """End the connection because of its audio: what was heard before is delivered, then the error."""
        self._bad_audio, self.has_ended, self._is_followed = error, True, False
        for intake in self._intakes:
            intake.end()
        if self._is_silent.is_set():
            self._opened.put_nowait([])

    async def _end(self) -> None:
        """End the connection once the sessions have said everything; no more frames are taken."""
        self.has_ended, self._is_followed = True, False
        await self._end_sessions()
        if self._is_silent.is_set():
            self._opened.put_nowait([])

    async def _end_sessions(self) -> None:
        for intake in self._intakes:
            try:
                await intake.finish()
            except AudioFormatError as error:
                self._bad_audio = error
            intake.end()

    async def _say(self, texts: Sequence[str]) -> None:
        async with self._sending:  # reader and writer do not mix their texts
            for text in texts:
                await self._transport.send(text)
