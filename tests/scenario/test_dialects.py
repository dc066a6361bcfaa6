"""Deepgram's, Vosk's and Home Assistant's clients against the daemon, on real speech: the text of `captions.v1`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.listen.v1.types import ListenV1CloseStream, ListenV1Configure, ListenV1Finalize
from numpy.typing import NDArray
from websockets.asyncio.client import connect
from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info

from tests.helpers import npm
from tests.helpers.daemon_process import CHUNK, Client, DaemonProcess, joined, plain, word_errors
from tests.helpers.recordings import Recording

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # Deepgram's library asks for names that websockets has left behind
    pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning"),
]
SPOKEN = "In 1813 Firefox"


@pytest.fixture(scope="module")
def utterances(recordings: dict[str, Recording]) -> bytes:
    """Two short utterances with a pause after each, 16-bit at 16 kHz."""
    samples = joined([recordings["dev-LJ002-0020"].samples, recordings["dev-cv-22058266"].samples], gap_s=1.2)
    return pcm(samples)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def native_text(daemon: DaemonProcess, utterances: bytes) -> str:
    """What `captions.v1` says of it."""
    async with daemon.connect() as socket:
        client = Client(socket)
        await client.start()
        await client.send(np.frombuffer(utterances, "<i2") / np.float32(32767))
        await client.say({"type": "end"})
        await client.until("bye")
    assert word_errors(SPOKEN, client.text) == 0
    return client.text


def pcm(samples: NDArray[np.float32]) -> bytes:
    """16-bit samples."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def blocks(audio: bytes) -> list[bytes]:
    """Of 0.1 s."""
    return [audio[at : at + 2 * CHUNK] for at in range(0, len(audio), 2 * CHUNK)]


# --- Deepgram


class Live:
    """One live connection of Deepgram's client, and all that it was told."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.messages: list[Any] = []

    async def send(self, audio: bytes) -> None:
        """In blocks of 0.1 s."""
        for block in blocks(audio):
            await self.connection.send_media(block)

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """The next message of that kind; all are noted."""
        async with asyncio.timeout(120):
            while True:
                self.messages.append(await self.connection.recv())
                if wanted(self.messages[-1]):
                    return self.messages[-1]

    async def close(self) -> Any:
        """No more audio comes: the summary."""
        await self.connection.send_close_stream(ListenV1CloseStream(type="CloseStream"))
        return await self.until(lambda message: message.type == "Metadata")

    @property
    def finals(self) -> list[Any]:
        """Results that do not change any more."""
        return [message for message in self.messages if message.type == "Results" and message.is_final]

    @property
    def text(self) -> str:
        """As a client joins it."""
        return " ".join(final.channel.alternatives[0].transcript for final in self.finals)

    @property
    def words(self) -> list[Any]:
        """Of all finals."""
        return [word for final in self.finals for word in final.channel.alternatives[0].words]


def client_of(daemon: DaemonProcess) -> AsyncDeepgramClient:
    """Deepgram's client with nothing set but the addresses."""
    base, ws = daemon.url(""), daemon.url("", "ws")
    environment = DeepgramClientEnvironment(base=base, production=ws, agent=ws, agent_rest=base)
    return AsyncDeepgramClient(api_key="any", environment=environment)


@asynccontextmanager
async def listening(daemon: DaemonProcess, **parameters: Any) -> AsyncIterator[Live]:
    """A live connection."""
    raw = {"model": "nova-3", "encoding": "linear16", "sample_rate": "16000"}
    async with client_of(daemon).listen.v1.connect(**{**raw, **parameters}) as connection:
        yield Live(connection)


async def test_deepgram_finals_joined_are_the_native_text(
    daemon: DaemonProcess, utterances: bytes, native_text: str
) -> None:
    """Finals joined are the native text; they follow each other without gaps, and words have their times."""
    async with listening(daemon, vad_events="true", utterance_end_ms="1000", keyterm=["Firefox"]) as live:
        await live.send(utterances)
        metadata = await live.close()
    assert plain(live.text) == plain(native_text)
    assert metadata.duration == pytest.approx(len(utterances) / 32_000, abs=0.01)
    ends = [final.start + final.duration for final in live.finals]
    assert [final.start for final in live.finals] == pytest.approx([0.0, *ends[:-1]])
    assert all(final.speech_final for final in live.finals)
    times = [(word.start, word.end) for word in live.words]
    assert times == sorted(times)
    assert times[0][0] < 0.6
    assert 2.7 < times[-1][0] < times[-1][1] < 5.3
    assert all(0 < word.confidence <= 1 for word in live.words)
    assert [message.timestamp < 3.5 for message in live.messages if message.type == "SpeechStarted"] == [True, True]
    ended = [message for message in live.messages if message.type == "UtteranceEnd"]
    assert ended[0].last_word_end == pytest.approx(live.finals[0].start + live.finals[0].duration)


