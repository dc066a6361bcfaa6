"""One gateway, as the hub sees it: what it holds, and what the hub waits for from it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from streamer.gateways import wire
from streamer.server.rooms.room import Room

ANSWER_S = 1.0
"""Time in which a gateway answers the hub, seconds; one that does not counts as if it had nothing to say."""
MOST_GIVEN_UP = 256
"""Sessions that went on elsewhere and are remembered; the oldest is forgotten, which has long been told."""


@dataclass(slots=True)
class Speaker:
    """A session of a gateway that speaks in a room."""

    session: str
    room: Room
    leave: Callable[[], None]


@dataclass(slots=True)
class Subscription:
    """A room that viewers of a gateway watch."""

    run: str
    end: Callable[[], None]
    viewers: set[int] = field(default_factory=set)


class Member:
    """
    One gateway from its connection to its end.

    Args:
        name: Of the gateway.
        writer: Of its connection.
    """

    def __init__(self, name: str, writer: asyncio.StreamWriter) -> None:
        self.name = name
        self.start: asyncio.Future[wire.Serving | wire.Failed | None] = asyncio.get_running_loop().create_future()
        """How its start has ended; None: it is gone."""
        self.silent_s = 0.0
        """Time since it last said that it is alive, as whoever looks at it has counted, seconds."""
        self.is_silent = False
        """Whether it has left a question without an answer, and has not said since that it is alive."""
        self.entries: dict[int, str] = {}
        """Owner of each open WebSocket."""
        self.viewers: dict[int, contextlib.ExitStack] = {}
        self.speakers: dict[int, Speaker] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.taking: set[int] = set()
        """Places that are asked for and not granted yet."""
        self.given_up: deque[str] = deque(maxlen=MOST_GIVEN_UP)
        """Sessions that were given up last: one that does not know it yet may still ask for its room."""
        self.report: wire.Report | None = None
        """The newest one."""
        self._writer = writer
        self._ids = itertools.count()
        self._asked: dict[int, asyncio.Future[wire.Report | wire.Done | None]] = {}

    def send(self, message: wire.Message) -> None:
        """Send a message; nothing once the gateway is gone."""
        if not self._writer.is_closing():
            self._writer.write(wire.pack(message))

    async def drain(self) -> None:
        """Wait until the gateway has taken what was sent."""
        await self._writer.drain()

    def answered(self, message: wire.Report | wire.Done) -> None:
        """Take an answer; one that comes too late counts no more."""
        if isinstance(message, wire.Report):
            self.report = message
        if (answer := self._asked.pop(message.id, None)) and not answer.done():
            answer.set_result(message)

    def lives(self) -> None:
        """Note a sign of life."""
        self.silent_s, self.is_silent = 0.0, False

    def begun(self, message: wire.Serving | wire.Failed) -> None:
        """Note how its start has ended."""
        self.lives()
        if not self.start.done():
            self.start.set_result(message)

    async def tell(self) -> None:
        """Let it report; where it does not answer in time the older report stays."""
        await self._ask(wire.Tell())

    def give_up(self, session: str, token: str) -> None:
        """
        End a session whose client goes on elsewhere; its rooms are free at once, since this gateway may hang.

        Args:
            session: Its name.
            token: Its secret.
        """
        self.send(wire.GiveUp(session=session, token=token))
        self.given_up.append(session)
        for number, speaker in list(self.speakers.items()):
            if speaker.session == session:
                del self.speakers[number]
                speaker.leave()

    async def make_room(self, caller: str, *, is_greedy: bool = False) -> bool:
        """
        End a session that never had sound; a gateway that is silent is not asked.

        Args:
            caller: Whose; empty: anybody's.
            is_greedy: Whether the place is for somebody who has fewer.

        Returns:
            Whether there was one.
        """
        if self.is_silent:
            return False
        answer = await self._ask(wire.MakeRoom(caller=caller, is_greedy=is_greedy))
        return isinstance(answer, wire.Done) and answer.is_done

    async def _ask(self, question: wire.Tell | wire.MakeRoom) -> wire.Report | wire.Done | None:
        number = next(self._ids)
        answer: asyncio.Future[wire.Report | wire.Done | None] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self.send(msgspec.structs.replace(question, id=number))
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            self.is_silent = True
            return None
        finally:
            self._asked.pop(number, None)

    def lose(self) -> None:
        """Forget it: leave all rooms, and give up what is awaited from it."""
        for speaker in self.speakers.values():
            speaker.leave()
        for viewer in self.viewers.values():
            viewer.close()
        for subscription in self.subscriptions.values():
            subscription.end()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(None)
        if not self.start.done():
            self.start.set_result(None)
        self.speakers, self.viewers, self.subscriptions = {}, {}, {}
        self.taking.clear()
