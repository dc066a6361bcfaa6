"""
The hub of a daemon with several gateways: it knows what they share, and relays between them.

It runs in their parent. Gateways ask it for whatever is bounded over all of them: places of sessions, connections,
viewers, client secrets. A room lives here, and each gateway with viewers of it has a mirror.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from streamer.access.limiter import LocalLimiter, Refused
from streamer.config import Config
from streamer.dialects.openai.keys import ClientSecrets
from streamer.errors import OverloadError, ProtocolError
from streamer.gateways import wire
from streamer.gateways.member import Member, Speaker, Subscription
from streamer.gateways.overviews import joined
from streamer.gateways.places import PlaceTable
from streamer.server.rooms.mirror import RelayedViewer
from streamer.server.rooms.room import Past, Room
from streamer.server.rooms.rooms import Rooms
from streamer.server.state import Overview
from streamer.telemetry.families import Family, counted, families_of, summed, text_of
from streamer.telemetry.metrics import HubMetrics

RETRY_S = 10.0
"""When a client may try again after a question that failed, seconds."""

log = structlog.get_logger()


class HubFailedError(OverloadError):
    """The hub met an error that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__("the daemon could not answer: its log says why; try again", retry_after_s=RETRY_S)


class Hub:
    """
    Counts for all gateways of one daemon, and relays what is said in rooms.

    Args:
        config: `limits` and `server` are read.
        registry: Metrics of the parent, shown with those of the gateways.
        clock: Monotonic time, seconds.
    """

    def __init__(
        self, config: Config, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry, self._clock, self._started_s = registry, clock, clock()
        self._failures = HubMetrics(registry).failures
        self._limiter, self._rooms, self._secrets = LocalLimiter(config.limits, clock), Rooms(config), ClientSecrets()
        self._places = PlaceTable(config.limits.max_sessions_per_key)
        self._members: list[Member] = []
        self._past: tuple[Family, ...] = ()
        """What gateways that are gone have counted."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def members(self) -> tuple[Member, ...]:
        """The gateways that are connected."""
        return tuple(self._members)

    @property
    def _serving(self) -> list[Member]:
        """The gateways that answer: one that starts reads nothing yet."""
        return [member for member in self._members if member.start.done()]

    @property
    def taken(self) -> float:
        """Places of sessions that are taken."""
        return self._places.taken

    async def serve(self, member: Member, reader: asyncio.StreamReader) -> None:
        """
        Take the messages of a gateway until it leaves; then everything that it holds is free.

        Args:
            member: The gateway.
            reader: Of its connection.

        Raises:
            HubWireError: It sent what is no message.
        """
        self._members.append(member)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await self.take(member, wire.from_gateway(await wire.FRAMING.read(reader)))
        finally:
            self._lose(member)

    async def take(self, member: Member, message: wire.FromGateway) -> None:
        """
        Take one message. What must wait for another gateway is answered later.

        Args:
            member: Whose.
            message: As decoded.
        """
        match message:
            case wire.Serving() | wire.Failed():
                member.begun(message)
            case wire.Alive():
                member.lives()
            case wire.Report() | wire.Done():
                member.answered(message)
            case wire.State():
                self._later(member, message, self._tell_state(member, message))
            case wire.Take():
                member.taking.add(message.place)
                self._later(member, message, self._give_place(member, message))
            case wire.Weigh():
                if not message.weight:
                    member.taking.discard(message.place)
                self._places.weigh(member, message.place, message.weight)
            case wire.Enter():
                await self._enter(member, message)
            case wire.Leave(entry=entry):
                if entry in member.entries:
                    self._limiter.leave(member.entries.pop(entry))
            case wire.Request():
                await self._request(member, message)
            case wire.Keep(id=number, secret=secret):
                with _telling_failure(member, number):
                    self._secrets.add(secret, time.time())
                    member.send(wire.Answer(id=number))
            case wire.Find(id=number, value=value):
                member.send(wire.Answer(id=number, secret=self._secrets.find(value, time.time())))
            case wire.Watch(id=number):
                with _telling_failure(member, number):
                    member.send(wire.Answer(id=number, run=self._watch(member, message)))
            case wire.Unwatch(viewer=viewer):
                if stack := member.viewers.pop(viewer, None):
                    stack.close()
            case wire.Speak(id=number):
                with _telling_failure(member, number):
                    self._let_speak(member, message)
                    member.send(wire.Answer(id=number))
            case wire.Hush(speaker=speaker):
                if known := member.speakers.pop(speaker, None):
                    known.leave()
            case wire.Publish(speaker=speaker, event=event):
                if known := member.speakers.get(speaker):
                    known.room.publish(event)

    def _later(self, member: Member, ask: wire.Ask, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._answer(member, ask, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, member: Member, ask: wire.Ask, work: Coroutine[Any, Any, None]) -> None:
        """Do what a question asks for. One that fails is refused: the daemon goes on for everybody else."""
        try:
            await work
        except Exception:  # noqa: BLE001 - counted and told
            self._note_failure(member, type(ask).__name__)
            member.send(wire.Answer(id=ask.id, failure=failure_of(HubFailedError())))

    def _note_failure(self, member: Member, work: str) -> None:
        """Count and tell the error that is being handled."""
        self._failures.inc()
        log.exception("hub_failed", work=work, gateway=member.name)

    def _lose(self, member: Member) -> None:
        self._members.remove(member)
        self._places.drop(member)
        for owner in member.entries.values():
            self._limiter.leave(owner)
        member.lose()
        if member.report:
            self._past = summed([self._past, counted(member.report.families)])

    # --- places

    async def _give_place(self, member: Member, ask: wire.Take) -> None:
        if ask.resumed and (held := self._places.give_up(*ask.resumed)) and isinstance(held.gateway, Member):
            held.gateway.give_up(held.session, held.token)  # whatever the session holds there is free
        failure = None
        # whoever has left needs no room: no session ends for nobody
        while ask.place in member.taking and (refusal := self._places.refusal(ask.caller, ask.capacity)):
            if not await self._make_room(member, ask.caller, refusal.of_caller):
                failure = wire.Failure(kind="overload", message=refusal.message, retry_after_s=10.0)
                break
        if ask.place not in member.taking:
            return  # nobody waits for it any more
        member.taking.discard(ask.place)
        if failure is None:
            self._places.add(member, ask.place, ask.session, ask.token, ask.caller, ask.resumed)
        member.send(wire.Answer(id=ask.id, failure=failure))

    async def _make_room(self, member: Member, caller: str, of_caller: str) -> bool:
        """End a session that never had sound, preferably of the asking gateway; whether there was one."""
        members = sorted(self._serving, key=lambda other: other is not member)
        greedy = "" if of_caller else self._places.greediest(caller)
        if greedy and await _any_is_true(member.make_room(greedy, is_greedy=True) for member in members):
            return True
        return await _any_is_true(member.make_room(of_caller) for member in members)

    # --- connections and requests

    async def _enter(self, member: Member, ask: wire.Enter) -> None:
        refused = await self._limiter.enter(ask.owner, is_socket=ask.is_socket, may_have_all=ask.may_have_all)
        if refused is None and ask.is_socket:
            member.entries[ask.entry] = ask.owner
        member.send(wire.Answer(id=ask.id, refused=refused))

    async def _request(self, member: Member, ask: wire.Request) -> None:
        match await self._limiter.request(ask.owner):
            case Refused() as refused:
                member.send(wire.Answer(id=ask.id, refused=refused))
            case wait_s:
                member.send(wire.Answer(id=ask.id, wait_s=wait_s))

    # --- rooms

    def _watch(self, member: Member, ask: wire.Watch) -> str:
        """Let a viewer of a gateway join a room; returns the run of the room."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._rooms.counted())
            subscription = self._subscription(member, ask.room)
            subscription.viewers.add(ask.viewer)
            stack.callback(self._unsubscribe, member, ask.room, ask.viewer)
            member.viewers[ask.viewer] = stack.pop_all()
        return subscription.run

    def _subscription(self, member: Member, name: str) -> Subscription:
        """The subscription of a gateway to a room; the first viewer there begins it."""
        if known := member.subscriptions.get(name):
            return known
        joining = contextlib.ExitStack()
        room, viewer = joining.enter_context(self._rooms.joined(name, RelayedViewer))
        joining.callback(asyncio.create_task(self._relay(member, name, room, viewer)).cancel)
        member.subscriptions[name] = Subscription(room.run, joining.close)
        return member.subscriptions[name]

    async def _relay(self, member: Member, name: str, room: Room, viewer: RelayedViewer) -> None:
        """Send a gateway what is said in a room; where that fails the next viewer there begins it anew, for all."""
        try:
            await _send_all(member, name, room, viewer)
        except Exception:  # noqa: BLE001 - counted and told
            self._note_failure(member, "relay")
            member.subscriptions.pop(name).end()

    def _unsubscribe(self, member: Member, name: str, viewer: int) -> None:
        if subscription := member.subscriptions.get(name):
            subscription.viewers.discard(viewer)
            if not subscription.viewers:
                del member.subscriptions[name]
                subscription.end()

    def _let_speak(self, member: Member, ask: wire.Speak) -> None:
        if ask.session in member.given_up:  # it asked before it was told
            raise OverloadError("the client of this session goes on elsewhere", retry_after_s=1.0)
        with contextlib.ExitStack() as stack:
            speaking = self._rooms.speaking(ask.room, ask.session, Past(ask.past, ask.first))
            room = stack.enter_context(speaking)
            member.speakers[ask.speaker] = Speaker(ask.session, room, stack.pop_all().close)

    # --- the state of all

    async def _tell_state(self, member: Member, ask: wire.State) -> None:
        overview, metrics = await self.state()
        member.send(wire.Answer(id=ask.id, overview=overview, metrics=metrics))

    async def state(self) -> tuple[Overview, bytes]:
        """The overview of all gateways, and their metrics with the parent's as text."""
        await asyncio.gather(*(member.tell() for member in self._serving))
        # those that are gone by now are in `_past`
        reports = [member.report for member in self._members if member.report]
        families = summed([families_of(self._registry), *(report.families for report in reports), self._past])
        overview = joined([report.overview for report in reports], self._clock() - self._started_s)
        return overview, text_of(families)


async def _send_all(member: Member, name: str, room: Room, viewer: RelayedViewer) -> None:
    """Send a gateway what is said in a room until it is gone; one that reads too slowly begins anew."""
    with contextlib.suppress(ConnectionError):
        while True:
            batch = await viewer.batch()
            if batch is None:
                room.begin_again(viewer)
                continue
            begins, messages = batch
            said = tuple(wire.Said(number=m.number, turn=m.turn, text=m.text) for m in messages)
            member.send(wire.RoomSays(room=name, run=room.run, begins=begins, messages=said))
            await member.drain()


@contextlib.contextmanager
def _telling_failure(member: Member, number: int) -> Iterator[None]:
    """Answer a question of a gateway with the error that the block raises, for the client that asked."""
    try:
        yield
    except (ProtocolError, OverloadError) as error:
        member.send(wire.Answer(id=number, failure=failure_of(error)))


async def _any_is_true(answers: Iterable[Awaitable[bool]]) -> bool:
    """Whether any answer is true; asked one after the other, up to the first that is."""
    for answer in answers:
        if await answer:
            return True
    return False


def failure_of(error: ProtocolError | OverloadError) -> wire.Failure:
    """An error as it crosses to a gateway."""
    if isinstance(error, OverloadError):
        return wire.Failure(kind="overload", message=str(error), retry_after_s=error.retry_after_s)
    return wire.Failure(kind="protocol", message=str(error), code=error.code)
