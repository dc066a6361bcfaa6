"""Engine processes under `streamer serve`: real speech goes on while they are killed and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from openai import AsyncOpenAI
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient

from tests.helpers.daemon_process import SERVE, Client, DaemonProcess, daemon_process, joined, word_errors
from tests.helpers.ports import reserved_port
from tests.helpers.recordings import Recording
from tests.scenario import test_dialects, test_openai_clients

# Deepgram's library asks for names that websockets has left behind
pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")

ENGINE = re.compile(r"^engine (\d) pid (\d+) rows (\d+) row_cost_ms [\d.]+ restarts (\d+) (alive|lost)$", re.MULTILINE)
PROCESSES = (*SERVE, "--engines", "processes")
N_CLIENTS = 4


async def engines(daemon: DaemonProcess) -> list[tuple[int, int, str]]:
    """Pid, restarts and state of each engine."""
    page = (await daemon.get("/statz")).text
    return [(int(pid), int(restarts), state) for _, pid, _, restarts, state in ENGINE.findall(page)]


async def until_are(daemon: DaemonProcess, *states: tuple[int, str]) -> None:
    """Wait until the engines were started again so often, and are alive or lost."""
    async with asyncio.timeout(120):
        while [(n, state) for _, n, state in await engines(daemon)] != [*states]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)


async def count(daemon: DaemonProcess, metric: str) -> float:
    """Value of a metric without labels."""
    found = re.search(rf"^{metric} (\S+)$", (await daemon.get("/metrics")).text, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def speak(daemon: DaemonProcess, samples: np.ndarray) -> Client:
    """Say it all in real time, and read to the end."""
    async with daemon.connect() as socket:
        client = Client(socket)
        await client.start()
        reading = asyncio.create_task(client.until("bye", "error"))
        await client.send(samples, pace=1.0)
        await client.say({"type": "end"})
        await reading
    return client


async def revised(daemon: DaemonProcess, recording: bytes) -> str:
    """Text of a recording of one turn, which has had its second pass."""
    async with httpx.AsyncClient(trust_env=False, timeout=300) as client:
        answer = await client.post(daemon.url("/v1/audio/transcriptions"), files={"file": recording})
    page = (await daemon.get("/metrics")).text
    passes = re.findall(r'^streamer_revisions_total{outcome="(?:same|revised)"} (\S+)$', page, re.MULTILINE)
    assert sum(map(float, passes)) == 1
    return str(answer.json()["text"])


async def test_no_client_notices_that_engines_are_lost(
    recordings: dict[str, Recording], speech: Path, tmp_path: Path
) -> None:
    """SIGSTOP of one in mid-speech, then SIGKILL of the other: no error, no broken promise, no word lost."""
    spoken = [recordings[name] for name in ("dev-jfk", "dev-ls-1089-134686-0000", "dev-sns-0870")]
    samples = joined([each.samples for each in spoken], gap_s=0.8)
    file = (speech / "dev-sns-0870.flac").read_bytes()
    variables = {"STREAMER_ENGINES_COUNT": "2", "STREAMER_LOG_LEVEL": "info"}
    async with daemon_process(tmp_path, PROCESSES, **variables) as daemon:
        first, second = (pid for pid, _, _ in await engines(daemon))
        speaking = [asyncio.create_task(speak(daemon, np.roll(samples, 8000 * n))) for n in range(N_CLIENTS)]
        await asyncio.sleep(4.0)
        os.kill(second, signal.SIGSTOP)
        await until_are(daemon, (0, "alive"), (0, "lost"))
        assert (await daemon.get("/readyz")).status_code == 200
        await asyncio.sleep(2.0)
        os.kill(second, signal.SIGCONT)
        await until_are(daemon, (0, "alive"), (0, "alive"))
        await asyncio.sleep(2.0)
        assert not any(task.done() for task in speaking), "the fault came too late"
        os.kill(first, signal.SIGKILL)
        clients = await asyncio.gather(*speaking)
        await until_are(daemon, (1, "alive"), (0, "alive"))
        assert word_errors(spoken[-1].text, await revised(daemon, file)) <= 0.15
        assert await count(daemon, "streamer_engine_moves_total") <= 8
        assert await count(daemon, "streamer_engine_sent_bytes_total") > 0
        children = psutil.Process(daemon.process.pid).children()
        daemon.terminate()
        assert await daemon.exit_code() == 0

    reference = " ".join(each.text for each in spoken)
    for client in clients:
        assert client.broken == []
        assert client.of("error") == []
        assert len(client.of("bye")) == 1
    assert word_errors(reference, clients[0].text) <= 0.15
    assert not any(child.is_running() for child in children), "an engine outlived its daemon"


async def deepgram(daemon: DaemonProcess, audio: Sequence[bytes]) -> str:
    """What Deepgram's client is told of live audio."""
    async with test_dialects.listening(daemon) as live:
        for block in audio:
            await live.connection.send_media(block)
            await asyncio.sleep(0.1)
        await live.close()
    return str(live.text)


