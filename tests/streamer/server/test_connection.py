"""Tests of streamer/server/connection.py over loopback sockets, with scripted sessions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from streamer.access.decoding_budget import DecodingAccount, DecodingBudget
from streamer.access.keys import Caller, Keys
from streamer.config import Config, LimitsConfig, ServerConfig
from streamer.errors import EngineError
from streamer.protocol.events import Speech
from streamer.protocol.messages import COMES_BACK
from streamer.protocol.options import SessionOptions, Update
from streamer.server.connection import Connection
from streamer.server.rooms.rooms import Rooms
from streamer.server.websocket import WebSocketTransport, accept
from tests.helpers.asgi_client import AsgiClient
from tests.helpers.fake_scheduler import FakeScheduler, FakeStream, script_of
from tests.helpers.http_daemon import (
    CONFIG,
    SECOND,
    Daemon,
    Message,
    closing,
    end,
    receive,
    receive_until,
    serving,
    start,
    within,
)
from tests.helpers.live_recordings import recording
from tests.helpers.waiting import until_idle

NOT_A_NUMBER = np.full(4, np.nan, "<f4").tobytes()


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A server whose sessions say one turn."""
    async with serving(scheduler=FakeScheduler(script_of(["so the first thing"]))) as running:
        yield running


class TestSession:
    """What a well-behaved client sees."""

    async def test_a_whole_session_ends_with_bye_and_1000(self, daemon: Daemon) -> None:
        """Hello, started, captions as audio comes, the turn, bye, close 1000."""
        async with daemon.connect() as client:
            hello, started = await start(client, language="en")
            await client.send(SECOND * 2)
            messages = await end(client)
            _, code = await closing(client)

        assert client.subprotocol == "captions.v1"
        assert hello["protocol"] == "captions.v1"
        assert hello["limits"] == {"max_frame_bytes": 100_000, "idle_s": 30.0}
        assert (started["session"], started["resume"]) == (hello["session"], hello["resume"])
        assert started["resume_from_s"] == 0.0
        captions = [message for message in messages if message["type"] == "caption"]
        assert captions[-1]["stable"] + captions[-1]["partial"] == "so the first thing"
        assert [message["text"] for message in messages if message["type"] == "turn_end"] == ["so the first thing"]
        assert messages[-1] == {"type": "bye", "reason": "end", "audio_s": 2.0, "turns": 1}
        assert code == 1000

    async def test_audio_is_decoded_as_announced(self, daemon: Daemon) -> None:
        """A session gets 16 kHz mono whatever is sent, the resampler's tail included."""
        audio = np.full(48000, 0.25, "<f4")
        async with daemon.connect() as client:
            await start(client, audio={"encoding": "pcm_f32le", "rate": 48000, "channels": 1})
            for part in np.split(audio, 10):
                await client.send(part.tobytes())
            await end(client)

        samples = np.concatenate(daemon.scheduler.streams[0].samples)
        assert len(samples) == 16000
        assert abs(float(samples[8000]) - 0.25) < 1e-3

    async def test_captions_come_as_the_client_asked(self, daemon: Daemon) -> None:
        """The writer leaves out what was not asked for."""
        async with daemon.connect() as client:
            await start(client, words=False, partials=False)
            await client.send(SECOND * 2)
            messages = await end(client)

        captions = [message for message in messages if message["type"] == "caption"]
        assert [(message["rev"], message["stable"]) for message in captions] == [(2, "so"), (3, "so the")]
        assert not any("words" in message or message.get("partial") for message in messages)

    async def test_update_and_flush_reach_the_session(self, daemon: Daemon) -> None:
        """The flush is answered."""
        async with daemon.connect() as client:
            await start(client)
            await client.send('{"type":"update","language":"de","keyterms":["Ray Serve"]}')
            await client.send('{"type":"flush","id":7}')
            messages = await receive_until(client, "flushed")

        assert messages[-1] == {"type": "flushed", "id": 7}
        assert daemon.scheduler.streams[0].updates == [Update(language="de", keyterms=("Ray Serve",))]

    async def test_defaults_come_from_the_configuration(self) -> None:
        """What `start` leaves out is as the operator has set it."""
        config = msgspec.structs.replace(CONFIG, session=SessionOptions(language="de", endpoint_ms=900))
        async with serving(config) as daemon, daemon.connect() as client:
            _, started = await start(client, endpoint_ms=300)

        assert (started["language"], started["endpoint_ms"]) == ("de", 300)

    async def test_the_session_knows_its_caller(self, tmp_path: Path) -> None:
        """Limits and logs speak of who holds the key."""
        (tmp_path / "keys").write_text("kitchen 0123456789abcdef\n")
        headers = {"Authorization": "Bearer 0123456789abcdef"}
        async with (
            serving(keys=Keys(tmp_path / "keys")) as daemon,
            daemon.connect(additional_headers=headers) as client,
        ):
            await start(client)

        assert daemon.scheduler.streams[0].caller == "kitchen"

    async def test_a_program_need_not_offer_the_subprotocol(self, daemon: Daemon) -> None:
        """Then none is answered."""
        async with daemon.connect(subprotocols=None) as client:
            assert (await receive(client))["type"] == "hello"
        assert client.subprotocol is None


