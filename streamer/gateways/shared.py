"""
What a gateway shares with the others, as its server and its scheduler use it: each question goes to the hub.

While the hub is away: sessions, viewers, speakers, secrets and the state of the daemon are refused, as if there were
none left; connections and requests are counted here alone; open sessions go on, and their rooms stand still.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import structlog

from streamer.access.limiter import LocalLimiter, Refused
from streamer.config import LimitsConfig
from streamer.dialects.openai.keys import ClientSecret
from streamer.gateways import wire
from streamer.gateways.client import ANSWER_S, HubAwayError, HubClient
from streamer.protocol.events import Caption, Event, TurnEnd, TurnRevised
from streamer.server.rooms.base_room import Message, Viewer
from streamer.server.rooms.mirror import Mirror
from streamer.server.rooms.room import NOTHING_SAID, Past
from streamer.server.rooms.rooms import number_after
from streamer.server.state import Overview

log = structlog.get_logger()


class SharedPlace:
    """A place that the hub has given."""

    def __init__(self, hub: HubClient, number: int) -> None:
        self._hub, self._number, self._weight = hub, number, 1.0

    def weigh(self, weight: float) -> None:
        """As `Place.weigh`; a place that was given back stays so."""
        if self._weight and weight != self._weight:
            self._weight = weight
            self._hub.tell(wire.Weigh(place=self._number, weight=weight))


class SharedPlaces:
    """The places of all gateways."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def take(
        self, session: str, token: str, caller: str, capacity: int, resumed: tuple[str, str] | None
    ) -> SharedPlace:
        """
        As `Places.take`.

        Args:
            session: Name of the session that is to have it.
            token: Its secret.
            caller: Name of the API key, or empty.
            capacity: Places of all gateways together, as this one has measured them.
            resumed: Name and secret of a session that it goes on with.
        """
        number = self._hub.number()
        ask = wire.Take(place=number, session=session, token=token, caller=caller, capacity=capacity, resumed=resumed)
        await self._hub.ask(ask, undo=wire.Weigh(place=number, weight=0.0))
        return SharedPlace(self._hub, number)


class SharedLimiter:
    """
    The limits of all gateways together.

    Args:
        hub: Counts for all.
        limits: Of the connections, for the time that the hub is away.
    """

    def __init__(self, hub: HubClient, limits: LimitsConfig) -> None:
        self._hub, self._own = hub, LocalLimiter(limits)
        self._entries: dict[str, list[int]] = {}
        """WebSockets of each owner that the hub has counted."""
        self._n_counted = 0

    @property
    def n_open(self) -> int:
        """Open WebSockets of this gateway."""
        return self._n_counted + self._own.n_open

    async def enter(self, owner: str, *, is_socket: bool, may_have_all: bool) -> Refused | None:
        """
        As `Limiter.enter`.

        Args:
            owner: Of the budget.
            is_socket: Whether it is a WebSocket.
            may_have_all: Whether the caller may have more connections than are left for others.
        """
        number = self._hub.number()
        ask = wire.Enter(entry=number, owner=owner, is_socket=is_socket, may_have_all=may_have_all)
        try:
            answer = await self._hub.ask(ask, undo=wire.Leave(entry=number))
        except HubAwayError:
            return await self._own.enter(owner, is_socket=is_socket, may_have_all=may_have_all)
        if answer.refused is None and is_socket:
            self._entries.setdefault(owner, []).append(number)
            self._n_counted += 1
        return answer.refused

    def leave(self, owner: str) -> None:
        """As `Limiter.leave`."""
        entries = self._entries.get(owner)
        if entries is None:
            self._own.leave(owner)
            return
        self._hub.tell(wire.Leave(entry=entries.pop()))
        self._n_counted -= 1
        if not entries:
            del self._entries[owner]

    async def request(self, owner: str) -> Refused | float:
        """As `Limiter.request`."""
        try:
            answer = await self._hub.ask(wire.Request(owner=owner))
        except HubAwayError:
            return await self._own.request(owner)
        return answer.wait_s if answer.refused is None else answer.refused


