"""A scheduler without an engine: its sessions say what a script says, by the audio they have received."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
from numpy import float32
from numpy.typing import NDArray

from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import OverloadError
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, TurnEnd, Word
from streamer.protocol.options import SessionOptions, Update
from streamer.telemetry.statistics import EngineStatistics, SchedulerStatistics

ScriptLine = tuple[float, Event]
"""An event, and the seconds of audio after which it is said."""


class FakeStream:
    """
    A session that follows its script.

    What tests look at: `samples` received, `updates`, `has_ended`, and the events `detached` (set once nobody
    listens), `fed` and `ended`. Clearing `room` makes `feed` wait, as a full backlog does; clearing `rest` holds `Bye`
    back, as the last step does.
    """

    def __init__(
        self, id_: str, token: str, options: SessionOptions, script: Sequence[ScriptLine], offset_s: float
    ) -> None:
        self.id = id_
        self.token = token
        self.options = options
        self.received_s = offset_s
        self.samples: list[NDArray[float32]] = []
        self.updates: list[Update] = []
        self.context = ""
        self.caller = ""
        self.revises_all = False
        self.has_ended = False
        self.holder = 0
        self.detached = asyncio.Event()
        self.fed, self.ended = asyncio.Event(), asyncio.Event()
        self.room, self.rest = asyncio.Event(), asyncio.Event()
        self.room.set()
        self.rest.set()
        self._script = list(script)
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._acked_s = offset_s
        self._turns = 0

    async def feed(self, samples: NDArray[float32], holder: int | None = None) -> None:
        """Take samples, and say what is due."""
        await self.room.wait()
        if holder not in (None, self.holder):
            return
        self.samples.append(samples)
        self.received_s += len(samples) / SAMPLE_RATE
        self.fed.set()
        self._say_due(self.received_s)
        if self.received_s - self._acked_s >= 0.5:
            self._acked_s = self.received_s
            self.say(Ack(received_s=self.received_s, stable_s=max(0.0, self.received_s - 1.0), lag_s=0.2))

    def update(self, update: Update) -> None:
        """Remember what was asked."""
        self.updates.append(update)

    def flush(self, id: int) -> None:  # noqa: A002 - the wire's word
        """Answer at once: the script has no backlog."""
        self.say(Flushed(id=id))

    def end(self, *, continues_elsewhere: bool = False) -> None:
        """Say the rest of the script, then Bye; what goes on elsewhere is the same to it."""
        if not self.has_ended:
            self.has_ended = True
            self.ended.set()
            self._say_due(float("inf"))
            self.say(Bye(reason="end", audio_s=self.received_s, turns=self._turns))

    def detach(self, *, is_final: bool = False) -> None:
        """Let tests know; a client that does not come back ends the session."""
        self.detached.set()
        if is_final:
            self.end()

    def say(self, event: Event | Exception) -> None:
        """Put an event in, or an error that reading the events raises."""
        self._turns += isinstance(event, TurnEnd)
        self._events.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Event]:
        """The events until Bye."""
        while True:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Bye):
                await self.rest.wait()
            yield event
            if isinstance(event, Bye):
                return

    def _say_due(self, now_s: float) -> None:
        while self._script and self._script[0][0] <= now_s:
            self.say(self._script.pop(0)[1])


def engine_statistics(*, is_alive: bool = True) -> EngineStatistics:
    """Of an engine that has done nothing."""
    return EngineStatistics(name="0", pid=1, n_rows=0, row_cost_s=0.01, is_alive=is_alive, n_restarts=0)


class FakeScheduler:
    """
    Opens scripted sessions.

    Args:
        script: What every new session says.
        languages: Codes the model claims to know.
        max_sessions: With more, `open` raises OverloadError.
    """

    model = "fake"

    def __init__(
        self,
        script: Sequence[ScriptLine] = (),
        *,
        languages: tuple[str, ...] = ("en", "de", "fr"),
        max_sessions: int = 1000,
    ) -> None:
        self.languages = languages
        self.revisers = ("fake", "base")
        self.streams: list[FakeStream] = []
        self.ready = True
        self.resumed: tuple[str, str] | None = None
        """What the newest session goes on with."""
        self.engines: tuple[EngineStatistics, ...] = (engine_statistics(),)
        self._script = script
        self._max_sessions = max_sessions
        self._opened = asyncio.Event()

    async def begin(
        self,
        options: SessionOptions,
        *,
        session: str = "",
        token: str = "",
        offset_s: float = 0.0,
        context: str = "",
        caller: str = "",
        revises_all: bool = False,
        resumed: tuple[str, str] | None = None,
    ) -> FakeStream:
        """A new session."""
        self.resumed = resumed
        if len(self.streams) >= self._max_sessions:
            raise OverloadError(f"{len(self.streams)} of {self._max_sessions} sessions running", 5.0)
        # a script is in seconds of the session: what lies before `offset_s` was said by another one
        script = [line for line in self._script if line[0] >= offset_s]
        stream = FakeStream(session, token, options, script, offset_s)
        stream.context = context
        stream.caller = caller
        stream.revises_all = revises_all
        self.streams.append(stream)
        self._opened.set()
        return stream

    def resume(self, session: str, token: str, stable_s: float) -> FakeStream | None:
        """A detached session by its name."""
        for stream in self.streams:
            if (stream.id, stream.token) == (session, token) and stream.detached.is_set():
                stream.detached.clear()
                stream.holder += 1
                return stream
        return None

    def is_ready(self) -> bool:
        """What a test has set."""
        return self.ready

    def statistics(self) -> SchedulerStatistics:
        """Of its sessions, no more than their number."""
        return SchedulerStatistics(
            n_sessions=len(self.streams),
            n_speaking=0,
            capacity=self._max_sessions,
            interval_s=0.3,
            row_cost_s=0.01,
            worst_lag_s=0.0,
            n_steps=0,
            engines=self.engines,
            sessions=(),
        )

    async def drain(self, deadline_s: float) -> None:
        """End every session."""
        for stream in self.streams:
            stream.end()

    async def wait_stream(self) -> FakeStream:
        """The newest session, once there is one."""
        await self._opened.wait()
        return self.streams[-1]


def script_of(
    turns: Sequence[str], *, word_s: float = 0.3, pause_s: float = 0.6, stays_open: bool = False
) -> list[ScriptLine]:
    """
    Captions of spoken turns: each word is partial when it has been said, and stable two words later.

    Args:
        turns: What is said, one turn each.
        word_s: Seconds of a word.
        pause_s: Seconds between turns.
        stays_open: Whether the last turn ends with the session alone: its last words stay partial however late
            somebody looks.
    """
    script: list[ScriptLine] = []
    now_s = 0.4
    for turn, text in enumerate(turns):
        words, start_s = text.split(), now_s
        for n_said in range(1, len(words) + 1):
            now_s += word_s
            n_stable = max(0, n_said - 2)
            stable, partial = " ".join(words[:n_stable]), " ".join(words[n_stable:n_said])
            caption = Caption(
                turn=turn,
                rev=n_said - 1,
                stable=stable,
                partial=" " + partial if stable else partial,
                start_s=start_s,
                end_s=now_s,
            )
            script.append((now_s, caption))
        end = TurnEnd(turn=turn, text=text, start_s=start_s, end_s=now_s, language="en", reason="silence")
        now_s += pause_s
        script.append((now_s, end))
    if stays_open:
        script[-1] = (float("inf"), script[-1][1])
    return [(at_s, _with_words(event, word_s)) for at_s, event in script]


def _with_words(event: Event, word_s: float) -> Event:
    if not isinstance(event, Caption | TurnEnd):
        return event
    stable = event.stable if isinstance(event, Caption) else event.text
    texts = [*stable.split(), *(event.partial.split() if isinstance(event, Caption) else ())]
    words = tuple(
        Word(
            text=text,
            start_s=event.start_s + i * word_s,
            end_s=event.start_s + (i + 1) * word_s,
            confidence=0.9,
            stable=i < len(stable.split()),
        )
        for i, text in enumerate(texts)
    )
    return msgspec.structs.replace(event, words=words)