class TestBadInput:
    """Every mistake has its code, and costs no other session anything."""

    @pytest.mark.parametrize(
        ("begin", "frame", "code", "close"),
        [
            (None, bytes(3200), "start_required", 1002),
            (None, "not json", "bad_json", 1002),
            (None, '{"type":"begin"}', "unknown_type", 1002),
            (None, '{"type":"start","endpoint":1}', "unknown_field", 1002),
            (None, '{"type":"start","language":"xx"}', "bad_value", 1002),
            (None, '{"type":"start","endpoint_ms":50}', "bad_value", 1002),
            (None, '{"type":"start","audio":{"encoding":"opus"}}', "bad_value", 1002),
            (None, '{"type":"start","audio":{"rate":96000}}', "bad_value", 1002),
            (None, json.dumps({"type": "start", "prompt": "x" * 4097}), "bad_value", 1002),
            (None, json.dumps({"type": "start", "keyterms": ["x"] * 257}), "bad_value", 1002),
            (None, json.dumps({"type": "start", "keyterms": ["x" * 129]}), "bad_value", 1002),
            ({}, '{"type":"start"}', "already_started", 1002),
            ({"audio": {"encoding": "pcm_f32le"}}, NOT_A_NUMBER, "bad_audio", 1007),
            ({}, bytes(100_002), "frame_too_large", 1009),
            ({}, "x" * 100_001, "frame_too_large", 1009),
        ],
    )
    async def test_each_mistake_has_its_code_and_close_code(
        self, daemon: Daemon, begin: Message | None, frame: str | bytes, code: str, close: int
    ) -> None:
        """A fatal error comes first, then the close; the session beside it goes on to its end."""
        async with daemon.connect() as other:
            await start(other)
            await other.send(SECOND)
            async with daemon.connect() as client:
                if begin is not None:
                    await start(client, **begin)
                await client.send(frame)
                messages, close_code = await closing(client)
            await other.send(SECOND)
            others = await end(other)

        assert messages[-1]["type"] == "error"
        assert (messages[-1]["code"], messages[-1]["fatal"], close_code) == (code, True, close)
        assert others[-1]["audio_s"] == 2.0

    async def test_start_required_says_what_came(self, daemon: Daemon) -> None:
        """The message is one a person can act on."""
        async with daemon.connect() as client:
            await client.send(bytes(3200))
            messages, _ = await closing(client)

        assert messages[-1]["message"] == 'expected "start" before audio, got 3200 bytes of audio'

    async def test_a_message_after_end_is_an_error(self, daemon: Daemon) -> None:
        """Nothing is said after `end`."""
        async with daemon.connect() as client:
            await start(client)
            daemon.scheduler.streams[0].has_ended = True  # no bye: the tail takes its time
            await client.send('{"type":"end"}')
            await client.send(SECOND)
            messages, code = await closing(client)

        assert (messages[-1]["code"], code) == ("after_end", 1002)

    async def test_far_too_large_is_cut_while_it_is_read(self, daemon: Daemon) -> None:
        """A huge message does not get into memory."""
        async with daemon.connect() as client:
            await start(client)
            await client.send(bytes(300_000))
            _, code = await closing(client)

        assert code == 1009

    async def test_bad_audio_ends_the_session(self, daemon: Daemon) -> None:
        """It does not stay open for a client that will only do it again."""
        async with daemon.connect() as client:
            await start(client, audio={"encoding": "pcm_f32le"})
            await client.send(NOT_A_NUMBER)
            await closing(client)
            await within(daemon.scheduler.streams[0].detached.wait())

        assert daemon.scheduler.streams[0].has_ended

    async def test_bad_audio_takes_no_text_back(self) -> None:
        """What was said before it is delivered, and the error comes last."""
        scheduler = FakeScheduler(script_of(["so the first thing"]))
        async with serving(scheduler=scheduler) as daemon, daemon.connect() as client:
            await start(client, audio={"encoding": "pcm_f32le"})
            await client.send(2 * SECOND)
            await client.send(NOT_A_NUMBER)
            messages, code = await closing(client)

        assert [message["text"] for message in messages if message["type"] == "turn_end"] == ["so the first thing"]
        assert [message["type"] for message in messages][-2:] == ["bye", "error"]
        assert (messages[-1]["code"], code) == ("bad_audio", 1007)

    @pytest.mark.parametrize("encoding", ["container", "webm_opus"])
    @pytest.mark.parametrize("name", ["wav 24 bit", "ogg opus", "mp3", "flac", "fragmented mp4"])
    async def test_recordings_in_any_container_are_heard(self, daemon: Daemon, encoding: str, name: str) -> None:
        """Twice on one connection, the first message a byte; a client that comes back sends them from the start."""
        data = recording(name, np.zeros(16_000, np.float32))
        messages = [data[:1], *(data[at : at + 50_000] for at in range(1, len(data), 50_000))]
        async with daemon.connect() as client:
            hello, _ = await start(client, audio={"encoding": encoding})
            for message in messages:
                await client.send(message)
            await client.close(COMES_BACK)
            await within(daemon.scheduler.streams[0].detached.wait())
        async with daemon.connect() as client:
            resume = {"session": hello["session"], "token": hello["resume"]}
            await start(client, audio={"encoding": encoding}, resume=resume)
            for message in [*messages, *messages]:
                await client.send(message)
            bye = (await end(client))[-1]

        assert bye["audio_s"] == pytest.approx(2.0, abs=0.2)

    async def test_a_silent_client_gets_its_tail(self) -> None:
        """Silence on the wire is an error, but what was said is transcribed and delivered."""
        config = msgspec.structs.replace(CONFIG, server=ServerConfig(port=0, idle_s=1.0))
        scheduler = FakeScheduler(script_of(["so the first thing"]))
        async with serving(config, scheduler) as daemon, daemon.connect() as client:
            await start(client)
            await client.send(SECOND)
            messages, code = await closing(client)

        errors = [message for message in messages if message["type"] == "error"]
        assert [message["code"] for message in errors] == ["idle"]
        assert [message["type"] for message in messages[-2:]] == ["turn_end", "bye"]
        assert code == 1000

    async def test_a_client_that_never_starts_is_closed(self) -> None:
        """With the code `idle`."""
        config = msgspec.structs.replace(CONFIG, server=ServerConfig(port=0, idle_s=0.05))
        async with serving(config) as daemon, daemon.connect() as client:
            messages, code = await closing(client)

        assert (messages[-1]["code"], code) == ("idle", 1000)

    async def test_a_full_daemon_says_when_to_come_back(self) -> None:
        """Then it closes with 1013."""
        full = FakeScheduler(max_sessions=1)
        async with serving(scheduler=full) as daemon, daemon.connect() as first, daemon.connect() as second:
            await start(first)
            await second.send('{"type":"start"}')
            messages, code = await closing(second)

        assert messages[-1] == {
            "type": "error",
            "code": "overloaded",
            "message": "1 of 1 sessions running",
            "fatal": True,
            "retry_after_s": 5.0,
        }
        assert code == 1013

    async def test_compression_is_not_agreed_on(self, daemon: Daemon) -> None:
        """A few bytes cannot become gigabytes: a client that offers to compress is answered without."""
        async with connect(daemon.url("/v1/captions", "ws"), compression="deflate", proxy=None) as client:
            await start(client)

            assert client.protocol.extensions == []

    async def test_an_old_connection_ends_as_at_a_restart(self) -> None:
        """Its tail comes, then 1012, and the client resumes."""
        config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(max_connection_s=1.0))
        scheduler = FakeScheduler(script_of(["so the first thing"]))
        async with serving(config, scheduler) as daemon, daemon.connect() as client:
            await start(client)
            await client.send(SECOND)
            messages, code = await closing(client)

        types = [message["type"] for message in messages]
        assert types[types.index("draining") :][-2:] == ["turn_end", "bye"]
        assert code == 1012

    async def test_a_fault_of_the_engine_is_told(self, daemon: Daemon) -> None:
        """Then the connection closes with 1011."""
        async with daemon.connect() as client:
            await start(client)
            daemon.scheduler.streams[0].say(EngineError("the step failed"))
            messages, code = await closing(client)

        assert (messages[-1]["code"], messages[-1]["message"], code) == ("internal", "the step failed", 1011)

    async def test_an_unforeseen_fault_is_told_without_details(self, daemon: Daemon) -> None:
        """Of a bug the client sees no more than that there is one."""
        async with daemon.connect() as client:
            await start(client)
            daemon.scheduler.streams[0].say(ZeroDivisionError("secret"))
            messages, code = await closing(client)

        assert (messages[-1]["code"], code) == ("internal", 1011)
        assert "secret" not in messages[-1]["message"]