async def test_deepgram_control_messages_are_answered_in_mid_stream(
    daemon: DaemonProcess, recordings: dict[str, Recording]
) -> None:
    """Interims while somebody speaks, new key terms, Finalize in mid-sentence and in silence: all are answered."""
    spoken = recordings["dev-sns-0870"]
    async with listening(daemon, interim_results="true", language="en-GB", smart_format="true") as live:
        await live.send(pcm(spoken.samples[:80_000]))
        interim = await live.until(lambda message: message.type == "Results" and not message.is_final)
        assert interim.channel.alternatives[0].transcript
        await live.connection.send_configure(ListenV1Configure(keyterms=["Dashwood"]))
        assert (await live.until(lambda m: m.type == "ConfigureSuccess")).keyterms == ["Dashwood"]
        await live.connection.send_keep_alive()
        for audio in (spoken.samples[80_000:], np.zeros(0, np.float32)):
            await live.send(pcm(audio))
            await live.connection.send_finalize(ListenV1Finalize(type="Finalize"))
            await live.until(lambda message: message.type == "Results" and message.from_finalize)
        await live.close()
    assert word_errors(spoken.text, live.text) < 0.2, live.text


async def test_deepgram_channels_have_texts_of_their_own(
    daemon: DaemonProcess, recordings: dict[str, Recording]
) -> None:
    """Two speakers on two channels of a call at 8 kHz: each has a text of its own."""
    left, right = (recordings[id_].samples[::2] for id_ in ("dev-LJ002-0020", "dev-cv-22058266"))
    stereo = np.zeros((max(len(left), len(right)), 2), np.float32)
    stereo[: len(left), 0], stereo[: len(right), 1] = left, right
    async with listening(daemon, sample_rate="8000", channels="2", multichannel="true") as live:
        await live.send(pcm(stereo))
        assert (await live.close()).channels == 2
    said = {0: "", 1: ""}
    for final in live.finals:
        said[final.channel_index[0]] += " " + final.channel.alternatives[0].transcript
    assert "1813" in said[0]
    assert "fire" in said[1].lower()


async def test_deepgram_mistakes_raise_the_errors_of_the_library(daemon: DaemonProcess) -> None:
    """A mistake is an exception of the library; one message that cannot be read is told, and ends nothing."""
    with pytest.raises(ApiError) as refused:
        async with listening(daemon, encoding="g729"):
            pass
    assert refused.value.status_code == 400
    async with listening(daemon) as live:
        await live.connection._send({"type": "Hello"})
        assert (await live.until(lambda message: message.type == "Error")).variant == "SchemaError"
        assert (await live.close()).duration == 0


async def test_clients_that_vanish_leave_no_session_open(daemon: DaemonProcess, utterances: bytes) -> None:
    """Clients that are gone in mid-word leave no place taken."""
    for path in ("/v1/listen?encoding=linear16&sample_rate=16000", "/vosk"):
        async with connect(daemon.url(path, "ws"), proxy=None) as socket:
            await socket.send(utterances[:16_000])
            socket.transport.abort()
    async with asyncio.timeout(120):  # sessions that other tests have left end after half a minute
        while True:
            if "streamer_sessions 0.0" in (await daemon.get("/metrics")).text:
                break
            await asyncio.sleep(0.1)  # another process: there is nothing else to tell it by
    assert "Traceback" not in daemon.log.read_text()


async def test_deepgram_library_for_node_reads_the_native_text(
    daemon: DaemonProcess, utterances: bytes, native_text: str, tmp_path: Path
) -> None:
    """The npm library reads the same."""
    folder = npm.installed("@deepgram/sdk@5.13.0")
    (tmp_path / "speech.pcm").write_bytes(utterances)
    heard = await npm.run("deepgram_client.mjs", folder, daemon.url(""), str(tmp_path / "speech.pcm"))
    finals = [message for message in heard if message["type"] == "Results" and message["is_final"]]
    assert plain(" ".join(final["channel"]["alternatives"][0]["transcript"] for final in finals)) == plain(native_text)
    assert sum(final["from_finalize"] for final in finals) == 1
    assert heard[-1]["type"] == "Metadata"


# --- Vosk


VOSK_PHRASES = '"phrase_list" : ["zero one two three four five", "six seven eight nine oh"]'


