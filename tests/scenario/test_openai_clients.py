"""OpenAI's own client libraries against the daemon, on real speech: the text is that of `captions.v1`."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio
import soundfile
import soxr
from numpy.typing import NDArray
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from tests.helpers import npm
from tests.helpers.daemon_process import Client, DaemonProcess, joined, plain, word_errors
from tests.helpers.fake_scheduler import FakeScheduler
from tests.helpers.http_daemon import serving
from tests.helpers.openai_events import problems
from tests.helpers.recordings import Recording

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRANSCRIPTION = "conversation.item.input_audio_transcription"
SPOKEN = ("In 1813", "Firefox")
CHUNK = 0.1
"""Seconds of one append."""


@pytest.fixture(scope="module")
def speech_16k(recordings: dict[str, Recording]) -> NDArray[np.float32]:
    """Two short utterances with a pause after each."""
    return joined([recordings["dev-LJ002-0020"].samples, recordings["dev-cv-22058266"].samples], gap_s=1.2)


@pytest.fixture(scope="module")
def speech_file(speech_16k: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("speech") / "speech.flac"
    soundfile.write(path, speech_16k, 16_000)
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def native_text(daemon: DaemonProcess, speech_16k: NDArray[np.float32]) -> str:
    """What `captions.v1` says of it."""
    async with daemon.connect() as socket:
        client = Client(socket)
        await client.start()
        await client.send(speech_16k)
        await client.say({"type": "end"})
        await client.until("bye")
    assert word_errors(" ".join(SPOKEN), client.text) == 0
    return client.text


@pytest_asyncio.fixture(loop_scope="session")
async def client(daemon: DaemonProcess) -> Any:
    """OpenAI's client with nothing set but the base URL."""
    async with AsyncOpenAI(base_url=daemon.url("/v1"), api_key="any", max_retries=0) as made:
        yield made


