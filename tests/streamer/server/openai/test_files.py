"""Tests of streamer.server.openai.files and its routes over loopback, with scripted sessions."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.types import Message

from streamer.access.keys import Keys
from streamer.config import LimitsConfig
from streamer.dialects.openai.errors import RequestError
from streamer.errors import AudioFormatError, EngineError
from streamer.protocol.events import Bye, TurnRevised
from streamer.protocol.options import SessionOptions
from streamer.server.openai.files import Upload, read_body
from tests.helpers.damaged_recordings import with_total_samples
from tests.helpers.fake_scheduler import FakeScheduler, FakeStream, script_of
from tests.helpers.http_daemon import CONFIG, Daemon, serving, within

PATH = "/v1/audio/transcriptions"


def wav(seconds: float, rate: int = 8000, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(round(seconds * rate), 0.25, np.float32), rate, format="WAV", subtype=subtype)
    return file.getvalue()


class ScriptedSound:
    """A decoded file of so many seconds of silence, and perhaps an error."""

    notes = ()

    def __init__(self, seconds: int, error: AudioFormatError | None = None) -> None:
        self.duration_s = float(seconds)
        self._n_left, self._error = seconds, error

    async def next_block(self) -> NDArray[np.float32] | None:
        """The next second."""
        if not self._n_left and self._error is not None:
            raise self._error
        self._n_left -= 1
        return np.zeros(16_000, np.float32) if self._n_left >= 0 else None

    def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def asking(
    scheduler: FakeScheduler | None = None, keys: Keys | None = None, **limits: Any
) -> AsyncIterator[tuple[Daemon, httpx.AsyncClient]]:
    """A daemon whose sessions say one turn, and a client of it."""
    config = msgspec.structs.replace(CONFIG, limits=LimitsConfig(**limits))
    scheduler = scheduler or FakeScheduler(script_of(["so the first thing"]))
    async with (
        serving(config, scheduler, keys=keys) as daemon,
        httpx.AsyncClient(base_url=daemon.url(""), trust_env=False) as client,
    ):
        yield daemon, client


async def post(client: httpx.AsyncClient, audio: bytes, path: str = PATH, **fields: str) -> httpx.Response:
    return await client.post(path, files={"file": ("clip.wav", audio)}, data={"model": "whisper-1", **fields})


class TestTranscription:
    """A file is a session that is fed as fast as it takes it."""

    async def test_a_whole_answer_holds_the_text_of_all_audio(self) -> None:
        """The session gets all of it at 16 kHz, then is ended and detached."""
        async with asking() as (daemon, client):
            answer = await post(client, wav(3.0), language="de", prompt="Ray")
        [stream] = daemon.scheduler.streams
        assert answer.json() == {"text": "so the first thing", "usage": {"type": "duration", "seconds": 3}}
        samples = np.concatenate(stream.samples)
        assert len(samples) == 3 * 16000
        assert abs(float(samples[16000]) - 0.25) < 1e-3
        assert (stream.options.language, stream.options.prompt, stream.options.task) == ("de", "Ray", "transcribe")
        assert stream.detached.is_set()

    @pytest.mark.parametrize("fields", [{}, {"stream": "true"}])
    async def test_a_whole_answer_holds_the_revised_text(self, fields: dict[str, str]) -> None:
        """Each turn of a file gets its second pass; deltas have told the live text."""
        revision = TurnRevised(turn=0, text="So, the first.", language="en", reason="text", model="base")
        scheduler = FakeScheduler([*script_of(["so the first"]), (3.0, revision)])
        async with asking(scheduler) as (_, client):
            answer = await post(client, wav(3.0), **fields)
        *deltas, whole = (json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line)
        assert "".join(delta["delta"] for delta in deltas) == ("so the first" if fields else "")
        assert whole["text"] == "So, the first."
        [stream] = scheduler.streams
        assert (stream.options.revise, stream.revises_all) == (True, True)

    async def test_a_recording_of_a_browser_is_transcribed(self) -> None:
        """webm with Opus, out of the temporary file of an upload, which is open for writing."""
        av = pytest.importorskip("av")
        file = io.BytesIO()
        with av.open(file, "w", format="webm") as out:
            encoder = out.add_stream("libopus", rate=48000, layout="mono")
            for _ in range(100):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
                frame.rate = 48000
                out.mux(encoder.encode(frame))
            out.mux(encoder.encode(None))
        async with asking() as (daemon, client):
            answer = await post(client, file.getvalue())
        assert answer.status_code == 200, answer.text
        assert daemon.scheduler.streams[0].received_s == pytest.approx(2.0, abs=0.1)

    async def test_the_path_of_translations_translates(self) -> None:
        """Its session has the other task."""
        async with asking() as (daemon, client):
            answer = await post(client, wav(3.0), "/v1/audio/translations", response_format="verbose_json")
        assert daemon.scheduler.streams[0].options.task == "translate"
        assert (answer.json()["task"], answer.json()["language"]) == ("translate", "english")

    async def test_a_streamed_answer_sends_deltas_and_then_the_whole(self) -> None:
        """Deltas come while the file is transcribed."""
        async with asking() as (daemon, client):
            answer = await post(client, wav(3.0), stream="true")
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
        assert "".join(event.get("delta", "") for event in events) == "so the first thing"
        assert events[-1] == {"type": "transcript.text.done", "text": "so the first thing"}
        assert daemon.scheduler.streams[0].detached.is_set()

    async def test_a_full_backlog_slows_the_decoding_down(self) -> None:
        """While the session's backlog is full, no more of the file is decoded."""
        async with asking() as (daemon, client):
            asked = asyncio.create_task(post(client, wav(60.0)))
            stream = await within(daemon.scheduler.wait_stream())
            await within(stream.fed.wait())
            stream.room.clear()
            assert stream.received_s < 30.0
            stream.room.set()
            assert (await within(asked)).status_code == 200
        assert stream.received_s == pytest.approx(60.0)

    @pytest.mark.parametrize("is_streamed", ["false", "true"])
    async def test_the_session_of_a_client_that_leaves_is_ended(self, is_streamed: str) -> None:
        """It is not fed to the end."""
        async with asking() as (daemon, client):
            asked = asyncio.create_task(post(client, wav(60.0), stream=is_streamed))
            stream = await within(daemon.scheduler.wait_stream())
            await within(stream.fed.wait())
            stream.room.clear()
            asked.cancel()
            await within(stream.detached.wait())
        assert stream.has_ended
        assert stream.received_s < 60.0