class TestLeaving:
    """Connections that break, stall, come back, or have to go."""

    async def test_a_vanished_client_detaches(self, daemon: Daemon) -> None:
        """A socket that is gone without `end` keeps its session for a while."""
        async with daemon.connect() as client:
            await start(client)
            await client.send(SECOND)
            stream = await within(daemon.scheduler.wait_stream())
            await within(stream.fed.wait())
            client.transport.abort()
            await within(stream.detached.wait())

        assert not stream.has_ended

    @pytest.mark.parametrize(
        ("code", "is_over"), [(1000, True), (1001, True), (COMES_BACK, False), (3000, False), (None, False)]
    )
    async def test_a_clean_close_gives_the_place_back(self, daemon: Daemon, code: int | None, is_over: bool) -> None:
        """A client that closes normally does not come back; one that says otherwise, or nothing, keeps its session."""
        async with daemon.connect() as client:
            await start(client)
            await client.send(SECOND)
            stream = await within(daemon.scheduler.wait_stream())
            await within(stream.fed.wait())
            client.protocol.send_close(code)  # without a code as a browser does
            client.send_data()
            await within(stream.detached.wait())

        assert stream.has_ended == is_over

    async def test_vanishing_is_noticed_while_the_backlog_is_full(self, daemon: Daemon) -> None:
        """The writer finds out when the reader is stuck in `feed`; the audio that waits is not taken."""
        async with daemon.connect() as client:
            await start(client)
            stream = daemon.scheduler.streams[0]
            stream.room.clear()
            await client.send(SECOND)
            client.transport.abort()
            async with asyncio.timeout(120):
                while not stream.detached.is_set():
                    stream.say(Speech(state="started", at_s=0.0))
                    await asyncio.sleep(0)

        assert not stream.has_ended
        assert stream.samples == []

    async def test_a_client_that_takes_no_message_is_detached(self) -> None:
        """Its session is kept as for any lost connection; accept, hello and started had arrived."""
        client = AsgiClient('{"type":"start"}', n_taken=3)
        scheduler = FakeScheduler([(0.0, Speech(state="started", at_s=0.0))])
        running = asyncio.create_task(run(client, scheduler, send_timeout_s=0.1))
        stream = await within(scheduler.wait_stream())
        stream.say(Speech(state="started", at_s=0.0))
        await within(running)

        assert stream.detached.is_set()
        assert not stream.has_ended
        assert client.taken_types == ["websocket.accept", "websocket.send", "websocket.send"]

    async def test_a_cancelled_connection_is_detached(self) -> None:
        """Stopping the server loses no session."""
        client, scheduler = AsgiClient('{"type":"start"}', n_taken=100), FakeScheduler()
        running = asyncio.create_task(run(client, scheduler, send_timeout_s=10.0))
        stream = await within(scheduler.wait_stream())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert stream.detached.is_set()

    async def test_a_session_that_cannot_be_opened_as_a_whole_is_ended(self) -> None:
        """An error between the place that it takes and `started` leaves no session behind."""

        class Broken(FakeScheduler):
            async def begin(self, *args: Any, **options: Any) -> FakeStream:
                stream = await super().begin(*args, **options)
                stream.received_s = float("inf")
                return stream

        client, scheduler = AsgiClient('{"type":"start","audio":{"encoding":"webm_opus"}}', n_taken=100), Broken()
        with pytest.raises(OverflowError):
            await run(client, scheduler, send_timeout_s=10.0)

        assert [(stream.has_ended, stream.detached.is_set()) for stream in scheduler.streams] == [(True, True)]

    async def test_a_known_session_is_resumed(self, daemon: Daemon) -> None:
        """The same session goes on from the audio it has."""
        async with daemon.connect() as client:
            hello, _ = await start(client, language="de")
            await client.send(SECOND)
            stream = daemon.scheduler.streams[0]
            await within(stream.fed.wait())
            await client.close(COMES_BACK)
        await within(stream.detached.wait())
        async with daemon.connect() as client:
            resume = {"session": hello["session"], "token": hello["resume"], "stable_s": 0.5, "context": "so"}
            _, started = await start(client, resume=resume)
            await client.send(SECOND)
            messages = await end(client)

        assert (started["session"], started["resume"]) == (hello["session"], hello["resume"])
        assert (started["resume_from_s"], started["language"]) == (1.0, "de")
        assert messages[-1]["audio_s"] == 2.0
        assert len(daemon.scheduler.streams) == 1

    async def test_an_unknown_session_continues_as_a_new_one(self, daemon: Daemon) -> None:
        """Another node continues from what the client has."""
        async with daemon.connect() as client:
            resume = {"session": "s_other", "token": "r_other", "stable_s": 12.5, "context": "last words"}
            hello, started = await start(client, resume=resume)

        assert started["session"] == hello["session"]
        assert started["resume_from_s"] == 12.5
        assert daemon.scheduler.streams[0].context == "last words"

    async def test_a_fast_sender_is_slowed_down(self, daemon: Daemon) -> None:
        """A sender faster than the transcription is held by TCP; nothing is dropped, others are not held."""
        async with daemon.connect() as client, daemon.connect() as other:
            await start(client)
            stream = daemon.scheduler.streams[0]
            stream.room.clear()
            n_messages = 400
            sending = asyncio.create_task(send_all(client, n_messages))
            await start(other)
            await other.send(SECOND * 2)
            assert (await end(other))[-1]["audio_s"] == 2.0
            assert not sending.done()
            assert stream.samples == []
            stream.room.set()
            await within(sending)
            messages = await end(client)

        assert messages[-1]["audio_s"] == pytest.approx(3.0 * n_messages)

    async def test_a_client_that_falls_silent_at_a_drain_is_sent_on_at_once(self, daemon: Daemon) -> None:
        """As the client of the pages does: where other sessions may speak on for long, nothing else ends its own."""
        async with daemon.connect() as client:
            await start(client)
            await client.send(SECOND)
            await within(daemon.scheduler.streams[0].fed.wait())
            await daemon.connections.announce_drain(3600.0)
            messages, code = await closing(client)

        types = [message["type"] for message in messages]
        assert types[types.index("draining") :][-2:] == ["turn_end", "bye"]
        assert code == 1012

    async def test_a_session_that_waits_for_its_place_during_a_drain_is_not_opened(self) -> None:
        """Its client is told to come back, as at once it would have been; so is one whose connection grows too old."""
        scheduler = SlowScheduler()
        async with serving(scheduler=scheduler) as daemon, daemon.connect() as client:
            await client.send('{"type":"start"}')
            await within(scheduler.asked.wait())
            await daemon.connections.announce_drain(20.0)
            scheduler.has_place.set()
            messages, code = await closing(client)

        assert [message["type"] for message in messages] == ["hello", "draining", "error"]
        assert (messages[-1]["code"], code) == ("draining", 1012)
        assert scheduler.streams[0].has_ended
        assert scheduler.streams[0].detached.is_set()

    async def test_a_drain_delivers_tails_and_refuses_new_clients(self, daemon: Daemon) -> None:
        """Open sessions are told, get their tail and 1012; waiting and new clients are sent away."""
        async with daemon.connect() as client, daemon.connect() as waiting:
            await start(client)
            await client.send(SECOND)
            await within(daemon.scheduler.streams[0].fed.wait())
            await receive_until(waiting, "hello")
            await daemon.connections.announce_drain(20.0)
            await daemon.scheduler.drain(20.0)
            messages, code = await closing(client)
            refusal, refusal_code = await closing(waiting)
            async with daemon.connect() as late:
                late_messages, late_code = await closing(late)
            readiness = await daemon.get("/readyz")

        types = [message["type"] for message in messages]
        assert "draining" in types
        assert types[-2:] == ["turn_end", "bye"]
        assert code == refusal_code == late_code == 1012
        assert refusal[-1]["code"] == late_messages[-1]["code"] == "draining"
        assert readiness.status_code == 503

    async def test_a_session_that_was_ended_is_over_at_a_drain(self, daemon: Daemon) -> None:
        """Nothing is left to resume behind its `bye`, so the client is not asked to come back."""
        async with daemon.connect() as client:
            await start(client)
            stream = daemon.scheduler.streams[0]
            stream.rest.clear()
            await client.send('{"type":"end"}')
            await within(stream.ended.wait())
            await daemon.connections.announce_drain(20.0)
            stream.rest.set()
            messages, code = await closing(client)

        types = [message["type"] for message in messages]
        assert ("draining" in types, types[-1], code) == (True, "bye", 1000)

    async def test_stop_closes_with_service_restart(self, daemon: Daemon) -> None:
        """Whoever is still there when the port closes knows to come back."""
        async with daemon.connect() as client:
            await start(client)
            await daemon.http.stop()
            _, code = await closing(client)

        assert code == 1012
        assert daemon.scheduler.streams[0].detached.is_set()
        assert len(daemon.connections) == 0


