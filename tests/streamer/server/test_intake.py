"""Tests of streamer/server/intake.py."""

from __future__ import annotations

import asyncio

import numpy as np

from streamer.protocol.bounds import MAX_KEYTERMS_BYTES
from streamer.protocol.events import Ack, Bye, Flushed
from streamer.protocol.messages import AudioFormat, Flush
from streamer.protocol.options import SessionOptions, Update
from streamer.server.intake import Intake, decoder_of
from tests.helpers.fake_scheduler import FakeStream
from tests.helpers.waiting import counted_turns, until_idle
from tests.helpers.webm import recorded

HALF_SECOND = np.full(24000, 0.25, "<f4").tobytes()


def session() -> tuple[FakeStream, Intake]:
    """One that is sent audio at 48 kHz."""
    stream = FakeStream("s_1", "r_1", SessionOptions(), [], 0.0)
    return stream, Intake(stream, decoder_of(AudioFormat(encoding="pcm_f32le", rate=48000)))


async def test_flush_comes_after_all_audio_before_it() -> None:
    """What the resampler holds back belongs to it: a push-to-talk client sends nothing more for a while."""
    stream, intake = session()

    await intake.take(HALF_SECOND)
    held_back = 8000 - sum(map(len, stream.samples))
    await intake.take(Flush(id=7))
    at_flush = sum(map(len, stream.samples))
    await intake.take(HALF_SECOND)
    await intake.finish()
    intake.end()

    assert held_back > 0
    assert at_flush == 8000
    assert sum(map(len, stream.samples)) == 16000
    assert [event async for event in stream if not isinstance(event, Ack)] == [
        Flushed(id=7),
        Bye(reason="end", audio_s=1.0, turns=0),
    ]


async def test_nothing_reaches_a_session_that_was_taken_over() -> None:
    """Neither audio nor messages of the connection that was lost, nor its end."""
    stream, intake = session()
    stream.holder += 1

    await intake.take(HALF_SECOND)
    await intake.take(Update(language="de"))
    await intake.take(Flush(id=1))
    intake.end()
    stream.say(Flushed(id=2))

    assert (stream.samples, stream.updates, stream.has_ended) == ([], [], False)
    assert await anext(aiter(stream)) == Flushed(id=2)


async def test_a_flush_that_waits_for_room_is_left_to_the_connection_that_takes_over() -> None:
    """It sends the flush again, behind the audio before it; here it would end a turn in the middle of that."""
    stream, intake = session()
    stream.room.clear()
    flushing = asyncio.create_task(intake.take(Flush(id=1)))
    await until_idle()

    stream.holder += 1
    stream.room.set()
    await flushing
    stream.say(Flushed(id=2))

    assert await anext(aiter(stream)) == Flushed(id=2)


async def test_a_client_that_changes_its_key_terms_all_the_time_waits() -> None:
    """Each list costs work on the device thread: the first ones are taken at once, more are not read any faster."""
    stream, intake = session()
    long = Update(keyterms=tuple(f"{n:03}" + "x" * 61 for n in range(MAX_KEYTERMS_BYTES // 64)))

    async def change() -> None:
        while True:
            await intake.take(long)

    changing = asyncio.create_task(change())
    await until_idle()
    changing.cancel()

    assert len(stream.updates) == 2


async def test_other_clients_are_served_while_a_long_message_is_decoded() -> None:
    """A recording of thousands of empty elements between its packets in one message holds nobody up."""
    stream = FakeStream("s_1", "r_1", SessionOptions(), [], 0.0)
    intake = Intake(stream, decoder_of(AudioFormat(encoding="webm_opus")))
    await intake.take(recorded(np.zeros(960, np.float32)))
    silence = b"\xa3\x87\x81\0\0\x80\xf8\xff\xfe"  # a block with 20 ms of it
    async with counted_turns() as turns:
        await intake.take((b"\xec\x80" * 190 + silence) * 300)

    assert turns.n > 5


async def test_channels_out_of_phase_are_heard() -> None:
    """A client that tells two channels gets what sounds in them, where their mean would be silence."""
    stream, _ = session()
    intake = Intake(stream, decoder_of(AudioFormat(encoding="pcm_f32le", rate=16_000, channels=2)))
    left = (0.3 * np.sin(np.arange(16_000) * 0.2)).astype("<f4")

    for at in range(0, len(left), 1600):
        await intake.take(np.stack([left, -left], axis=1)[at : at + 1600].tobytes())

    heard = np.concatenate(stream.samples)
    np.testing.assert_allclose(np.abs(heard[1600:]), np.abs(left[1600:]), atol=1e-6)