class TestRefusals:
    """Bad requests get their status and a message; they cost no other session anything."""

    @pytest.mark.parametrize(
        ("audio", "fields", "status", "code", "param"),
        [
            (b"", {}, 400, "invalid_audio", "file"),
            (b"not audio at all" * 100, {}, 400, "invalid_audio", "file"),
            (wav(1.0)[:40], {}, 400, "invalid_audio", "file"),
            (wav(1.0), {"response_format": "xml"}, 400, "invalid_value", "response_format"),
            (wav(1.0), {"language": "xx"}, 400, "invalid_value", "language"),
            (wav(6.0), {}, 413, "audio_too_long", "file"),
            (bytes(2_000_000), {}, 413, "file_too_large", "file"),
        ],
    )
    async def test_bad_requests_open_no_session(
        self, audio: bytes, fields: dict[str, str], status: int, code: str, param: str
    ) -> None:
        """Each gets its status, its code and the field to blame."""
        async with asking(max_upload_bytes=1_000_000, max_recording_s=5.0) as (daemon, client):
            answer = await post(client, audio, **fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
        assert daemon.scheduler.streams == []

    async def test_a_missing_file_and_a_broken_form_are_told_apart(self) -> None:
        """Each message says what is missing."""
        async with asking() as (_, client):
            for answer in (
                await client.post(PATH, data={"file": "clip.wav"}),
                await client.post(PATH, json={"file": "clip.wav"}),
                await client.post(PATH, content=b"--x", headers={"content-type": "multipart/form-data; boundary=y"}),
            ):
                assert answer.status_code == 400
                assert answer.json()["error"]["param"] in ("file", None)

    async def test_a_body_without_length_is_bounded_too(self) -> None:
        """Chunks are counted as they come."""

        async def chunks() -> AsyncIterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            for _ in range(100):
                yield bytes(100_000)

        async with asking(max_upload_bytes=1_000_000) as (_, client):
            answer = await client.post(
                PATH, content=chunks(), headers={"content-type": "multipart/form-data; boundary=x"}
            )
        assert answer.status_code == 413
        assert answer.json()["error"]["message"] == (
            "body of more than 1000000 bytes: split the file, or raise limits.max_upload_bytes"
        )

    async def test_a_body_must_keep_coming(self) -> None:
        """A client that sends a byte now and then would hold its place for days."""
        sent = itertools.count()

        async def receive() -> Message:
            if next(sent) > 100:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"x", "more_body": True}

        request = Request({"type": "http", "headers": []}, receive)
        with pytest.raises(RequestError, match="too slow, or nothing came") as refused:
            async for _ in read_body(request, max_bytes=10**9, idle_s=0.05):
                pass
        assert refused.value.status == 408

    async def test_audio_longer_than_was_counted_is_refused(self) -> None:
        """A file that changes is not read without end: what is fed is counted too, and the session is ended."""
        stream = FakeStream("s", "r", SessionOptions(), (), 0.0)
        recording = Upload(ScriptedSound(100), max_s=5.0)
        with pytest.raises(RequestError, match=r"audio of more than 5 s; split it, or raise limits\.max_recording_s"):
            [_ async for _ in recording.play(stream)]
        assert stream.has_ended
        assert stream.received_s == 5.0

    async def test_a_decoder_that_fails_at_last_takes_nothing_back(self) -> None:
        """What was heard before is transcribed, and the loss is told."""
        stream = FakeStream("s", "r", SessionOptions(), (), 0.0)
        recording = Upload(ScriptedSound(3, AudioFormatError("its decoder failed")), max_s=5.0)
        events = [event async for event in recording.play(stream)]
        assert isinstance(events[-1], Bye)
        assert stream.received_s == 3.0
        assert recording.warnings == ["at 3.0 s: the rest is lost: its decoder failed"]

    async def test_a_header_that_promises_days_refuses_nothing(self) -> None:
        """The sound itself is counted: a FLAC of unknown length is transcribed, and a long one opens no session."""
        flac = io.BytesIO()
        soundfile.write(flac, np.full(16_000, 0.25, np.float32), 8000, format="FLAC")
        async with asking(max_recording_s=5.0) as (daemon, client):
            for n in (0, 2**36 - 1):
                assert (await post(client, with_total_samples(flac.getvalue(), n))).status_code == 200
            assert (await post(client, with_total_samples(flac.getvalue() * 4, 0))).status_code == 413
        assert [stream.received_s for stream in daemon.scheduler.streams] == [2.0, 2.0]

    async def test_what_was_lost_is_told_with_what_was_heard(self) -> None:
        """In `warnings` of JSON, in a header, and as an event at its place in a stream; other bodies stay pure."""
        floats = bytearray(wav(3.0, subtype="FLOAT"))
        floats[-4:] = np.float32(np.nan).tobytes()
        async with asking() as (daemon, client):
            told = [await post(client, bytes(floats), response_format=name) for name in ("json", "verbose_json")]
            plain = await post(client, bytes(floats), response_format="srt")
            streamed = await post(client, bytes(floats), stream="true")
            whole = await post(client, wav(3.0))
        for answer in told:
            assert answer.json()["text"] == "so the first thing"
            [warning] = answer.json()["warnings"]
            assert warning.endswith("s: sound is not made of numbers: silence stands for it")
        assert {answer.headers["streamer-warnings"] for answer in (*told, plain)} == {warning}
        assert "streamer-warnings" not in whole.headers
        assert (plain.status_code, "warnings" in plain.text, "warnings" in whole.json()) == (200, False, False)
        events = [json.loads(line.removeprefix("data: ")) for line in streamed.text.split("\n\n") if line]
        [skipped] = [event for event in events if event["type"] == "skipped"]
        assert skipped["start_s"] == skipped["end_s"] <= 3.0
        assert events[-1]["warnings"] == [warning]
        assert all(stream.received_s == 3.0 for stream in daemon.scheduler.streams)

    async def test_a_full_daemon_answers_429_and_when_to_come_back(self) -> None:
        """OpenAI's clients come back by themselves."""
        async with asking(FakeScheduler(max_sessions=0)) as (_, client):
            answer = await post(client, wav(1.0))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
        assert answer.json()["error"]["type"] == "server_error"

    async def test_a_failed_session_answers_500(self) -> None:
        """With the message of the engine."""
        async with asking(FakeScheduler()) as (daemon, client):
            asked = asyncio.create_task(post(client, wav(60.0)))
            stream = await within(daemon.scheduler.wait_stream())
            stream.room.clear()
            stream.say(EngineError("three steps failed in a row"))
            answer = await within(asked)
        assert answer.status_code == 500
        assert answer.json()["error"]["message"] == "three steps failed in a row"

    @pytest.mark.parametrize("is_streamed", ["false", "true"])
    async def test_a_daemon_that_stops_asks_the_client_to_come_back(self, is_streamed: str) -> None:
        """Part of the text is not passed off as the whole."""
        async with asking() as (daemon, client):
            asked = asyncio.create_task(post(client, wav(60.0), stream=is_streamed))
            stream = await within(daemon.scheduler.wait_stream())
            await within(stream.fed.wait())
            stream.room.clear()
            await daemon.scheduler.drain(1.0)
            answer = await within(asked)
        assert "the daemon stops in the middle of the recording; ask again" in answer.text
        assert answer.status_code == (200 if is_streamed == "true" else 429)

    async def test_a_request_without_a_key_gets_401(self, tmp_path: Path) -> None:
        """In OpenAI's shape."""
        (tmp_path / "keys").write_text("box 0123456789abcdef\n")
        async with asking(keys=Keys(tmp_path / "keys")) as (_, client):
            refused = await post(client, wav(1.0))
            client.headers["Authorization"] = "Bearer 0123456789abcdef"
            served = await post(client, wav(1.0))
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        assert served.status_code == 200


async def test_the_one_model_is_listed() -> None:
    """The one model, by its own name; any name is taken for it in requests, and so is found."""
    async with asking() as (_, client):
        listed, one, other = [await client.get(f"/v1/models{path}") for path in ("", "/fake", "/openai/whisper-1")]
    assert listed.json()["data"] == [one.json()]
    assert one.json()["id"] == "fake"
    assert other.json() == {**one.json(), "id": "openai/whisper-1"}