class Live:
    """One realtime connection of OpenAI's client, and every event it was told."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []

    async def configure(self, **given: Any) -> dict[str, Any]:
        """Set fields of the audio input."""
        await self.connection.session.update(session={"type": "transcription", "audio": {"input": given}})  # type: ignore[typeddict-item]
        return await self.until("session.updated")

    async def append(self, audio: bytes, bytes_per_s: int) -> None:
        """Send audio in pieces."""
        size = round(CHUNK * bytes_per_s)
        for at in range(0, len(audio), size):
            piece = base64.b64encode(audio[at : at + size]).decode()
            await self.connection.input_audio_buffer.append(audio=piece)

    async def until(self, type_: str) -> dict[str, Any]:
        """The next event of a type; all are noted."""
        while True:
            # without the library's warnings of values that it knows no name for, as our rates are
            event = (await self.connection.recv()).to_dict(warnings=False)
            self.events.append(event)
            if event["type"] == type_:
                return event

    def of(self, suffix: str) -> list[dict[str, Any]]:
        """Events whose type ends so."""
        return [event for event in self.events if str(event["type"]).endswith(suffix)]

    def check(self) -> None:
        """Every event is as published, and the deltas of each item add up to its transcript."""
        assert [problem for event in self.events for problem in problems(event)] == []
        for completed in self.of(f"{TRANSCRIPTION}.completed"):
            deltas = [e["delta"] for e in self.of(f"{TRANSCRIPTION}.delta") if e["item_id"] == completed["item_id"]]
            assert "".join(deltas) == completed["transcript"]


def pcm(samples: NDArray[np.float32], rate: int) -> bytes:
    return (soxr.resample(samples, 16_000, rate) * 32767).astype("<i2").tobytes()


def mulaw(samples: NDArray[np.float32], folder: Path) -> bytes:
    soundfile.write(folder / "call.raw", soxr.resample(samples, 16_000, 8000), 8000, subtype="ULAW", format="RAW")
    return (folder / "call.raw").read_bytes()


async def test_commits(client: AsyncOpenAI, speech_16k: NDArray[np.float32], native_text: str) -> None:
    """Push to talk: a wrong event costs nothing, one item with all that was said, and nothing after `clear`."""
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        live = Live(connection)
        await live.until("session.created")
        updated = await live.configure(turn_detection=None, transcription={"model": "whisper-1", "language": "en"})
        assert updated["session"]["audio"]["input"]["transcription"]["language"] == "en"
        await connection.send({"type": "response.create"})
        refused = await live.until("error")
        assert refused["error"]["param"] == "type"

        await live.append(pcm(speech_16k, 24_000), 48_000)
        await connection.input_audio_buffer.commit()
        completed = await live.until(f"{TRANSCRIPTION}.completed")
        await live.append(bytes(9600), 48_000)
        await connection.input_audio_buffer.clear()
        await live.until("input_audio_buffer.cleared")
        await connection.input_audio_buffer.commit()
        empty = await live.until(f"{TRANSCRIPTION}.completed")

    live.check()
    assert plain(completed["transcript"]) == plain(native_text)
    assert completed["usage"]["seconds"] == pytest.approx(len(speech_16k) / 16_000, abs=0.01)
    assert empty["transcript"] == ""
    assert live.of("speech_started") == []


async def test_server_vad_and_a_call_in_the_middle(
    client: AsyncOpenAI, recordings: dict[str, Recording], native_text: str, tmp_path: Path
) -> None:
    """The server finds the turns; between two of them the audio changes to that of a telephone."""
    first, second = (recordings[id_].samples for id_ in ("dev-LJ002-0020", "dev-cv-22058266"))
    async with client.realtime.connect(model="any") as connection:
        live = Live(connection)
        await live.configure(format={"type": "audio/pcm", "rate": 16_000}, transcription={"language": "en"})
        await live.append(pcm(joined([first], gap_s=1.2), 16_000), 32_000)
        await live.until(f"{TRANSCRIPTION}.completed")
        await live.configure(format={"type": "audio/pcmu"})
        await live.append(mulaw(joined([second], gap_s=1.2), tmp_path), 8000)
        await live.until(f"{TRANSCRIPTION}.completed")

    live.check()
    texts = [event["transcript"] for event in live.of(f"{TRANSCRIPTION}.completed")]
    assert plain(" ".join(texts)) == plain(native_text)
    one, two = live.of("committed")
    assert two["previous_item_id"] == one["item_id"]
    starts = [event["audio_start_ms"] for event in live.of("speech_started")]
    stops = [event["audio_end_ms"] for event in live.of("speech_stopped")]
    assert 0 <= starts[0] < stops[0] <= 2740 <= starts[1] < stops[1] <= 6300
    words = [word for event in live.of(f"{TRANSCRIPTION}.completed") for word in event["words"]]
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert words[-1]["start"] > 2.7, "stream time goes on over the change"


async def test_interim_text(client: AsyncOpenAI, recordings: dict[str, Recording]) -> None:
    """While somebody speaks, stable words come as deltas, the tail as events that the library hands on."""
    spoken = recordings["dev-sns-0870"]
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        live = Live(connection)
        await live.configure(format={"type": "audio/pcm", "rate": 16_000}, turn_detection=None)
        await live.append(pcm(spoken.samples[:80_000], 16_000), 32_000)
        await live.until(f"{TRANSCRIPTION}.partial")
        await live.append(pcm(spoken.samples[80_000:], 16_000), 32_000)
        await connection.input_audio_buffer.commit()
        completed = await live.until(f"{TRANSCRIPTION}.completed")

    live.check()
    assert word_errors(spoken.text, completed["transcript"]) < 0.2
    assert live.events.index(live.of("partial")[0]) < live.events.index(live.of("committed")[0])


async def test_abrupt_close(client: AsyncOpenAI, speech_16k: NDArray[np.float32], daemon: DaemonProcess) -> None:
    """Clients that are gone in mid-word leave no place taken."""
    for _ in range(3):
        connection = await client.realtime.connect(extra_query={"intent": "transcription"}).enter()
        live = Live(connection)
        await live.until("session.created")
        await live.append(pcm(speech_16k[:8000], 24_000), 48_000)
        await connection.close()

    async with asyncio.timeout(120):  # sessions that other tests have left end after half a minute
        while True:
            if "streamer_sessions 0.0" in (await daemon.get("/metrics")).text:
                break
            await asyncio.sleep(0.1)  # another process: there is nothing else to tell it by
    assert "Traceback" not in daemon.log.read_text()


async def test_files(client: AsyncOpenAI, speech_file: Path, native_text: str) -> None:
    """Every format of the answer says the same, with the times of words and sentences."""

    def ask(**fields: Any) -> Any:
        return client.audio.transcriptions.create(model="whisper-1", file=speech_file, language="en", **fields)

    verbose = await ask(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    events = [event.to_dict() async for event in await ask(stream=True)]
    vtt = await ask(response_format="vtt")
    told = await ask(include=["logprobs"])

    assert plain(verbose.text) == plain(native_text)
    assert (verbose.language, verbose.duration) == ("english", pytest.approx(6.292, abs=0.01))
    assert plain(" ".join(word.word for word in verbose.words)) == plain(native_text)
    assert plain("".join(segment.text for segment in verbose.segments)) == plain(native_text)
    assert verbose.words[0].start < 0.6
    assert 2.7 < verbose.words[-1].start < verbose.words[-1].end < 5.3
    assert events[-1]["type"] == "transcript.text.done"
    assert events[-1]["text"] == "".join(event["delta"] for event in events[:-1])
    assert plain(events[-1]["text"]) == plain(native_text)
    assert "".join(token.token for token in told.logprobs) == told.text
    assert all(-3 < token.logprob <= 0 for token in told.logprobs)
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    assert "Firefox" in vtt


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the library advises against translations
async def test_other_requests(client: AsyncOpenAI, speech_file: Path) -> None:
    """The model has a name, translation works, and mistakes are exceptions of the library that say why."""
    assert [model.id async for model in client.models.list()] == ["tiny.en"]
    translated = await client.audio.translations.create(model="whisper-1", file=speech_file)
    assert "Firefox" in translated.text
    with pytest.raises(openai.BadRequestError, match="expected auto or one of en") as raised:
        await client.audio.transcriptions.create(model="any", file=speech_file, language="fr")
    assert (raised.value.code, raised.value.param) == ("invalid_value", "language")
    with pytest.raises(openai.BadRequestError, match=r"notes\.txt: no audio that can be decoded"):
        await client.audio.transcriptions.create(model="any", file=("notes.txt", b"no audio"))
    assert (await client.models.retrieve("gpt-5")).id == "gpt-5"
    long = await client.audio.transcriptions.create(model="any", file=speech_file, prompt="style " * 2000)
    assert "Firefox" in long.text


async def test_a_full_daemon_is_a_rate_limit() -> None:
    """The library comes back by itself after the time it was told."""
    async with (
        serving(scheduler=FakeScheduler(max_sessions=0)) as full,
        AsyncOpenAI(base_url=full.url("/v1"), api_key="any", max_retries=0) as client,
    ):
        with pytest.raises(openai.RateLimitError) as raised:
            await client.audio.transcriptions.create(model="any", file=("clip.wav", _wav(np.zeros(16_000, np.float32))))
    assert raised.value.response.headers["retry-after"] == "5"


async def test_node(
    daemon: DaemonProcess, speech_file: Path, speech_16k: NDArray[np.float32], native_text: str, tmp_path: Path
) -> None:
    """The npm library: files, server-sent events, errors, and a page's way with a client secret."""
    folder = npm.installed("openai@6.49.0", "ws@8")
    (tmp_path / "speech.pcm").write_bytes(pcm(speech_16k, 24_000))
    said = await npm.run("openai_client.mjs", folder, daemon.url("/v1"), str(speech_file), str(tmp_path / "speech.pcm"))

    assert plain(said["verbose"]["text"]) == plain(native_text)
    assert plain(" ".join(word["word"] for word in said["verbose"]["words"])) == plain(native_text)
    assert plain(said["streamed"][-1]["text"]) == plain(native_text)
    assert said["refused"] == {"status": 400, "code": "invalid_value", "param": "language"}
    assert said["models"] == ["tiny.en"]
    events: Sequence[dict[str, Any]] = said["events"]
    assert [problem for event in events for problem in problems(event)] == []
    assert events[0]["session"]["audio"]["input"]["turn_detection"] is None
    assert plain(events[-1]["transcript"]) == plain(native_text)


def _wav(samples: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV")
    return file.getvalue()
