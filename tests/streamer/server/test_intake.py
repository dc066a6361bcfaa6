"""Tests of streamer/server/intake.py."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from benchmarks.hostile.bombs import wav
from benchmarks.scale.clock import run
from streamer.access.decoding_budget import FAILURE_BYTES, DecodingAccount, DecodingBudget
from streamer.audio.containers import ContainerDecoder
from streamer.audio.pcm import Samples
from streamer.errors import AudioFormatError
from streamer.protocol.bounds import MAX_KEYTERMS_BYTES
from streamer.protocol.events import Ack, Bye, Flushed
from streamer.protocol.messages import AudioFormat, Flush
from streamer.protocol.options import SessionOptions, Update
from streamer.server.intake import SLICE_BYTES, Intake, decoder_of
from tests.helpers.fake_scheduler import FakeStream
from tests.helpers.waiting import counted_turns, until_idle
from tests.helpers.webm import recorded

WAV = wav(8000, 1, bytes(range(100, 160)) * 8000)
"""A minute of 8-bit samples."""
NOISE = np.random.default_rng(0).uniform(-0.1, 0.1, 30 * 48_000).astype(np.float32)
HALF_SECOND = np.full(24000, 0.25, "<f4").tobytes()


def session() -> tuple[FakeStream, Intake]:
    """One that is sent audio at 48 kHz."""
    stream = FakeStream("s_1", "r_1", SessionOptions(), [], 0.0)
    return stream, Intake(
        stream, decoder_of(AudioFormat(encoding="pcm_f32le", rate=48000)), DecodingAccount(DecodingBudget())
    )


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
    intake = Intake(stream, decoder_of(AudioFormat(encoding="webm_opus")), DecodingAccount(DecodingBudget()))
    await intake.take(recorded(np.zeros(960, np.float32)))
    silence = b"\xa3\x87\x81\0\0\x80\xf8\xff\xfe"  # a block with 20 ms of it
    async with counted_turns() as turns:
        await intake.take((b"\xec\x80" * 190 + silence) * 300)

    assert turns.n > 5


async def test_channels_out_of_phase_are_heard() -> None:
    """A client that tells two channels gets what sounds in them, where their mean would be silence."""
    stream, _ = session()
    intake = Intake(
        stream,
        decoder_of(AudioFormat(encoding="pcm_f32le", rate=16_000, channels=2)),
        DecodingAccount(DecodingBudget()),
    )
    left = (0.3 * np.sin(np.arange(16_000) * 0.2)).astype("<f4")

    for at in range(0, len(left), 1600):
        await intake.take(np.stack([left, -left], axis=1)[at : at + 1600].tobytes())

    heard = np.concatenate(stream.samples)
    np.testing.assert_allclose(np.abs(heard[1600:]), np.abs(left[1600:]), atol=1e-6)


def container(decoding: DecodingBudget) -> tuple[FakeStream, Intake]:
    """A session that is sent recordings."""
    stream = FakeStream("s_1", "r_1", SessionOptions(), [], 0.0)
    return stream, Intake(stream, decoder_of(AudioFormat(encoding="container")), DecodingAccount(decoding))


def test_recordings_without_sound_make_their_caller_wait() -> None:
    """On whichever connection the next one comes; another caller does not wait."""

    async def main() -> tuple[float, float]:
        owed, other = DecodingBudget(rate=FAILURE_BYTES, burst=0), DecodingBudget(burst=0)
        loop = asyncio.get_running_loop()
        with pytest.raises(AudioFormatError):
            await container(owed)[1].take(b"no recording" * 1000)
        began_s = loop.time()
        stream, intake = container(other)
        await intake.take(WAV)
        at_other_s = loop.time() - began_s
        stream, intake = container(owed)
        await intake.take(WAV)
        assert stream.samples
        return at_other_s, loop.time() - began_s

    at_other_s, at_same_s = run(main())

    assert at_other_s == 0
    assert at_same_s > 1


def test_a_recording_with_sound_waits_for_nothing() -> None:
    """Sent as fast as it is taken, beside others of the same caller that have none."""

    async def main() -> float:
        decoding = DecodingBudget(rate=100, burst=8000)
        _, intake = container(decoding)
        await intake.take(WAV[:8000])
        decoding.charge(10_000)
        for at in range(8000, len(WAV), 900):
            await intake.take(WAV[at : at + 900])
        return asyncio.get_running_loop().time()

    assert run(main()) == 0


@pytest.mark.parametrize("recording", [WAV, recorded(NOISE)])
def test_many_recordings_that_begin_at_once_wait_for_nothing(recording: bytes) -> None:
    """All clients of a key come back after a restart, and send what they have kept as fast as it is taken."""

    async def main() -> float:
        decoding = DecodingBudget()

        async def speak() -> None:
            stream, intake = container(decoding)
            for at in range(0, len(recording), 4000):
                await intake.take(recording[at : at + 4000])
            assert stream.received_s > 29.0

        await asyncio.gather(*(speak() for _ in range(16)))
        return asyncio.get_running_loop().time()

    assert run(main()) == 0


@pytest.mark.parametrize("recording", [WAV, recorded(NOISE)])
def test_a_recording_that_is_resumed_hardly_waits(recording: bytes) -> None:
    """It comes from its start: what its session has heard before is sound, though it is not heard again."""

    async def main() -> float:
        decoder, stream = ContainerDecoder(), FakeStream("s_1", "r_1", SessionOptions(), [], 29.0)
        decoder.skip_to(stream.received_s)
        intake = Intake(stream, decoder, DecodingAccount(DecodingBudget(rate=900, burst=0)))
        for at in range(0, len(recording), 900):
            await intake.take(recording[at : at + 900])
        assert stream.received_s == pytest.approx(60.0 if recording is WAV else 30.0, abs=0.1)
        return asyncio.get_running_loop().time()

    assert run(main()) < 5.0


def test_a_client_that_leaves_while_it_waits_is_gone() -> None:
    """Its session hears nothing more, and it takes nothing from those that come after it."""

    async def main() -> float:
        decoding = DecodingBudget(rate=1000, burst=0)
        decoding.charge(10_000)
        stream, intake = container(decoding)
        taking = asyncio.create_task(intake.take(WAV))
        await asyncio.sleep(1.0)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert stream.samples == []
        stream, intake = container(decoding)
        await intake.take(WAV)
        assert stream.samples
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(10.0, abs=0.1)


def test_nobody_waits_for_a_client_that_is_lost() -> None:
    """Its place is free at once: what it has sent is dropped, for whoever resumes sends it again."""

    async def main() -> tuple[float, int]:
        decoding, is_gone = DecodingBudget(rate=1, burst=0), list[bool]()
        decoding.charge(1000)
        stream = FakeStream("s_1", "r_1", SessionOptions(), [], 0.0)
        account = DecodingAccount(decoding, lambda: bool(is_gone))
        intake = Intake(stream, decoder_of(AudioFormat(encoding="container")), account)
        asyncio.get_running_loop().call_later(2.0, is_gone.append, True)
        for at in range(0, len(WAV), 9000):
            await intake.take(WAV[at : at + 9000])
        return asyncio.get_running_loop().time(), len(stream.samples)

    at_s, n_blocks = run(main())

    assert at_s == pytest.approx(2.0, abs=0.1)
    assert n_blocks == 0


@pytest.mark.parametrize("audio", [AudioFormat(encoding="container"), AudioFormat(encoding="webm_opus")])
def test_a_long_message_is_heard_as_if_it_came_in_pieces(audio: AudioFormat) -> None:
    """It is paid for piece by piece: its sound is the same."""
    recording = recorded(NOISE)

    async def main(n: int) -> Samples:
        stream = FakeStream("s_1", "r_1", SessionOptions(), [], 0.0)
        intake = Intake(stream, decoder_of(audio), DecodingAccount(DecodingBudget()))
        for at in range(0, len(recording), n):
            await intake.take(recording[at : at + n])
        await intake.finish()
        return np.concatenate(stream.samples)

    assert len(recording) > 2 * SLICE_BYTES
    np.testing.assert_array_equal(asyncio.run(main(len(recording))), asyncio.run(main(5000)))
