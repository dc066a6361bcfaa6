"""
One session as the edges hold it: samples and commands in, events out, on the event loop only.

Both directions are bounded. Samples: `feed` waits while `max_backlog_s` of them are unheard, which slows the sender
down; none is dropped. Commands cannot wait: more than `MAX_COMMANDS` end the session. Events: captions and acks replace
older ones (`unread.py`); everything else is kept and delivered, but the session of a reader that leaves more than
`max_unread` of them unread ends there.

A connection may be lost and another take over. What was read for the lost one may never have arrived: turns that
ended at or after what the new client holds, and the newest one in any case, are said again under their numbers, and so
is the open turn. A client therefore knows turns by their numbers, and a number that comes again replaces.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.audio.frontend import FeatureState
from streamer.audio.mel import N_FFT, SAMPLE_RATE
from streamer.audio.vad import FRAME_SAMPLES
from streamer.errors import OverloadError, StreamerError
from streamer.protocol.event_queue import CoalescingQueue
from streamer.protocol.events import Bye, Caption, Event, TurnEnd
from streamer.protocol.options import SessionOptions, Update
from streamer.scheduling.recording import SessionRecorder
from streamer.scheduling.session_counters import SessionCounters
from streamer.session.session import Session

MAX_BLOCKS = 4096
"""Blocks of samples that wait, however short: at this number `feed` waits too."""
MAX_COMMANDS = 256
"""Updates and flushes that wait; no client has a use for so many within one backlog."""
MAX_REPEATED = 64
"""Turns kept to be said again to a client that comes back."""


@dataclass(frozen=True, slots=True)
class Command:
    """Something to do once all samples fed before it are heard."""

    apply: Callable[[Session], list[Event]]


class SessionHandle:
    """
    Args:
        session: The state machine behind it.
        token: What a client must show to resume it.
        max_backlog_s: Unheard audio at which `feed` begins to wait.
        max_unread: Events that may wait to be read.
        caller: Who opened it: the name of an API key, or empty.
        wake: Called when there is something to do.
        on_detach: Called with this stream when its connection is gone.
        recording: Keeps what is heard, if the session is recorded.
    """

    def __init__(
        self,
        session: Session,
        *,
        token: str,
        max_backlog_s: float,
        max_unread: int,
        caller: str,
        wake: Callable[[], None],
        on_detach: Callable[[SessionHandle], None],
        recording: SessionRecorder | None = None,
    ) -> None:
        self.session = session
        self.id = session.id
        self.token = token
        self.caller = caller
        self.recording = recording
        self.state = FeatureState()
        self.received_s = session.received_s
        self.n_failures = 0
        self.counters = SessionCounters()
        self.expiry: asyncio.TimerHandle | None = None
        """Runs while nobody is attached; when it fires the session ends by itself."""
        self._wake, self._on_detach = wake, on_detach
        self._max_backlog = int(max_backlog_s * SAMPLE_RATE)
        self._max_unread = max_unread
        self._inbox: deque[Tensor | Command] = deque()
        self._n_commands = 0
        self._n_unheard = 0
        self._room = asyncio.Event()
        self._room.set()
        self._events = CoalescingQueue()
        self._unread = asyncio.Event()
        self._n_attached = 1
        self._reader = 0
        self._read_turns: deque[TurnEnd] = deque(maxlen=MAX_REPEATED)
        self._read_caption: Caption | None = None
        self._error: StreamerError | None = None
        self._has_ended = False

    @property
    def options(self) -> SessionOptions:
        """What is in force now."""
        return self.session.options

    @property
    def unheard_s(self) -> float:
        """Audio fed and not yet heard, seconds."""
        return self._n_unheard / SAMPLE_RATE

    @property
    def has_input(self) -> bool:
        """Whether there is anything to hear or to do."""
        return bool(self._inbox)

    @property
    def n_unread(self) -> int:
        """Events that wait to be read."""
        return len(self._events)

    @property
    def is_attached(self) -> bool:
        """Whether a connection reads them."""
        return self._n_attached > 0

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error."""
        return self._error is not None

    # --- the client's side

    @property
    def holder(self) -> int:
        """Which connection has it now; another number after each `attach`."""
        return self._reader

    async def feed(self, samples: NDArray[np.float32], holder: int | None = None) -> None:
        """
        Take samples, mono at 16 kHz; waits while the backlog is full. Cancelling is safe: either all of them or
        none are taken. After `end` they are ignored, and so are those of a connection that has been taken over
        meanwhile: its successor sends them again.

        Args:
            samples: (n,), within [-1, 1].
            holder: `holder` as it was when the connection got the stream; None where only one ever has it.
        """
        await self._room.wait()
        if self._has_ended or not len(samples) or holder not in (None, self._reader):
            return
        self._inbox.append(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)))
        self.received_s += len(samples) / SAMPLE_RATE
        self._count(len(samples))
        self._wake()

    def update(self, update: Update) -> None:
        """Change options for the audio fed from now on."""

        def apply(session: Session) -> list[Event]:
            session.update(update)
            return []

        self._command(apply)

    def flush(self, id: int) -> None:  # noqa: A002 - the wire's word
        """Make everything fed so far final; answered by `Flushed`."""
        self._command(lambda session: session.flush(id))

    def end(self, *, continues_elsewhere: bool = False) -> None:
        """
        No more audio: everything fed is transcribed, then `Bye`. A second call does nothing.

        Args:
            continues_elsewhere: See `Session.end`.
        """
        if self._has_ended:
            return
        # the last frames of mel and voice are complete only with the sound after them: silence
        rest = N_FFT + FRAME_SAMPLES
        self._inbox.append(torch.zeros(rest))
        self._count(rest)
        audio_s = self.received_s
        self._command(lambda session: session.end(audio_s, continues_elsewhere=continues_elsewhere))
        self._has_ended = True
        self._room.set()

    def detach(self) -> None:
        """A connection is gone; if it was the last one and none comes in time, the session ends by itself."""
        self._n_attached -= 1
        if not self._n_attached:
            self._on_detach(self)

    def attach(self, stable_s: float) -> None:
        """
        A new connection takes over: an older reader's events end, and what it may have lost is said again.

        Args:
            stable_s: What the client has up to, stream time.
        """
        if self.expiry:
            self.expiry.cancel()
            self.expiry = None
        self._n_attached += 1
        self.counters.n_resumed += 1
        self._reader += 1
        self._events.put_back(self._perhaps_lost(stable_s))
        self._read_turns.clear()
        self._read_caption = None
        self._unread.set()

    def _perhaps_lost(self, stable_s: float) -> list[Event]:
        """Turns that were read for a connection that broke, and the open turn unless a newer caption of it waits."""
        newest = self._read_turns[-1] if self._read_turns else None
        # where a turn was withdrawn, or ends with the client's last word, time does not tell whether its end arrived
        lost: list[Event] = [turn for turn in self._read_turns if turn.end_s >= stable_s or turn is newest]
        caption = self._read_caption
        if caption and not any(isinstance(e, Caption | TurnEnd) and e.turn == caption.turn for e in self._events):
            lost.append(caption)
        return lost

    def __aiter__(self) -> AsyncIterator[Event]:
        """
        Events until `Bye`. One reader at a time: `attach` ends it, and the next one goes on where it stopped.

        Raises:
            StreamerError: The session could not go on; it is over.
        """
        # taken now, not at the first event: a reader that was taken over before it began must not begin
        return self._read(self._reader)

    async def _read(self, reader: int) -> AsyncIterator[Event]:
        while True:
            await self._unread.wait()
            if reader != self._reader:
                return
            if not self._events:
                if self._error is not None:
                    raise self._error
                self._unread.clear()
                continue
            event = self._events.take()
            if isinstance(event, Caption):
                self._read_caption = event
            elif isinstance(event, TurnEnd):
                self._read_turns.append(event)
                self._read_caption = None
            yield event
            if isinstance(event, Bye):
                return

    # --- the scheduler's side

    def take_samples(self, most: int) -> Tensor:
        """Up to about `most` samples from the front of the inbox, stopping at a command; may be empty."""
        blocks, n = [], 0
        while n < most and self._inbox and isinstance(self._inbox[0], Tensor):
            block = self._inbox.popleft()
            assert isinstance(block, Tensor)
            if n + block.shape[0] > most:
                self._inbox.appendleft(block[most - n :])
                block = block[: most - n]
            blocks.append(block)
            n += block.shape[0]
        self._count(-n)
        samples = torch.cat(blocks) if blocks else torch.empty(0)
        if self.recording:
            self.recording.audio(samples)
        return samples

    def take_commands(self) -> list[Command]:
        """Commands whose samples have all been taken."""
        commands = []
        while self._inbox and isinstance(self._inbox[0], Command):
            command = self._inbox.popleft()
            assert isinstance(command, Command)
            commands.append(command)
        self._n_commands -= len(commands)
        return commands

    def say(self, events: list[Event]) -> None:
        """Put events where the client's side reads them."""
        for event in events:
            self._events.put(event)
        if len(self._events) > self._max_unread:
            self.fail(
                OverloadError(f"{self._max_unread} events unread: the client reads too slowly", retry_after_s=1.0)
            )
        if self._events:
            self._unread.set()

    def fail(self, error: StreamerError) -> None:
        """End the session with an error, after the events already said."""
        self._error = error
        self._has_ended = True
        self._inbox.clear()
        self._room.set()
        self._unread.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be said."""
        return self._error is not None or self.session.is_over

    def _command(self, apply: Callable[[Session], list[Event]]) -> None:
        if self._has_ended:
            return
        if self._n_commands >= MAX_COMMANDS:
            self.fail(OverloadError(f"{MAX_COMMANDS} updates and flushes wait: send fewer", retry_after_s=1.0))
            return
        self._inbox.append(Command(apply))
        self._n_commands += 1
        self._wake()

    def _count(self, n: int) -> None:
        self._n_unheard += n
        has_room = self._n_unheard < self._max_backlog and len(self._inbox) < MAX_BLOCKS
        if has_room or self._has_ended:
            self._room.set()
        else:
            self._room.clear()
