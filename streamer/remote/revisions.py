"""Decodes turns once more in engine processes: a call to the engine with the least to do, repeated where it is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from streamer.errors import DeviceLostError, EngineError, OverloadError
from streamer.remote import wire
from streamer.remote.decoder import RETRY_S, EnginePool, least_burdened
from streamer.remote.link import EngineAwayError, EngineFullError, EngineLink, EngineLostError
from streamer.scheduling.reviser import Revised
from streamer.scheduling.revision_decoder import SESSION
from streamer.session.second_pass import Revision
from streamer.session.spec import ModelFacts
from streamer.step import StepRequest

PATIENCE_S = 120.0
"""
Time after which a call is given up, seconds.

A busy engine leaves a second pass one part in thirty of a core, and an engine that does not answer is noticed earlier.
"""
MOST_TRIES = 3
"""Engines that may be lost with a turn, or leave it without an answer."""
FULL_S = 1.0
"""Pause before engines are asked again of which none had room, seconds."""

log = structlog.get_logger()


class RemoteRevisions:
    """
    Decodes turns once more in the engine processes of a pool; as `TurnDecoder`.

    Args:
        pool: The engines.
        models: At least one, as the engines name them; the first one is taken where a turn names none.
        fingerprint: Of the weights that requests are made for.
        clock: The monotonic clock of deadlines, seconds.
    """

    def __init__(
        self,
        pool: EnginePool,
        models: Sequence[ModelFacts],
        fingerprint: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._fingerprint, self._clock = pool, fingerprint, clock
        self._models = {model.name: model for model in models}
        self.models = tuple(self._models)
        """Names of the models; the first one is the default."""

    async def decode(self, revision: Revision) -> Revised:
        """
        Decode a turn once more.

        Raises:
            EngineError: A step failed, or engines were lost with it.
            OverloadError: Engines had no time for it.
            DeviceLostError: No engine will come back.
        """
        model = self._models[revision.model or self.models[0]]
        requests = revision.requests(model, SESSION)
        if not requests:
            return Revised(None, 0.0)
        reply = await self._reply(model.name, requests)
        if error := next((answer.error for answer in reply.rows if answer.error), ""):
            raise EngineError(error)
        results = [answer.result for answer in reply.rows if answer.result]
        return Revised(revision.apply(results, model), reply.work_s)

    def close(self) -> None:
        """Nothing is held: the engines belong to the pool."""

    async def _reply(self, model: str, requests: Sequence[StepRequest]) -> wire.Reply:
        errors, full = list[EngineAwayError](), set[EngineLink]()
        while len(errors) < MOST_TRIES:
            link = await self._link(full)
            try:
                return await self._ask(link, model, requests)
            except EngineFullError:
                full.add(link)
            except EngineAwayError as error:
                log.warning("revision_asked_again", engine=link.name, reason=str(error))
                errors.append(error)
                await asyncio.sleep(RETRY_S)
        message = f"{MOST_TRIES} engines did not answer to a second pass"
        if all(isinstance(error, EngineLostError) for error in errors):
            raise EngineError(message)
        raise OverloadError(message, retry_after_s=FULL_S)

    async def _link(self, full: set[EngineLink]) -> EngineLink:
        """The engine for the next call, once there is one; those that had no room again after a pause."""
        while (place := least_burdened(self._pool, full)) is None:
            if self._pool.has_given_up:
                raise DeviceLostError("no engine process can be kept alive: the log says why each of them ended")
            if full:
                await asyncio.sleep(FULL_S)
                full.clear()
            else:
                await self._pool.changed()
        assert place.link
        return place.link

    async def _ask(self, link: EngineLink, model: str, requests: Sequence[StepRequest]) -> wire.Reply:
        call = wire.Call(
            fingerprint=self._fingerprint,
            deadline_s=self._clock() + PATIENCE_S + link.ahead_s,
            most_rows=1,
            rows=tuple(wire.row_of(request, 0) for request in requests),
            reviser=model,
        )
        answer, _ = link.begin(call)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await answer
        except TimeoutError:
            raise EngineAwayError(f"engine {link.name} has not answered within {PATIENCE_S:.0f} s") from None
