"""The whole daemon on loopback: what a client of captions.v1 sees of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.daemon_process import Client, DaemonProcess, daemon_process, joined, with_silence, word_errors
from tests.helpers.recordings import Recording

pytestmark = pytest.mark.asyncio(loop_scope="session")
BEGINNING = 5 * 16_000
"""Samples of a speech after which its first caption is waited for."""


async def test_live_captions_keep_every_promise(daemon: DaemonProcess, recordings: dict[str, Recording]) -> None:
    """Speech at four times its speed: captions before its end, the right text, every promise, and a clean close."""
    spoken = recordings["dev-jfk"]
    async with daemon.connect() as socket:
        client = Client(socket)
        started = await client.start(words=True)
        assert (started["resume_from_s"], started["language"]) == (0.0, "en")
        await client.send(spoken.samples[:BEGINNING], pace=4)
        await client.until("caption")
        reading = asyncio.create_task(client.until("bye"))
        await client.send(spoken.samples[BEGINNING:], pace=4)
        await client.say({"type": "end"})
        bye = await reading
        assert await client.close_code() == 1000

    assert client.messages[0]["type"] == "hello"
    assert client.messages[0]["protocol"] == "captions.v1"
    assert word_errors(spoken.text, client.text) < 0.25
    # which word is committed early depends on when steps run: "your" may have become "you are"
    assert "country can do for you" in client.text.lower()
    assert client.broken == []
    assert bye["turns"] == len(client.turns)
    assert bye["audio_s"] == pytest.approx(11.0, abs=0.1)
    received = [ack["received_s"] for ack in client.of("ack")]
    assert received == sorted(received)
    assert received[-1] == pytest.approx(11.0, abs=0.1)
    words = [word for turn in client.of("turn_end") for word in turn["words"]]
    assert all(0 <= word["start_s"] <= word["end_s"] <= 11.1 for word in words)
    assert [word["start_s"] for word in words] == sorted(word["start_s"] for word in words)


async def test_several_speakers_get_their_own_text(daemon: DaemonProcess, recordings: dict[str, Recording]) -> None:
    """Sessions at the same time get their own text each."""
    ids = ("dev-sns-0870", "dev-ls-1089-134686-0000", "dev-LJ002-0020")

    async def speak(recording: Recording) -> Client:
        async with daemon.connect() as socket:
            client = Client(socket)
            await client.start()
            sending = asyncio.create_task(client.send(recording.samples, pace=4))
            sending.add_done_callback(lambda _: asyncio.ensure_future(client.say({"type": "end"})))
            await client.until("bye")
            await sending
        return client

    clients = await asyncio.gather(*(speak(recordings[id_]) for id_ in ids))

    assert [client.broken for client in clients] == [[], [], []]
    for id_, client in zip(ids, clients, strict=True):
        assert word_errors(recordings[id_].text, client.text) < 0.3, client.text


async def test_a_flush_makes_everything_before_it_final(
    daemon: DaemonProcess, recordings: dict[str, Recording]
) -> None:
    """Everything sent before is final when `flushed` comes, and the session goes on."""
    async with daemon.connect() as socket:
        client = Client(socket)
        await client.start()
        await client.send(recordings["dev-LJ002-0020"].samples)
        await client.say({"type": "flush", "id": 7})
        assert (await client.until("flushed"))["id"] == 7
        assert word_errors("In 1813", client.text) == 0
        assert client.of("turn_end")[-1]["reason"] in ("flush", "silence")

        await client.send(with_silence(recordings["dev-cv-22058266"].samples, 1.0))
        await client.until("turn_end")
        assert "fire" in client.text.lower()
        await client.say({"type": "end"})
        assert (await client.until("bye"))["turns"] == len(client.turns)
    assert client.broken == []


async def test_a_dropped_socket_is_resumed(daemon: DaemonProcess, recordings: dict[str, Recording]) -> None:
    """The same session goes on where its audio stopped, and nothing that was said is missing."""
    spoken = recordings["dev-jfk"]
    half = 6 * 16_000
    async with daemon.connect() as socket:
        first = Client(socket)
        started = await first.start()
        await first.send(spoken.samples[:half])
        caption = await first.until("caption")
        socket.transport.abort()

    async with daemon.connect() as socket:
        second = Client(socket)
        resume = {
            "session": started["session"],
            "token": started["resume"],
            "stable_s": caption["start_s"],
            "context": caption["stable"],
        }
        again = await second.start(resume=resume)
        if again["session"] == started["session"]:
            second.turns = dict(first.turns)
        else:
            # come back before the daemon noticed: a new session goes on where the client's text ends
            assert again["resume_from_s"] == caption["start_s"]
        assert again["resume_from_s"] <= 6.0
        await second.send(spoken.samples[round(again["resume_from_s"] * 16_000) :])
        await second.say({"type": "end"})
        bye = await second.until("bye")

    text = second.text if again["session"] == started["session"] else f"{first.text} {second.text}"
    assert word_errors(spoken.text, text) < 0.25, text
    assert second.broken == []
    assert bye["turns"] == len(second.turns)
    assert bye["audio_s"] == pytest.approx(11.0, abs=0.1)


async def test_turns_that_were_lost_with_the_socket_come_again(
    daemon: DaemonProcess, recordings: dict[str, Recording]
) -> None:
    """Text that became final while nobody read it is told to the client that comes back."""
    sound = with_silence(recordings["dev-LJ002-0020"].samples, 2.0)
    async with daemon.connect() as socket:
        first = Client(socket)
        started = await first.start()
        await first.send(sound)
        # sent by the daemon, and let us say on its way when the connection broke
        await first.until("turn_end")
        socket.transport.abort()

    async with daemon.connect() as socket:
        second = Client(socket)
        resume = {"session": started["session"], "token": started["resume"], "stable_s": 0.0}
        again = await second.start(resume=resume)
        await second.send(sound[round(again["resume_from_s"] * 16_000) :])
        await second.say({"type": "end"})
        await second.until("bye")

    assert word_errors("In 1813", second.text) == 0
    assert second.broken == []


async def test_an_unknown_session_continues_as_a_new_one(
    daemon: DaemonProcess, recordings: dict[str, Recording]
) -> None:
    """After a restart, or on another machine: stream time goes on from what the client holds."""
    async with daemon.connect() as socket:
        client = Client(socket)
        resume = {"session": "s_gone", "token": "r_gone", "stable_s": 61.5, "context": "what was said before"}
        started = await client.start(resume=resume)
        await client.send(recordings["dev-LJ002-0020"].samples)
        await client.say({"type": "end"})
        await client.until("bye")

    assert started["session"] == client.messages[0]["session"] != "s_gone"
    assert started["resume_from_s"] == 61.5
    [turn] = client.of("turn_end")
    assert 61.5 <= turn["start_s"] < turn["end_s"] <= 63.2


async def test_the_metrics_have_their_fixed_names(daemon: DaemonProcess, recordings: dict[str, Recording]) -> None:
    """The four metrics with fixed names, and the state of the service."""
    shown = (await daemon.get("/metrics")).text

    for name, kind in (
        ("whisper_encoder_forward_latency_ms", "histogram"),
        ("whisper_decoder_token_latency_ms", "histogram"),
        ("whisper_attention_memory_bytes", "gauge"),
        ("whisper_kv_cache_size_bytes", "gauge"),
        ("streamer_capacity_sessions", "gauge"),
        ("streamer_sessions", "gauge"),
        ("streamer_words_total", "counter"),
    ):
        assert f"# TYPE {name} {kind}" in shown
    assert (await daemon.get("/healthz")).text == "ok\n"
    assert (await daemon.get("/info")).json()["model"] == "tiny.en"


async def test_a_stop_during_speech_loses_no_words(tmp_path: Path, recordings: dict[str, Recording]) -> None:
    """SIGTERM: the client is told, the open turn made final, then bye, close 1012, and exit code 0."""
    sound = recordings["dev-sns-0870"].samples[: 5 * 16_000]
    async with daemon_process(tmp_path, STREAMER_SERVER_DRAIN_S="15") as daemon:
        async with daemon.connect() as socket, daemon.connect() as idle:
            client, waiting = Client(socket), Client(idle)
            await waiting.until("hello")
            await client.start()
            await client.send(sound)
            await client.until("caption")

            daemon.terminate()

            draining = await client.until("draining")
            assert draining["deadline_s"] == 15
            await client.until("bye")
            assert await client.close_code() == 1012
            assert await waiting.close_code() == 1012
            assert waiting.messages[-1]["code"] == "draining"
        assert await daemon.exit_code() == 0

    assert client.turns
    assert client.of("turn_end")[-1]["reason"] == "end"
    assert "dashwood" in client.text.lower()
    assert client.broken == []
    log = daemon.log.read_text()
    assert "Traceback" not in log
    assert '"stopped"' in log or "stopped" in log


async def test_a_sender_faster_than_the_transcription_is_slowed_down(
    daemon: DaemonProcess, recordings: dict[str, Recording]
) -> None:
    """Half a minute of speech at once: the sender is slowed down, and all words are there."""
    ids = ("dev-sns-0870", "dev-ls-1089-134686-0000", "dev-LJ002-0020", "dev-jfk")
    sound = joined([recordings[id_].samples for id_ in ids], gap_s=1.0)
    reference = " ".join(recordings[id_].text for id_ in ids)
    async with daemon.connect() as socket:
        client = Client(socket)
        await client.start(partials=False)
        sending = asyncio.create_task(client.send(sound))
        while not sending.done():
            await client.receive()
        await client.say({"type": "end"})
        bye = await client.until("bye")

    assert bye["audio_s"] == pytest.approx(len(sound) / 16_000, abs=0.1)
    assert word_errors(reference, client.text) < 0.2, client.text
    assert client.broken == []
    assert not any(caption["partial"] for caption in client.of("caption"))


async def test_stereo_float_is_the_same_speech(daemon: DaemonProcess, recordings: dict[str, Recording]) -> None:
    """Stereo float at 48 kHz is the same speech."""
    samples = np.repeat(np.repeat(recordings["dev-LJ002-0020"].samples, 3), 2)
    async with daemon.connect() as socket:
        client = Client(socket)
        await client.start(audio={"encoding": "pcm_f32le", "rate": 48000, "channels": 2})
        await socket.send(samples.astype("<f4").tobytes())
        await client.say({"type": "end"})
        await client.until("bye")

    assert word_errors("In 1813", client.text) == 0
