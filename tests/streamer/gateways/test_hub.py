"""Tests of streamer/gateways/hub.py, client.py and shared.py: what gateways share is counted once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
import structlog.testing
from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from streamer.access.limiter import Refused
from streamer.config import LimitsConfig
from streamer.dialects.openai.keys import ClientSecret
from streamer.dialects.openai.session import default_settings
from streamer.errors import OverloadError, ProtocolError
from streamer.gateways import client as client_module
from streamer.gateways import member as member_module
from streamer.gateways import wire
from streamer.gateways.client import HubAwayError, HubClient
from streamer.gateways.hub import Hub
from streamer.gateways.places import PlaceTable
from streamer.gateways.shared import SharedLimiter, SharedPlaces, SharedRooms, SharedSecrets, SharedState
from streamer.protocol.options import SessionOptions
from streamer.server.rooms.base_room import Viewer
from streamer.server.rooms.room import Past
from streamer.server.state import Overview
from streamer.telemetry.families import families_of
from streamer.telemetry.statistics import SchedulerStatistics
from tests.helpers.hubs import NO_LIMITS, gateway, hub
from tests.helpers.waiting import until, until_idle
from tests.streamer.server.rooms.test_mirror import texts
from tests.streamer.server.rooms.test_room import caption, turn_end


@contextlib.asynccontextmanager
async def two(limits: LimitsConfig = NO_LIMITS) -> AsyncIterator[tuple[Hub, HubClient, HubClient]]:
    """A hub and two gateways."""
    middle = hub(limits)
    async with gateway(middle, "0") as first, gateway(middle, "1") as second:
        yield middle, first, second


def answering(client: HubClient, *, makes_room: Callable[[], bool] = lambda: False) -> list[str]:
    """Let a gateway answer what the hub asks; what it was asked."""
    asked = list[str]()

    def handle(message: wire.FromHub) -> None:
        match message:
            case wire.MakeRoom(id=number, caller=caller, is_greedy=is_greedy):
                asked.append(f"make room {caller}{' at once' if is_greedy else ''}".strip())
                client.tell(wire.Done(id=number, is_done=makes_room()))

    client.handle = handle
    return asked


class TestPlaces:
    """Sessions of all gateways together."""

    async def test_there_are_no_more_than_the_capacity(self) -> None:
        """However many come at once, and wherever; a place that is given back can be taken."""
        async with two() as (middle, *clients):
            for client in clients:
                answering(client)
            places = [SharedPlaces(client) for client in clients]
            asked = [places[n % 2].take(f"s_{n}", "secret", "", 10, None) for n in range(30)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            taken = [place for place in found if not isinstance(place, BaseException)]
            refused = [error for error in found if isinstance(error, BaseException)]

            assert (len(taken), len(refused), middle.taken) == (10, 20, 10.0)
            assert {type(error) for error in refused} == {OverloadError}
            assert str(refused[0]) == "no free place: 10 of 10 sessions open; try again later"
            taken[0].weigh(0.0)
            taken[0].weigh(1.0)
            await places[1].take("s_30", "secret", "", 10, None)

    async def test_a_session_that_waits_takes_a_part_of_a_place(self) -> None:
        """Four of them leave room for one more."""
        async with two() as (middle, first, second):
            answering(first)
            answering(second)
            for n in range(4):
                place = await SharedPlaces(first).take(f"s_{n}", "secret", "", 4, None)
                place.weigh(0.25)
            await SharedPlaces(second).take("s_4", "secret", "", 4, None)
            assert middle.taken == 2.0

    async def test_a_caller_has_no_more_than_it_may(self) -> None:
        """On all gateways together; others still get in."""
        async with two(LimitsConfig(max_sessions_per_key=1)) as (_, first, second):
            asked = answering(first) + answering(second)
            await SharedPlaces(first).take("s_0", "secret", "kitchen", 9, None)
            with pytest.raises(OverloadError, match="no free place for this API key: 1 sessions open"):
                await SharedPlaces(second).take("s_1", "secret", "kitchen", 9, None)
            await SharedPlaces(second).take("s_2", "secret", "hall", 9, None)
            assert asked == []

    async def test_a_silent_session_gives_way_at_whatever_gateway(self) -> None:
        """The hub asks the gateway that wants the place first."""
        async with two() as (middle, first, second):
            place = await SharedPlaces(second).take("s_0", "secret", "", 1, None)

            def end() -> bool:
                place.weigh(0.0)
                return True

            asked = answering(first), answering(second, makes_room=end)
            await SharedPlaces(first).take("s_1", "secret", "", 1, None)
            assert asked == (["make room"], ["make room"])
            assert middle.taken == 1.0

    async def test_a_gateway_that_starts_is_not_waited_for(self) -> None:
        """It has no session that could give way, and reads no question yet."""
        middle = hub()
        async with gateway(middle, "0") as first, gateway(middle, "1", serves=False) as second:
            asked = answering(first), answering(second)
            await SharedPlaces(first).take("s_0", "secret", "", 1, None)
            with pytest.raises(OverloadError, match="no free place: 1 of 1 sessions open"):
                await SharedPlaces(first).take("s_1", "secret", "", 1, None)
            assert asked == (["make room"], [])

    async def test_who_has_most_makes_room_for_who_has_less(self) -> None:
        """A session without sound of the caller who has filled all places, wherever it is."""
        async with two() as (middle, first, second):
            places = [await SharedPlaces(second).take(f"s_{n}", "secret", "greedy", 3, None) for n in range(3)]

            def end() -> bool:
                places.pop().weigh(0.0)
                return True

            asked = answering(first), answering(second, makes_room=end)
            await SharedPlaces(first).take("s_3", "secret", "modest", 3, None)
            assert asked == (["make room greedy at once"], ["make room greedy at once"])
            asked[1].clear()
            await SharedPlaces(first).take("s_4", "secret", "greedy", 3, None)
            assert asked[1] == ["make room"]
            assert middle.taken == 3.0

    async def test_a_client_that_goes_on_elsewhere_frees_its_old_place(self) -> None:
        """And the room that its session spoke in; the old gateway, which may hang, is told and not waited for."""
        async with two() as (middle, first, second):
            told = list[wire.FromHub]()
            first.handle = told.append
            place = await SharedPlaces(first).take("s_0", "secret", "", 1, None)
            with await SharedRooms(first).speak("hall", "s_0") as stage:
                await SharedPlaces(second).take("s_1", "other", "", 1, ("s_0", "secret"))
                with await SharedRooms(second).speak("hall", "s_1"):
                    stage.publish(turn_end(0))  # of a speaker that is none any more
                    place.weigh(0.25)
            await until(lambda: told)
            assert told == [wire.GiveUp(session="s_0", token="secret")]
            assert middle.taken == 1.0

    async def test_a_client_that_was_not_told_of_its_new_session_gets_its_room_back(self) -> None:
        """However often and wherever it comes: it asks for the one that it was told of, and the last still speaks."""
        async with two() as (middle, first, second), contextlib.AsyncExitStack() as held:
            told: tuple[list[wire.FromHub], list[wire.FromHub]] = ([], [])
            first.handle, second.handle = (each.append for each in told)
            await SharedPlaces(first).take("s_0", "r_0", "", 1, None)
            held.enter_context(await SharedRooms(first).speak("hall", "s_0"))
            for n in range(1, 6):
                client = (first, second)[n % 2]
                await SharedPlaces(client).take(f"s_{n}", f"r_{n}", "", 1, ("s_0", "r_0"))
                held.enter_context(await SharedRooms(client).speak("hall", f"s_{n}"))
            await until(lambda: sum(map(len, told)) == 5)
            assert told[1] == [wire.GiveUp(session=f"s_{n}", token=f"r_{n}") for n in (1, 3)]
            assert middle.taken == 1.0

    async def test_a_session_that_was_given_up_takes_no_room(self) -> None:
        """Its gateway may ask for the room before it hears that the client has gone on elsewhere."""
        async with two() as (_, first, second):
            await SharedPlaces(first).take("s_0", "r_0", "", 9, None)
            await SharedPlaces(second).take("s_1", "r_1", "", 9, ("s_0", "r_0"))
            with pytest.raises(OverloadError, match="goes on elsewhere"):
                await SharedRooms(first).speak("hall", "s_0")
            with await SharedRooms(second).speak("hall", "s_1"):
                pass

    async def test_nobody_ends_a_session_whose_secret_he_does_not_know(self) -> None:
        """Its place stays, and its room; its gateway hears nothing of it."""
        async with two() as (middle, first, second):
            told = list[wire.FromHub]()
            first.handle = told.append
            await SharedPlaces(first).take("s_0", "secret", "", 9, None)
            with await SharedRooms(first).speak("hall", "s_0"):
                await SharedPlaces(second).take("s_1", "other", "", 9, ("s_0", "a guess"))
                with pytest.raises(ProtocolError, match="another session speaks in room hall"):
                    await SharedRooms(second).speak("hall", "s_1")
            assert (told, middle.taken) == ([], 2.0)

    async def test_a_gateway_that_dies_holds_nothing(self) -> None:
        """Places, connections, viewers, speakers."""
        middle = hub(LimitsConfig(max_connections=1, max_viewers=1))
        async with gateway(middle) as first:
            await SharedPlaces(first).take("s_0", "secret", "", 1, None)
            assert await SharedLimiter(first, LimitsConfig()).enter("a", is_socket=True, may_have_all=True) is None
            stage, viewing = await SharedRooms(first).speak("hall", "s_0"), None
            rooms = SharedRooms(first)
            first.handle = lambda message: rooms.take(message) if isinstance(message, wire.RoomSays) else None
            viewing = await rooms.view("hall")
        del stage, viewing
        assert (middle.taken, middle.members) == (0.0, ())
        async with gateway(middle) as second:
            rooms = SharedRooms(second)
            second.handle = lambda message: rooms.take(message) if isinstance(message, wire.RoomSays) else None
            await SharedPlaces(second).take("s_1", "secret", "", 1, None)
            assert await SharedLimiter(second, LimitsConfig()).enter("b", is_socket=True, may_have_all=True) is None
            with await rooms.speak("hall", "s_1"), await rooms.view("hall"):
                pass

    async def test_a_question_that_is_cancelled_takes_nothing(self) -> None:
        """Also where the hub is about to grant it."""
        async with two() as (middle, first, second):
            answering(second)
            asking = asyncio.create_task(SharedPlaces(first).take("s_0", "secret", "", 1, None))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await SharedPlaces(second).take("s_1", "secret", "", 1, None)
            assert middle.taken == 1.0

    async def test_a_gateway_that_dies_while_it_asks_takes_nothing(self) -> None:
        """The hub waits for another gateway's answer then."""
        held = list[wire.FromHub]()
        middle = hub()
        async with gateway(middle, "1") as second:
            second.handle = held.append
            place = await SharedPlaces(second).take("s_0", "secret", "", 1, None)
            async with gateway(middle, "0") as first:
                answering(first)
                asking = asyncio.create_task(SharedPlaces(first).take("s_1", "secret", "", 1, None))
                await until(lambda: held)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            assert isinstance(held[0], wire.MakeRoom)
            place.weigh(0.0)
            second.tell(wire.Done(id=held[0].id, is_done=True))
            await until(lambda: middle.taken == 0.0)
            await until_idle()
            assert middle.taken == 0.0

    async def test_no_session_ends_for_who_has_left(self) -> None:
        """The hub asks no gateway for more room then."""
        held = list[wire.FromHub]()
        async with two() as (middle, first, second):
            second.handle = held.append
            answering(first)
            places = [await SharedPlaces(second).take(f"s_{n}", "secret", "", 2, None) for n in range(2)]
            asking = asyncio.create_task(SharedPlaces(first).take("s_2", "secret", "", 1, None))
            await until(lambda: held)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await until(lambda: not middle.members[0].taking)

            places[0].weigh(0.0)
            second.tell(wire.Done(id=as_question(held[0]).id, is_done=True))
            await until(lambda: middle.taken == 1.0)
            await until_idle()
            assert len(held) == 1

    async def test_a_gateway_that_hangs_is_waited_for_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Until it says that it is alive: who asks meanwhile is refused at once."""
        monkeypatch.setattr(member_module, "ANSWER_S", 0.05)
        held = list[wire.FromHub]()
        async with two() as (middle, first, second):
            second.handle = held.append
            answering(first)
            await SharedPlaces(second).take("s_0", "secret", "greedy", 2, None)
            await SharedPlaces(second).take("s_1", "secret", "greedy", 2, None)
            for _ in range(2):
                with pytest.raises(OverloadError, match="no free place: 2 of 2 sessions open"):
                    await SharedPlaces(first).take("s_2", "secret", "modest", 2, None)
            assert [as_question(each).caller for each in held] == ["greedy"]

            second.tell(wire.Alive())
            await until(lambda: not middle.members[1].is_silent)
            with pytest.raises(OverloadError):
                await SharedPlaces(first).take("s_3", "secret", "modest", 2, None)
            assert len(held) == 2


def as_question(message: wire.FromHub) -> wire.MakeRoom:
    """What the hub asks a gateway."""
    assert isinstance(message, wire.MakeRoom)
    return message


class TestDoor:
    """Connections and rates of all gateways together."""

    async def test_connections_are_counted_once(self) -> None:
        """One more than may be is refused wherever it comes, until one is closed."""
        limits = LimitsConfig(max_connections=2)
        async with two(limits) as (_, first, second):
            limiters = [SharedLimiter(client, limits) for client in (first, second)]
            for limiter in limiters:
                assert await limiter.enter("a", is_socket=True, may_have_all=True) is None
            refused = await limiters[0].enter("b", is_socket=True, may_have_all=True)
            assert isinstance(refused, Refused)
            assert refused.status == 503
            assert [limiter.n_open for limiter in limiters] == [1, 1]
            limiters[1].leave("a")
            assert await limiters[0].enter("b", is_socket=True, may_have_all=True) is None

    async def test_the_rates_of_a_caller_hold_for_all(self) -> None:
        """Of new connections, and of other requests."""
        limits = LimitsConfig(handshakes_per_s=0.1, requests_per_s=0.1)
        async with two(limits) as (_, first, second):
            limiters = [SharedLimiter(client, limits) for client in (first, second)]
            assert await limiters[0].enter("a", is_socket=False, may_have_all=True) is None
            refused = await limiters[1].enter("a", is_socket=False, may_have_all=True)
            assert isinstance(refused, Refused)
            assert refused.status == 429
            assert await limiters[0].request("a") == 0.0
            found = [await limiters[n % 2].request("a") for n in range(3)]
            assert any(isinstance(each, Refused) for each in found)


class TestSecrets:
    """Client secrets, issued by one gateway and used at another."""

    def secret(self, value: str = "ek_1", owner: str = "hall") -> ClientSecret:
        """Valid for a minute."""
        settings = default_settings(SessionOptions(language="en"))
        return ClientSecret(value, int(time.time() + 60), None, settings, owner)

    async def test_every_gateway_knows_them(self) -> None:
        """With all their settings; nobody is asked about other keys."""
        async with two() as (_, first, second):
            await SharedSecrets(first).add(self.secret())
            assert await SharedSecrets(second).find("ek_1") == self.secret()
            assert await SharedSecrets(second).find("ek_2") is None
            assert await SharedSecrets(second).find(None) is None
            assert await SharedSecrets(second).find("a key") is None

    async def test_their_number_is_bounded(self) -> None:
        """For all gateways together."""
        async with two() as (_, first, second):
            for n in range(1000):
                await SharedSecrets((first, second)[n % 2]).add(self.secret(f"ek_{n}"))
            with pytest.raises(OverloadError, match="1000 client secrets of this caller"):
                await SharedSecrets(second).add(self.secret("ek_x"))


class TestRooms:
    """A speaker at one gateway, viewers at another."""

    async def test_viewers_of_all_gateways_see_it(self) -> None:
        """With what was said before they came; one who comes later too, and the room is forgotten at the end."""
        async with two() as (middle, first, second):
            rooms = [SharedRooms(client) for client in (first, second)]
            for client, mine in zip((first, second), rooms, strict=True):
                client.handle = lambda message, mine=mine: mine.take(message)  # type: ignore[misc]
            with await rooms[0].speak("hall", "s_1", Past([turn_end(0, "before")], 1)) as stage:
                stage.publish(turn_end(0, "one"))
                with await rooms[0].view("hall") as (_, here), await rooms[1].view("hall") as (_, there):
                    stage.publish(caption(1, "two"))
                    with await rooms[1].view("hall") as (mirror, late):
                        stage.publish(turn_end(1, "two"))
                        shown = [await self.read(each) for each in (here, there, late)]
            run = mirror.run
            await until(lambda: not middle._rooms.names)
            with await rooms[1].view("hall") as (mirror, _):
                assert mirror.run != run

        assert shown[0] == shown[1] == shown[2]
        assert [text.split('"text":')[1].split(",")[0] for text in shown[0]] == ['"before"', '"one"', '"two"']

    async def read(self, viewer: Viewer) -> list[str]:
        """Ends of turns, up to the one that says `two`."""
        found = list[str]()
        async with asyncio.timeout(120):
            async for message in viewer:
                if '"turn_end"' in message.text:
                    found.append(message.text)
                    if '"two"' in message.text:
                        break
        return found

    async def test_one_session_speaks_in_a_room(self) -> None:
        """Another one is refused, wherever it comes."""
        async with two() as (middle, first, second):
            with (
                await SharedRooms(first).speak("hall", "s_1"),
                pytest.raises(ProtocolError, match="another session speaks in room hall"),
            ):
                await SharedRooms(second).speak("hall", "s_2")
            await until(lambda: not middle._rooms.names)
            with await SharedRooms(second).speak("hall", "s_2"):
                pass

    async def test_viewers_are_bounded_together(self) -> None:
        """And a name that is none is told so."""
        async with two(LimitsConfig(max_viewers=1)) as (middle, first, second):
            rooms = [SharedRooms(client) for client in (first, second)]
            for client, mine in zip((first, second), rooms, strict=True):
                client.handle = lambda message, mine=mine: mine.take(message)  # type: ignore[misc]
            with await rooms[0].view("hall"), pytest.raises(OverloadError, match="1 viewers"):
                await rooms[1].view("hall")
            await until(lambda: not middle._rooms.names)
            with await rooms[1].view("hall"):
                pass
            with pytest.raises(ProtocolError, match="room"):
                await rooms[1].view("not a name")

    async def test_a_gateway_that_reads_too_slowly_begins_anew(self) -> None:
        """Its viewers get the state of the room again; others wait for nothing."""
        async with two() as (_, first, second):
            rooms = [SharedRooms(client) for client in (first, second)]
            second.handle = lambda message: rooms[1].take(message)  # type: ignore[arg-type]
            with await rooms[0].speak("hall", "s_1") as stage, await rooms[1].view("hall") as (_, viewer):
                for turn in range(600):
                    stage.publish(turn_end(turn, f"turn {turn}"))
                await until(lambda: "turn 599" in str(viewer._pending))
            await until_idle()
            assert (await texts(viewer))[0].startswith('{"type":"room"')


class TestState:
    """Metrics and statistics of all gateways."""

    async def test_counts_are_summed_and_stay_when_a_gateway_is_gone(self) -> None:
        """Each series once; as often as they are asked for."""
        middle = hub()
        registries = [CollectorRegistry() for _ in range(2)]
        for n, registry in enumerate(registries):
            Counter("streamer_words", "Words.", registry=registry).inc(10 * (n + 1))

        def reporting(client: HubClient, registry: CollectorRegistry) -> None:
            def handle(message: wire.FromHub) -> None:
                assert isinstance(message, wire.Tell)
                report = wire.Report(id=message.id, overview=overview(), families=families_of(registry))
                client.tell(report)

            client.handle = handle

        async with gateway(middle) as first:
            reporting(first, registries[0])
            async with gateway(middle) as second:
                reporting(second, registries[1])
                seen = [words(await SharedState(first).metrics()) for _ in range(2)]
                together = await SharedState(second).overview()
            seen.append(words(await SharedState(first).metrics()))
            alone = await SharedState(first).overview()

        assert seen == [30.0, 30.0, 30.0]
        assert (together.n_connections, together.statistics.n_sessions, together.statistics.capacity) == (4, 6, 8)
        assert (alone.n_connections, alone.statistics.n_sessions) == (2, 3)


def words(text: bytes) -> float:
    """Value of the counter."""
    [value] = [
        sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "streamer_words_total"
    ]
    return float(value)


def overview() -> Overview:
    """Of one gateway."""
    statistics = SchedulerStatistics(
        n_sessions=3,
        n_speaking=1,
        capacity=8,
        interval_s=0.3,
        row_cost_s=0.01,
        worst_lag_s=0.0,
        n_steps=5,
        engines=(),
        sessions=(),
    )
    return Overview(uptime_s=1.0, n_connections=2, statistics=statistics)


class Broken(Collector):
    """Metrics that cannot be read."""

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that they can be registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Fails."""
        raise RuntimeError("no metrics")


