"""
One session as its client and its worker hold it: an inbox of samples and commands, an outbox of events.

Both are bounded, and used on the event loop only. See `inbox` for back-pressure and `outbox` for resuming.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.audio.frontend import END_SAMPLES, FeatureState
from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import OverloadError, StreamerError
from streamer.protocol.events import Event
from streamer.protocol.options import SessionOptions, Update
from streamer.scheduling.inbox import Command, Inbox
from streamer.scheduling.outbox import Outbox
from streamer.scheduling.places import Place
from streamer.scheduling.recording import SessionRecorder
from streamer.scheduling.session_counters import SessionCounters
from streamer.session.session import Session


class SessionHandle:
    """
    Joins a session with its inbox, its outbox and its connections.

    Args:
        session: The state machine.
        token: Secret that a client must present to resume.
        max_backlog_s: Audio that waits at which `feed` begins to wait, seconds.
        max_unread: Events that may wait to be read.
        caller: Name of the API key that opened the session, or empty.
        wake: Called when there is input to take.
        on_detach: Called with this handle when its last connection is gone.
        recording: Records the session, if it is recorded.
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
        self.session, self.id = session, session.id
        self.token, self.caller, self.recording = token, caller, recording
        self.state = FeatureState()
        self.received_s = session.received_s
        self.has_sound = session.received_s > 0
        """Whether a sample other than zero was ever fed. A session that continues another one has its sound."""
        self.opened_at_s = time.monotonic()
        self.is_left = False
        """Whether no client will come back to it."""
        self.n_failures = 0
        """Steps that failed in a row."""
        self.final_at_s = -math.inf
        """When the last step that ended a turn was done, monotonic time in seconds."""
        self.final_received_s = -math.inf
        """End of the audio received then, stream time."""
        self.counters = SessionCounters()
        self.resumed: tuple[str, str] | None = None
        """
        Name and secret of the session that it goes on with, until its client has sent sound: a network that was lost
        before the client was told of this session makes it ask for the other one again. None: of none.
        """
        self.place: Place | None = None
        """Among those of all processes of the daemon; None: there is one process."""
        self.expiry: asyncio.TimerHandle | None = None
        """Runs while no connection is attached; when it fires, the session ends."""
        self._wake, self._on_detach = wake, on_detach
        self._max_unread = max_unread
        self._inbox, self._outbox = Inbox(max_backlog_s), Outbox(max_unread)
        self._n_attached = 1

    @property
    def options(self) -> SessionOptions:
        """The options in force now."""
        return self.session.options

    @property
    def backlog_s(self) -> float:
        """Audio that was fed and not taken yet, seconds."""
        return self._inbox.backlog_s

    @property
    def has_input(self) -> bool:
        """Whether samples or commands wait."""
        return bool(self._inbox)

    @property
    def n_unread(self) -> int:
        """Events that wait to be read."""
        return len(self._outbox)

    @property
    def is_attached(self) -> bool:
        """Whether a connection is attached."""
        return self._n_attached > 0

    @property
    def has_failed(self) -> bool:
        """Whether the session ended with an error."""
        return self._outbox.error is not None

    @property
    def is_over(self) -> bool:
        """Whether no more events will come."""
        return self.has_failed or self.session.is_over

    def is_of(self, session: str, token: str) -> bool:
        """
        Whether a client that shows a name and a secret may have it: its own, or those of `resumed`.

        Args:
            session: Name.
            token: Secret.
        """
        secrets = {self.id: self.token} if self.resumed is None else dict([self.resumed, (self.id, self.token)])
        secret = secrets.get(session, "")
        # as bytes: text that is not ASCII cannot be compared in constant time
        expected, shown = (text.encode(errors="surrogatepass") for text in (secret, token))
        return bool(secret) and hmac.compare_digest(expected, shown)

    # --- the client's side

    @property
    def holder(self) -> int:
        """Number of the connection that has the session now; another one after each `attach`."""
        return self._outbox.reader

    async def feed(self, samples: NDArray[np.float32], holder: int | None = None) -> None:
        """
        Take samples, mono at 16 kHz; waits while the backlog is full. Cancelling is safe: all or none are taken.

        Ignored after `end`, and from a connection that was taken over meanwhile: its successor sends them again.

        Args:
            samples: (n,), within [-1, 1].
            holder: `holder` as it was when the connection got the handle; None if only one connection ever has it.
        """
        await self._inbox.wait_for_room()
        if self._inbox.is_closed or not len(samples) or holder not in (None, self.holder):
            return
        self.resumed = None  # who resumes sends sound when it was told of the session, not before
        self.has_sound = self.has_sound or bool(samples.any())
        self._inbox.put_samples(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)))
        self.received_s += len(samples) / SAMPLE_RATE
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
        Transcribe everything fed, then say `Bye`. A second call does nothing.

        Args:
            continues_elsewhere: See `Session.end`.
        """
        if self._inbox.is_closed:
            return
        self._inbox.put_samples(torch.zeros(END_SAMPLES))
        audio_s = self.received_s
        self._command(lambda session: session.end(audio_s, continues_elsewhere=continues_elsewhere))
        self._inbox.close()

    def detach(self, *, is_final: bool = False) -> None:
        """
        Remove a connection; unless another one comes in time, the session without connections ends.

        Args:
            is_final: The client will not come back: without another connection the session ends now.
        """
        self._n_attached -= 1
        if self._n_attached:
            return
        if is_final:
            self.abandon()
        self._on_detach(self)

    def abandon(self) -> None:
        """End for good: nobody reads the rest. Audio that waits is dropped unless the client has ended it itself."""
        self.is_left = True
        if not self._inbox.is_closed:
            self.received_s -= self._inbox.drop_samples() / SAMPLE_RATE
            self.end()

    def expire(self) -> None:
        """End since no client has come back in time; one that comes now is told that the session is unknown."""
        self.is_left = True
        self.end()

    def give_way(self, error: StreamerError) -> None:
        """End with an error so that another session can have the place."""
        self.fail(error)
        self._wake()

    def attach(self, stable_s: float) -> None:
        """
        Let a new connection take over: the events of the old reader end, and what it may have lost is sent again.

        Args:
            stable_s: End of the text that the client has, stream time in seconds.
        """
        if self.expiry:
            self.expiry.cancel()
            self.expiry = None
        self._n_attached += 1
        self.counters.n_resumed += 1
        self._outbox.take_over(stable_s)

    def __aiter__(self) -> AsyncIterator[Event]:
        """
        Events until `Bye`. One reader at a time: `attach` ends it, and the next one gets the rest.

        Raises:
            StreamerError: The session could not go on; it is over.
        """
        return self._outbox.read()

    # --- the worker's side

    def take_samples(self, most: int) -> Tensor:
        """Up to `most` samples from the front of the inbox, (n,) float32; they end at a command, and n may be 0."""
        samples = self._inbox.take_samples(most)
        if self.recording:
            self.recording.audio(samples)
        return samples

    def take_commands(self) -> list[Command]:
        """Commands whose samples have all been taken."""
        return self._inbox.take_commands()

    def say(self, events: list[Event]) -> None:
        """Put events where the client's side reads them; too many unread ones end the session."""
        self._outbox.put(events)
        if self._outbox.is_over_bound:
            self.fail(
                OverloadError(f"{self._max_unread} events unread: the client reads too slowly", retry_after_s=1.0)
            )

    def fail(self, error: StreamerError) -> None:
        """End the session with an error, after the events already said."""
        self._inbox.clear()
        self._outbox.fail(error)

    def check_integrity(self) -> None:
        """
        Check the counters of inbox and outbox.

        Raises:
            AssertionError: A counter is wrong.
        """
        self._inbox.check_integrity()
        self._outbox.check_integrity()

    def _command(self, apply: Callable[[Session], list[Event]]) -> None:
        if self._inbox.is_closed:
            return
        try:
            self._inbox.put_command(apply)
        except OverloadError as error:
            self.fail(error)
            return
        self._wake()
