"""What the server needs of a scheduler and of an open session, as protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from numpy import float32
from numpy.typing import NDArray

from streamer.protocol.events import Event
from streamer.protocol.options import SessionOptions, Update
from streamer.telemetry.statistics import SchedulerStatistics


class SessionService(Protocol):
    """What the server needs of the scheduler."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages it knows."""

    def open(
        self,
        options: SessionOptions,
        *,
        session: str = "",
        token: str = "",
        offset_s: float = 0.0,
        context: str = "",
        caller: str = "",
    ) -> OpenSession:
        """A new session for a caller, from `offset_s` on; by default its name is random. Raises OverloadError."""

    def resume(self, session: str, token: str, stable_s: float) -> OpenSession | None:
        """The session of this name, attached again from `stable_s` on; None if it is not known (any more)."""

    def is_ready(self) -> bool:
        """Whether a real decode has worked and the last step is recent."""

    def statistics(self) -> SchedulerStatistics:
        """What it is doing now."""


class OpenSession(Protocol):
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
        """OpenSession time of the sample that is expected next."""

    @property
    def holder(self) -> int:
        """Which connection has the session; another number once a newer one has taken it over."""

    async def feed(self, samples: NDArray[float32], holder: int | None = None) -> None:
        """Take samples, (n,), mono at 16 kHz, from this holder; wait while the session's backlog is full."""

    def update(self, update: Update) -> None:
        """Change options for the audio that comes."""

    def flush(self, id: int) -> None:  # noqa: A002 - the wire's word
        """Ask for a Flushed event once all audio so far is final."""

    def end(self, *, continues_elsewhere: bool = False) -> None:
        """No more audio comes, here. Nobody needs to read the events for it to finish; twice is once."""

    def detach(self) -> None:
        """Nobody reads the events for now: keep the session for a while, then end it."""

    def __aiter__(self) -> AsyncIterator[Event]:
        """The events, until after Bye."""