async def openai_realtime(daemon: DaemonProcess, audio: Sequence[bytes]) -> str:
    """What OpenAI's client is told of live audio."""
    async with (
        AsyncOpenAI(base_url=daemon.url("/v1"), api_key="any", max_retries=0) as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        live = test_openai_clients.Live(connection)
        await live.configure(format={"type": "audio/pcm", "rate": 16_000}, turn_detection=None)
        for block in audio:
            await live.append(block, 32_000)
            await asyncio.sleep(0.1)
        await connection.input_audio_buffer.commit()
        completed = await live.until(f"{test_openai_clients.TRANSCRIPTION}.completed")
    live.check()
    assert live.of("error") == []
    return str(completed["transcript"])


async def wyoming(port: int, audio: Sequence[bytes]) -> str:
    """What Home Assistant's client is told of live audio."""
    async with AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(rate=16_000, width=2, channels=1).event())
        for block in audio:
            await client.write_event(AudioChunk(rate=16_000, width=2, channels=1, audio=block).event())
            await asyncio.sleep(0.1)
        await client.write_event(AudioStop().event())
        while (event := await client.read_event()) is not None:
            if Transcript.is_type(event.type):
                return Transcript.from_event(event).text
    raise AssertionError("the connection ended without a transcript")


async def test_clients_that_cannot_resume_notice_nothing(recordings: dict[str, Recording], tmp_path: Path) -> None:
    """Those of Deepgram, OpenAI and Home Assistant, unmodified, while the engine of some of them is killed."""
    spoken = [recordings[name] for name in ("dev-jfk", "dev-sns-0870")]
    audio = test_dialects.blocks(test_dialects.pcm(joined([each.samples for each in spoken], gap_s=0.5)))
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(400):
        port = stack.enter_context(reserved_port())
        variables = {"STREAMER_ENGINES_COUNT": "2", "STREAMER_WYOMING_PORT": str(port)}
        daemon = await stack.enter_async_context(daemon_process(tmp_path, PROCESSES, **variables))
        speaking = [
            asyncio.create_task(each)
            for each in (deepgram(daemon, audio), openai_realtime(daemon, audio), wyoming(port, audio))
        ]
        await asyncio.sleep(6.0)
        os.kill((await engines(daemon))[0][0], signal.SIGKILL)
        texts = await asyncio.gather(*speaking)

    reference = " ".join(each.text for each in spoken)
    assert [word_errors(reference, text) <= 0.15 for text in texts] == [True] * 3, texts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_engines_end_with_their_daemon(number: signal.Signals, tmp_path: Path) -> None:
    """However it ends: a service manager that signals all processes of a unit first, or the kernel."""
    async with daemon_process(tmp_path, PROCESSES) as daemon:
        children = psutil.Process(daemon.process.pid).children()
        assert len(children) == 1
        for process in (*children, daemon.process):
            if number is signal.SIGTERM or process is daemon.process:
                process.send_signal(number)
        await daemon.exit_code()
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, 60)

    assert alive == []


async def test_a_daemon_without_any_engine_is_not_ready_and_comes_back(tmp_path: Path) -> None:
    """It says so, and admits nobody meanwhile; the engine is started again."""
    async with daemon_process(tmp_path, PROCESSES) as daemon:
        [(pid, _, _)] = await engines(daemon)
        os.kill(pid, signal.SIGSTOP)
        async with asyncio.timeout(120):
            while (answer := await daemon.get("/readyz")).status_code != 503:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        assert answer.text == "not ready: no engine is alive\n"
        os.kill(pid, signal.SIGKILL)
        await until_are(daemon, (1, "alive"))
        assert (await daemon.get("/readyz")).status_code == 200
