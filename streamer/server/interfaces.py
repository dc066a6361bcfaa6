"""What the server needs of the scheduler and of an open session, as protocols; `scheduling` implements both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from numpy import float32
from numpy.typing import NDArray

from streamer.protocol.events import Event
from streamer.protocol.options import SessionOptions, Update
from streamer.telemetry.statistics import SchedulerStatistics


class SessionService(Protocol):
    """Opens and resumes sessions."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model knows."""

    @property
    def revisers(self) -> tuple[str, ...]:
        """Names of the models for second passes: what `revise` may name."""

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
    ) -> OpenSession:
        """
        Open a session. Cancelling is safe: none is open then.

        Args:
            options: Of the session, complete.
            session: Its name; empty: a random name.
            token: Secret with which a client may resume it; empty: a random secret.
            offset_s: Stream time of its first sample, seconds.
            context: Text before that, as context of the first words.
            caller: Owner of the client's key, for limits and logs.
            revises_all: Whether no turn may miss its second pass, as of a recording: feeding waits for it.
            resumed: Name and secret of a session that it goes on with, unknown here: no other process keeps it then.

        Raises:
            OverloadError: No capacity is left, or the caller has as many sessions as one key may have.
        """
        ...

    def resume(self, session: str, token: str, stable_s: float) -> OpenSession | None:
        """
        Attach a new connection to a session. None: the session is unknown or over, or the token is wrong.

        Args:
            session: Name of the session.
            token: Its secret.
            stable_s: Stream time up to which the client holds stable text, seconds; later events are sent again.
        """

    def is_ready(self) -> bool:
        """Whether a real decode has succeeded and the last step is recent."""

    def statistics(self) -> SchedulerStatistics:
        """Counts and timings as of now."""


class OpenSession(Protocol):
    """One session, as its connection uses it."""

    @property
    def id(self) -> str:
        """Name of the session."""

    @property
    def token(self) -> str:
        """Secret with which a client may resume the session."""

    @property
    def options(self) -> SessionOptions:
        """Options in force now."""

    @property
    def received_s(self) -> float:
        """Stream time of the next expected sample, seconds."""

    @property
    def holder(self) -> int:
        """Number of the connection that holds the session; it changes when a newer connection resumes it."""

    async def feed(self, samples: NDArray[float32], holder: int | None = None) -> None:
        """
        Take samples; wait while the session's backlog is full. Cancelling is safe: all samples are taken, or none.

        Args:
            samples: (n,), mono at 16 kHz, within [-1, 1].
            holder: `holder` as it was when the connection got the session. Samples of an earlier holder are dropped:
                its successor sends them again. None: the session has only one connection ever.
        """

    def update(self, update: Update) -> None:
        """Change options for the audio fed from now on."""

    def flush(self, id: int) -> None:  # noqa: A002 - the wire's word
        """Ask for a `Flushed` event with this id once all audio fed so far is final."""

    def end(self, *, continues_elsewhere: bool = False) -> None:
        """
        End the audio: the tail is transcribed, then comes `Bye`, also if nobody reads it. A second call does nothing.

        Args:
            continues_elsewhere: The client goes on elsewhere, so the audio breaks off in the middle of speech.
        """

    def detach(self, *, is_final: bool = False) -> None:
        """
        Stop reading events: the session is kept for a while for a client that resumes, then ended. Call it once.

        Args:
            is_final: The client will not come back: the session ends now, and audio not yet transcribed is dropped.
        """

    def __aiter__(self) -> AsyncIterator[Event]:
        """
        Iterate over the events up to `Bye`. Events of an earlier holder end when a newer connection resumes.

        Raises:
            StreamerError: The session could not go on.
        """