class SharedSecrets:
    """The client secrets of all gateways."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def add(self, secret: ClientSecret) -> None:
        """As `SecretStore.add`."""
        await self._hub.ask(wire.Keep(secret=secret))

    async def find(self, value: str | None) -> ClientSecret | None:
        """As `SecretStore.find`; nobody is asked about what cannot be one."""
        if value is None or not value.startswith("ek_"):
            return None
        return (await self._hub.ask(wire.Find(value=value))).secret


class SharedState:
    """The state of all gateways."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub

    async def metrics(self) -> bytes:
        """As `DaemonState.metrics`; raises OverloadError while the hub is away."""
        return (await self._hub.ask(wire.State())).metrics

    async def overview(self) -> Overview:
        """As `DaemonState.overview`; raises OverloadError while the hub is away."""
        answer = await self._hub.ask(wire.State())
        assert answer.overview is not None
        return answer.overview


class _SharedPublisher:
    """A room of the hub, for a session that speaks in it."""

    def __init__(self, hub: HubClient, speaker: int) -> None:
        self._hub, self._speaker = hub, speaker

    def publish(self, event: Event) -> None:
        """As `Publisher.publish`."""
        if isinstance(event, Caption | TurnEnd | TurnRevised):
            self._hub.publish(wire.Publish(speaker=self._speaker, event=event))


@dataclass(slots=True)
class _Watched:
    """A room with viewers here."""

    mirror: Mirror
    n_viewers: int = 0


class SharedRooms:
    """The rooms of all gateways, with a mirror of each that has viewers here."""

    def __init__(self, hub: HubClient) -> None:
        self._hub = hub
        self._watched: dict[str, _Watched] = {}

    def take(self, says: wire.RoomSays) -> None:
        """Take what is said in a room; what is said before its beginning is for viewers that have gone."""
        if watched := self._watched.get(says.room):
            messages = [Message(said.number, said.turn, said.text) for said in says.messages]
            watched.mirror.take(messages, run=says.run, begins=says.begins)

    async def view(self, name: str, last_id: str = "") -> AbstractContextManager[tuple[Mirror, Viewer]]:
        """As `RoomService.view`."""
        number = self._hub.number()
        watched = self._watched.setdefault(name, _Watched(Mirror(name)))
        watched.n_viewers += 1
        try:
            await self._hub.ask(wire.Watch(viewer=number, room=name), undo=wire.Unwatch(viewer=number))
            await self._begun(watched.mirror, number)
        except BaseException:
            self._unwatch(name, watched)
            raise
        return self._viewing(name, watched, number, last_id)

    async def _begun(self, mirror: Mirror, number: int) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await mirror.wait_begun()
        except BaseException as error:
            self._hub.tell(wire.Unwatch(viewer=number))
            if isinstance(error, TimeoutError):
                raise HubAwayError from None
            raise

    @contextlib.contextmanager
    def _viewing(self, name: str, watched: _Watched, number: int, last_id: str) -> Iterator[tuple[Mirror, Viewer]]:
        mirror = watched.mirror
        viewer = mirror.join(number_after(last_id, mirror.run))
        try:
            yield mirror, viewer
        finally:
            mirror.leave(viewer)
            self._unwatch(name, watched)
            self._hub.tell(wire.Unwatch(viewer=number))

    def _unwatch(self, name: str, watched: _Watched) -> None:
        watched.n_viewers -= 1
        if not watched.n_viewers:
            del self._watched[name]

    async def speak(
        self, name: str, session: str, past: Past = NOTHING_SAID
    ) -> AbstractContextManager[_SharedPublisher]:
        """
        As `RoomService.speak`.

        Args:
            name: Of the room.
            session: Name of the session.
            past: What it has said before.
        """
        number = self._hub.number()
        ask = wire.Speak(speaker=number, room=name, session=session, past=tuple(past.turns), first=past.first)
        await self._hub.ask(ask, undo=wire.Hush(speaker=number))
        return self._speaking(number)

    @contextlib.contextmanager
    def _speaking(self, number: int) -> Iterator[_SharedPublisher]:
        try:
            yield _SharedPublisher(self._hub, number)
        finally:
            self._hub.tell(wire.Hush(speaker=number))
