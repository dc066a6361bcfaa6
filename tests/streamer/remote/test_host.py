"""Tests of streamer/remote/host.py: the calls of several gateways on one engine."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from itertools import zip_longest

import msgspec
import pytest
import torch

from streamer.remote import wire
from streamer.remote.host import MAX_WAITING, EngineHost, StepTimesQueue
from streamer.step import StepRequest
from streamer.telemetry.metrics import StepTimes
from tests.helpers.engines import request
from tests.helpers.hosted_engines import FINGERPRINT, hosted
from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.waiting import until_idle

WINDOW = torch.full((5, 60), 0.1)


class Gateways:
    """A running host, and the gateways that call it."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.now_s = 100.0
        self.engine, self.host = engine, hosted(engine, lambda: self.now_s)
        self.said: list[tuple[str, wire.FromEngine]] = []
        """Gateway and message, in the order in which they were sent."""
        self._numbers = iter(range(1000))
        self._open = set[int]()
        self._heard_more = asyncio.Event()

    def call(
        self,
        gateway: str,
        *requests: StepRequest,
        within_s: float = 2.0,
        fingerprint: str = FINGERPRINT,
        most_rows: int = 4,
        firsts: Sequence[int] = (),
    ) -> int:
        """Call the host, and leave out the frames before the first one of each row; the number of the call."""
        number = next(self._numbers)
        message = wire.Call(
            id=number,
            fingerprint=fingerprint,
            deadline_s=self.now_s + within_s,
            most_rows=most_rows,
            rows=tuple(wire.row_of(each, first) for each, first in zip_longest(requests, firsts, fillvalue=0)),
        )
        self.tell(gateway, message)
        return number

    def tell(self, gateway: str, message: wire.Message) -> None:
        """Send a message."""
        received = wire.from_gateway(wire.pack(message)[wire.LENGTH.size :])
        if isinstance(received, wire.Call):
            self._open.add(received.id)
        self.host.take(received, lambda said: self._heard(gateway, said))

    def _heard(self, gateway: str, message: wire.Message) -> None:
        self.said.append((gateway, wire.from_engine(wire.pack(message)[wire.LENGTH.size :])))
        if isinstance(message, wire.Reply | wire.Refused):
            self._open.discard(message.id)
        self._heard_more.set()

    async def run(self) -> None:
        """Let the host run until every call is answered."""
        task = asyncio.create_task(self.host.run())
        async with asyncio.timeout(120):
            while self._open:
                self._heard_more.clear()
                await self._heard_more.wait()
        task.cancel()

    def replies(self) -> dict[int, wire.Reply]:
        """By number of the call."""
        return {message.id: message for _, message in self.said if isinstance(message, wire.Reply)}

    def sessions(self) -> list[list[str]]:
        """Of each step that the engine has run."""
        return [[asked.session for asked in batch] for batch in self.engine.batches]


class Vanished:
    """The way to a gateway that is not there any more."""

    def is_closing(self) -> bool:
        """Nothing is sent."""
        return True


@pytest.fixture
def gateways() -> Gateways:
    """Gateways of a host with a scripted engine."""
    return Gateways(ScriptedEngine())


async def test_calls_that_wait_together_become_one_step(gateways: Gateways) -> None:
    """Each gateway gets the answers to its own rows, and the cost of the whole step."""
    one = gateways.call("one", request(WINDOW, "a"), request(WINDOW, "b"))
    two = gateways.call("two", request(WINDOW, "c"))
    await gateways.run()

    assert gateways.sessions() == [["a", "b", "c"]]
    assert [gateway for gateway, _ in gateways.said] == ["one", "two"]
    assert (len(gateways.replies()[one].rows), len(gateways.replies()[two].rows)) == (2, 1)
    assert {reply.n_rows for reply in gateways.replies().values()} == {3}


async def test_ends_of_turns_go_first_and_a_small_call_never_waits_for_a_large_one(gateways: Gateways) -> None:
    """Rows beyond a step go into the next one, in the order in which they came."""
    large = gateways.call("one", *(request(WINDOW, f"p{i}") for i in range(6)))
    small = gateways.call("two", request(WINDOW, "f", final=True))
    await gateways.run()

    assert gateways.sessions() == [["f", "p0", "p1", "p2"], ["p3", "p4", "p5"]]
    assert [message.id for _, message in gateways.said if isinstance(message, wire.Reply)] == [small, large]