class TestUnforeseenErrors:
    """Of the tasks that the hub runs beside its messages: none is silent, and none ends the daemon."""

    async def test_a_question_that_fails_is_refused_and_told(self) -> None:
        """At once, not when the gateway takes the hub for away; the next question is answered."""
        registry = CollectorRegistry()
        middle = hub(registry=registry)
        registry.register(Broken())
        async with gateway(middle) as client:
            with structlog.testing.capture_logs() as logs, pytest.raises(OverloadError, match="its log says why"):
                await SharedState(client).metrics()
            assert [(entry["event"], entry["work"], entry["gateway"]) for entry in logs] == [
                ("hub_failed", "State", "0")
            ]
            assert registry.get_sample_value("streamer_hub_failures_total") == 1.0
            await SharedPlaces(client).take("s_0", "r_0", "", 1, None)

    async def test_what_a_failed_question_was_granted_is_taken_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A place that nobody was told of would be taken until its gateway ends."""
        async with two() as (middle, first, second):
            granted = PlaceTable.add

            def fail(places: PlaceTable, *arguments: Any) -> None:
                granted(places, *arguments)
                raise RuntimeError("too late")

            with monkeypatch.context() as patched:
                patched.setattr(PlaceTable, "add", fail)
                with pytest.raises(OverloadError, match="its log says why"):
                    await SharedPlaces(first).take("s_0", "r_0", "", 1, None)
            await SharedPlaces(second).take("s_1", "r_1", "", 1, None)
            assert middle.taken == 1.0

    async def test_a_room_that_cannot_be_sent_begins_anew_with_the_next_viewer(self) -> None:
        """For those who are there too."""
        registry = CollectorRegistry()
        middle = hub(registry=registry)
        async with gateway(middle) as client:
            rooms = SharedRooms(client)
            client.handle = lambda message: rooms.take(message)  # type: ignore[arg-type]
            with middle._rooms.speaking("hall", "s_1") as stage, await rooms.view("hall") as (_, early):
                stage.publish(caption(0, "x" * wire.MAX_BYTES))
                await until(lambda: registry.get_sample_value("streamer_hub_failures_total") == 1.0)
                stage.publish(turn_end(0, "one"))
                with await rooms.view("hall") as (_, late):
                    stage.publish(turn_end(1, "two"))
                    shown = [await TestRooms().read(each) for each in (early, late)]
            await until(lambda: not middle._rooms.names)

        assert [["one" in text for text in texts] for texts in shown] == [[True, False]] * 2


async def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Sessions, viewers, secrets and state are refused; connections and requests are counted here alone.

    What was asked meanwhile is taken back when it answers again.
    """
    monkeypatch.setattr(client_module, "ANSWER_S", 0.05)
    limits = LimitsConfig(max_connections=1)
    middle, hold = hub(limits), asyncio.Event()
    take = middle.take

    async def slow(*message: object) -> None:
        await hold.wait()
        await take(*message)  # type: ignore[arg-type]

    middle.take = slow  # type: ignore[method-assign]
    async with gateway(middle) as client:
        limiter = SharedLimiter(client, limits)
        for refused in (
            SharedPlaces(client).take("s_0", "secret", "", 9, None),
            SharedRooms(client).view("hall"),
            SharedRooms(client).speak("hall", "s_0"),
            SharedSecrets(client).find("ek_1"),
            SharedState(client).metrics(),
        ):
            with pytest.raises(HubAwayError):
                await refused
        assert await limiter.enter("a", is_socket=True, may_have_all=True) is None
        assert isinstance(await limiter.enter("b", is_socket=True, may_have_all=True), Refused)
        assert await limiter.request("a") == 0.0
        hold.set()
        await SharedPlaces(client).take("s_1", "secret", "", 1, None)
        limiter.leave("a")
        assert await limiter.enter("c", is_socket=True, may_have_all=True) is None
        with await SharedRooms(client).speak("hall", "s_1"):
            pass
        assert middle.taken == 1.0