async def test_a_recording_that_waits_for_its_turn_holds_up_no_drain() -> None:
    """Its client is told at once to go on elsewhere, and its session is over."""
    start_container = json.dumps({"type": "start", "audio": {"encoding": "container"}})
    client, scheduler, decoding = (
        AsgiClient(start_container, bytes(2000), n_taken=20),
        FakeScheduler(),
        DecodingBudget(),
    )
    decoding.charge(10**12)
    await accept(client.socket)
    transport = WebSocketTransport(client.socket, 10.0)
    connection = Connection(transport, scheduler, Config(), Caller(), DecodingAccount(decoding), Rooms(Config()))
    running = asyncio.create_task(connection.run())
    await until_idle()
    assert not running.done()

    await connection.announce_drain(5.0)
    await within(running)

    assert client.taken[-1] == {"type": "websocket.close", "code": 1012, "reason": ""}
    assert json.loads(client.taken[-2]["text"])["type"] == "bye"
    assert scheduler.streams[0].detached.is_set()


class SlowScheduler(FakeScheduler):
    """Opens sessions once `has_place` is set, as where several processes share the places."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.has_place = asyncio.Event(), asyncio.Event()

    async def begin(self, options: SessionOptions, **fields: Any) -> FakeStream:
        """As `SessionService.begin`."""
        self.asked.set()
        await self.has_place.wait()
        return await super().begin(options, **fields)


async def run(client: AsgiClient, scheduler: FakeScheduler, send_timeout_s: float) -> None:
    """A connection to its end."""
    await accept(client.socket)
    transport = WebSocketTransport(client.socket, send_timeout_s)
    await Connection(transport, scheduler, Config(), Caller(), DecodingAccount(DecodingBudget()), Rooms(Config())).run()


async def send_all(client: ClientConnection, n_messages: int) -> None:
    """Send messages of three seconds as fast as the connection takes them."""
    for _ in range(n_messages):
        await client.send(SECOND * 3)