async def test_a_step_has_as_many_rows_as_the_gateways_allow(gateways: Gateways) -> None:
    """They know how long a step may take."""
    gateways.call("one", *(request(WINDOW, f"p{i}") for i in range(4)), most_rows=2)
    await gateways.run()

    assert gateways.sessions() == [["p0", "p1"], ["p2", "p3"]]


async def test_two_calls_for_one_session_are_two_steps(gateways: Gateways) -> None:
    """A gateway that gave a call up sends it again; both are answered."""
    first, again = (gateways.call("one", request(WINDOW, "a")) for _ in range(2))
    await gateways.run()

    assert gateways.sessions() == [["a"], ["a"]]
    assert gateways.replies().keys() == {first, again}


async def test_what_nobody_waits_for_any_more_is_not_run(gateways: Gateways) -> None:
    """A process that stood still works off nothing that is stale."""
    late = gateways.call("one", request(WINDOW, "a"), within_s=2.0)
    gateways.now_s += 3.0
    in_time = gateways.call("one", request(WINDOW, "b"), within_s=2.0)
    await gateways.run()

    assert gateways.sessions() == [["b"]]
    assert ("one", wire.Refused(id=late, reason="late")) in gateways.said
    assert gateways.replies().keys() == {in_time}


async def test_requests_for_other_weights_are_refused(gateways: Gateways) -> None:
    """Their tokens would mean something else here."""
    number = gateways.call("one", request(WINDOW, "a"), fingerprint="other")
    await gateways.run()

    assert gateways.said == [("one", wire.Refused(id=number, reason="fingerprint"))]
    assert gateways.engine.batches == []


async def test_a_row_whose_window_is_not_held_is_asked_for_whole(gateways: Gateways) -> None:
    """The other rows of its call are answered; a call of such rows alone is answered at once, without a step."""
    rows = [request(WINDOW, name, window_start=0) for name in "ab"]
    both = gateways.call("one", *rows, firsts=[40, 0])
    alone = gateways.call("two", rows[0], firsts=[40])
    assert gateways.replies()[alone].rows == (wire.RowAnswer(needs_all=True),)
    await gateways.run()

    unknown, known = gateways.replies()[both].rows
    assert unknown == wire.RowAnswer(needs_all=True)
    assert known.result is not None
    assert gateways.sessions() == [["b"]]


async def test_a_window_is_put_together_from_what_was_sent(gateways: Gateways) -> None:
    """Until its session is over."""
    grown = torch.cat([WINDOW, 2 * WINDOW], dim=1)
    gateways.call("one", request(WINDOW, "a", window_start=0))
    gateways.call("one", request(grown, "a", window_start=0), firsts=[60])
    await gateways.run()
    gateways.tell("one", wire.Forget(sessions=("a",)))
    gone = gateways.call("one", request(grown, "a", window_start=0), firsts=[120])
    await gateways.run()

    assert torch.equal(gateways.engine.batches[1][0].log_mel, grown.half().float())
    assert gateways.replies()[gone].rows == (wire.RowAnswer(needs_all=True),)


async def test_a_bad_row_is_an_error_of_its_own(gateways: Gateways) -> None:
    """In the call of one gateway; the others are answered."""
    gateways.engine.poisoned["a"] = 1
    bad = gateways.call("one", request(WINDOW, "a"))
    good = gateways.call("two", request(WINDOW, "b"))
    await gateways.run()

    assert gateways.replies()[bad].rows[0].error == "poisoned row"
    assert gateways.replies()[good].rows[0].result is not None


async def test_sessions_that_are_over_are_forgotten(gateways: Gateways) -> None:
    """Before the next step."""
    gateways.tell("one", wire.Forget(sessions=("a", "b")))
    gateways.call("one", request(WINDOW, "c"))
    await gateways.run()

    assert gateways.engine.forgotten == ["a", "b"]