async def lock_step(daemon: DaemonProcess, config: str, audio: bytes, n_bytes: int) -> list[dict[str, Any]]:
    """All answers to a client that works as vosk-server's samples do: at `/`, one answer to each chunk, then `eof`."""
    results = []
    async with connect(daemon.url("", "ws"), proxy=None) as socket:
        await socket.send(config)
        for at in range(0, len(audio), n_bytes):
            await socket.send(audio[at : at + n_bytes])
            results.append(json.loads(await socket.recv()))
        await socket.send('{"eof" : 1}')
        results.append(json.loads(await socket.recv()))
    return results


@pytest.mark.parametrize(
    ("config", "n_bytes"),
    [
        ('{ "config" : { "sample_rate" : 16000 } }', 6400),  # test.py
        (f'{{"config" :\n {{ {VOSK_PHRASES},\n "sample_rate" : 16000,\n "words" : 0}}}}', 6400),  # test_words.py
        ('{ "config" : { "sample_rate" : 16000 } }', 8000),  # test_microphone.py
    ],
)
async def test_samples_of_vosk_server_get_the_native_text(
    daemon: DaemonProcess, utterances: bytes, native_text: str, config: str, n_bytes: int
) -> None:
    """Their first messages, their chunks and their lock-step."""
    results = await lock_step(daemon, config, utterances, n_bytes)
    assert plain(" ".join(result["text"] for result in results if "text" in result)) == plain(native_text)
    assert any("result" in result for result in results) == ("words" not in config)


async def test_vosk_answers_each_chunk_and_says_the_native_text(
    daemon: DaemonProcess, utterances: bytes, native_text: str
) -> None:
    """A model that a client names is ignored; words have the times of the audio."""
    config = '{ "config" : { "sample_rate" : 16000, "model": "/etc/passwd" } }'
    results = await lock_step(daemon, config, utterances, 2 * CHUNK)
    assert all(("partial" in result) != ("text" in result) for result in results)
    assert plain(" ".join(result["text"] for result in results if "text" in result)) == plain(native_text)
    words = [word for result in results for word in result.get("result", [])]
    assert plain(" ".join(word["word"] for word in words)) == plain(native_text)
    assert 2.7 < words[-1]["start"] < words[-1]["end"] < 5.3


# --- Wyoming


async def test_wyoming_chunks_and_transcript_are_the_native_text(
    daemon: DaemonProcess, wyoming_port: int, utterances: bytes, native_text: str
) -> None:
    """As Home Assistant speaks: the whole text comes, and its chunks before it."""
    texts: list[str] = []
    async with asyncio.timeout(120), AsyncTcpClient("127.0.0.1", wyoming_port) as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(rate=16000, width=2, channels=1).event())
        for block in blocks(utterances):
            await client.write_event(AudioChunk(rate=16000, width=2, channels=1, audio=block).event())
        await client.write_event(AudioStop().event())
        while (event := await client.read_event()) is not None:
            if TranscriptChunk.is_type(event.type):
                texts.append(TranscriptChunk.from_event(event).text)
            elif Transcript.is_type(event.type):
                whole = Transcript.from_event(event).text
    assert plain(whole) == plain(native_text)
    assert "".join(texts) == whole


async def test_home_assistant_adds_the_service_and_gives_it_commands(
    daemon: DaemonProcess, wyoming_port: int, utterances: bytes, native_text: str
) -> None:
    """
    What its integration does, with its client (homeassistant/components/wyoming: data.py, then stt.py).

    It asks for the service on a connection of its own. Each command is a new connection, which it leaves as soon as it
    has the transcript.
    """
    async with asyncio.timeout(120), AsyncTcpClient("127.0.0.1", wyoming_port) as client:
        await client.write_event(Describe().event())
        while not Info.is_type((event := await client.read_event()).type):
            pass
    service = Info.from_event(event).asr[0]
    assert service.name
    assert "en" in {language for model in service.models if model.installed for language in model.languages}
    for _ in range(2):
        async with asyncio.timeout(120), AsyncTcpClient("127.0.0.1", wyoming_port) as client:
            await client.write_event(Transcribe(language="en").event())
            await client.write_event(AudioStart(rate=16000, width=2, channels=1).event())
            for block in blocks(utterances):
                await client.write_event(AudioChunk(rate=16000, width=2, channels=1, audio=block).event())
            await client.write_event(AudioStop().event())
            while not Transcript.is_type((event := await client.read_event()).type):
                pass
        assert plain(Transcript.from_event(event).text) == plain(native_text)
