"""Runs the second passes that gateways ask an engine process for: one at a time, beside its steps."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from streamer.errors import EngineError
from streamer.remote import wire
from streamer.scheduling.revision_decoder import RevisionThread
from streamer.step import StepRequest

MAX_WAITING = 16
"""Calls that wait: a gateway asks for one turn at a time. More are refused, and go to another engine."""

Send = Callable[[wire.Message], None]


class RevisionHost:
    """
    Runs second passes for any number of gateways.

    Args:
        thread: Decodes them.
        n_mels: Mel bands of the models.
        clock: The monotonic clock of deadlines, seconds.
    """

    def __init__(self, thread: RevisionThread, n_mels: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._thread, self._n_mels, self._clock = thread, n_mels, clock
        self._waiting: deque[tuple[wire.Call, list[StepRequest], Send]] = deque()
        self._work = asyncio.Event()

    @property
    def cache_bytes(self) -> list[tuple[int, int]]:
        """Bytes of keys and values of text and of audio, of each engine that was built for them."""
        return self._thread.cache_bytes

    def put(self, call: wire.Call, send: Send) -> None:
        """
        Let a turn wait; `run` answers it.

        Args:
            call: Its rows are the parts of the turn.
            send: Sends a message to the gateway.

        Raises:
            WireError: A row does not hold the frames that it announces.
        """
        requests = [wire.request_of(row, self._n_mels) for row in call.rows]
        if len(self._waiting) >= MAX_WAITING:
            send(wire.Refused(id=call.id, reason="full"))
            return
        self._waiting.append((call, requests, send))
        self._work.set()

    async def run(self) -> None:
        """Decode turns until cancelled."""
        try:
            while True:
                while self._waiting:
                    call, requests, send = self._waiting.popleft()
                    send(await self._answered(call, requests))
                self._work.clear()
                await self._work.wait()
        finally:
            self._thread.close()

    async def _answered(self, call: wire.Call, requests: Sequence[StepRequest]) -> wire.Reply | wire.Refused:
        if call.deadline_s < self._clock():
            return wire.Refused(id=call.id, reason="late")
        try:
            if call.reviser not in self._thread.models:
                raise EngineError(f"no model {call.reviser} for second passes: {', '.join(self._thread.models)}")
            results, seconds = await self._thread.results(call.reviser, requests)
        except EngineError as error:
            rows, seconds = tuple(wire.RowAnswer(error=str(error)) for _ in call.rows), 0.0
        else:
            rows = tuple(wire.RowAnswer(result=result) for result in results)
        return wire.Reply(id=call.id, rows=rows, seconds=seconds, n_rows=len(rows), work_s=seconds)