async def test_pings_are_answered_while_a_step_runs(gateways: Gateways) -> None:
    """The gateway must tell a busy engine from one that stands still."""
    gateways.engine.hold()
    task = asyncio.create_task(gateways.host.run())
    gateways.call("one", request(WINDOW, "a"))
    assert await asyncio.to_thread(gateways.engine.entered.wait, 60)
    gateways.tell("one", wire.Ping())

    [(to, pong)] = gateways.said
    assert isinstance(pong, wire.Pong)
    assert pong.resident_bytes > 10e6
    pong = msgspec.structs.replace(pong, resident_bytes=0)
    assert (to, pong) == ("one", wire.Pong(is_alive=True, text_bytes=0, audio_bytes=0, n_rebuilt=0, clock_s=100.0))
    gateways.engine.release()
    task.cancel()


async def test_the_time_of_the_device_is_told(gateways: Gateways) -> None:
    """Of all steps so far: gateways see how busy it is."""
    gateways.call("one", request(WINDOW, "a"))
    await gateways.run()
    gateways.tell("one", wire.Ping())

    [(_, reply), (_, pong)] = gateways.said
    assert isinstance(reply, wire.Reply)
    assert isinstance(pong, wire.Pong)
    assert pong.busy_s == reply.seconds > 0


async def test_more_rows_than_can_wait_are_refused(gateways: Gateways) -> None:
    """Their gateway looks for another engine."""
    rows = [request(WINDOW[:, :1], f"{i}") for i in range(MAX_WAITING)]
    gateways.call("one", *rows)
    more = gateways.call("two", request(WINDOW, "one more"))

    assert gateways.said == [("two", wire.Refused(id=more, reason="full"))]


async def test_a_timed_call_is_run_by_itself_and_measured(gateways: Gateways) -> None:
    """It belongs to no session; a step that fails is told as an error."""
    rows = tuple(wire.row_of(request(WINDOW, name), 0) for name in "ab")
    fields = {"fingerprint": FINGERPRINT, "deadline_s": 1e9, "most_rows": 1, "is_timed": True}
    gateways.tell("one", wire.Call(id=1, rows=rows, **fields))
    await gateways.run()
    gateways.engine.poisoned["a"] = 9
    gateways.tell("one", wire.Call(id=2, rows=rows, **fields))
    await gateways.run()

    timed, failed = gateways.replies()[1], gateways.replies()[2]
    assert timed.rows == ()
    assert timed.seconds > 0
    assert failed.rows[0].error == "poisoned batch"


def test_times_of_steps_wait_for_a_reply_within_a_bound() -> None:
    """They are handed on once, the newest."""
    queue = StepTimesQueue()
    steps = [StepTimes(encode_s=n, detect_s=None, passes=(), align_s=0.0, rows=()) for n in range(300)]
    for step in steps:
        queue.stepped(step)

    assert queue.take() == tuple(steps[-256:])
    assert queue.take() == ()


async def test_sessions_of_a_gateway_that_vanished_count_no_more(gateways: Gateways) -> None:
    """The kernel ends the connection of a machine without power, with an error that is not the engine's."""
    reader = asyncio.StreamReader()
    serving = asyncio.create_task(gateways.host.serve(reader, Vanished()))  # type: ignore[arg-type]
    reader.feed_data(wire.pack(wire.Ping(n_speaking=7)))
    await until_idle()
    gateways.tell("one", wire.Ping())
    reader.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
    await serving
    gateways.tell("one", wire.Ping())

    assert [pong.n_speaking for _, pong in gateways.said if isinstance(pong, wire.Pong)] == [7, 0]


async def test_a_gateway_that_leaves_or_talks_nonsense(gateways: Gateways) -> None:
    """The first is the end of its connection, the second an error."""

    async def serve(data: bytes) -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        await EngineHost.serve(gateways.host, reader, None)  # type: ignore[arg-type]  # nothing is answered

    await serve(wire.pack(wire.Forget(sessions=("a",)))[:-1])
    with pytest.raises(wire.WireError):
        await serve(wire.LENGTH.pack(3) + b"abc")
