"""Tests of streamer.server.decoder_pool and audio.decoder_process: real processes, and files that harm them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
import pytest
import soundfile

from streamer.audio.decoder_messages import DecoderLimits
from streamer.audio.files import read_sound
from streamer.errors import AudioFormatError, OverloadError
from streamer.server.decoder_pool import DecodedFile, DecoderPool
from tests.helpers.http_daemon import within
from tests.helpers.live_recordings import FORMATS, recorded

ROOT = Path(__file__).parents[3]
FAULTY = (sys.executable, "-m", "tests.helpers.faulty_decoder")
SHORT = DecoderLimits(cpu_s=0.2, silence_s=4.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the files."""
    return tmp_path


Made = Callable[..., DecoderPool]


@pytest.fixture
def made() -> Iterator[Made]:
    """Makes pools, whose processes end with the test."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> DecoderPool:
            pool = DecoderPool(**options)
            stack.callback(pool.close)
            return pool

        yield make


def file_of(data: bytes, folder: Path) -> IO[bytes]:
    """A file with these bytes, open for writing too."""
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
    file.write(data)
    file.flush()
    return file


@asynccontextmanager
async def opened(pool: DecoderPool, data: bytes, folder: Path, max_s: float = 100.0) -> AsyncIterator[DecodedFile]:
    """A file that is decoded elsewhere."""
    with file_of(data, folder) as file:
        decoded = await within(pool.open(file, "clip", max_s))
        try:
            yield decoded
        finally:
            decoded.close()


async def read(decoded: DecodedFile) -> np.ndarray[Any, np.dtype[np.float32]]:
    """All samples of it, (n,)."""
    blocks = [np.zeros(0, np.float32)]
    while (block := await within(decoded.next_block())) is not None:
        blocks.append(block)
    return np.concatenate(blocks)


async def refusal(pool: DecoderPool, data: bytes, folder: Path) -> str:
    """What is said of a file that cannot be decoded."""
    with pytest.raises(AudioFormatError) as refused:
        async with opened(pool, data, folder):
            pass
    return str(refused.value)


def wav(seconds: float) -> bytes:
    """A tone."""
    file = io.BytesIO()
    tone = 0.3 * np.sin(np.arange(round(16_000 * seconds)) * 0.1)
    soundfile.write(file, tone, 16_000, format="WAV")
    return file.getvalue()


async def test_every_format_is_decoded_elsewhere_as_it_is_here(made: Made, folder: Path) -> None:
    """The same samples, although the process may open no file any more."""
    pool = made()
    for name in FORMATS:
        here = read_sound(io.BytesIO(recorded(name)), "clip")
        async with opened(pool, recorded(name), folder) as decoded:
            np.testing.assert_array_equal(await read(decoded), here.samples)
            assert decoded.notes == here.notes
            assert decoded.duration_s == pytest.approx(len(here.samples) / 16_000, abs=0.001)


async def test_a_file_that_cannot_be_decoded_is_told(made: Made, folder: Path) -> None:
    """In the words of the reader."""
    assert (await refusal(made(), b"no sound" * 100, folder)).startswith("clip: no audio that can be decoded")


async def test_counting_ends_after_the_longest(made: Made, folder: Path) -> None:
    """And nothing is decoded after it."""
    async with opened(made(), wav(60.0), folder, max_s=5.0) as decoded:
        assert 5.0 < decoded.duration_s < 10.0
        assert len(await read(decoded)) == 0


@pytest.mark.parametrize("word", [b"CRASH", b"SPIN", b"SLEEP"])
async def test_a_fault_costs_one_upload(made: Made, folder: Path, word: bytes) -> None:
    """A decoder that crashes, one that never ends and one that stands still: others go on beside it and after it."""
    pool = made(limits=SHORT, command=FAULTY)
    async with opened(pool, wav(3.0), folder) as other:
        said = await refusal(pool, word, folder)
        assert said.startswith("clip: its decoder failed, by a fault or at a bound of memory or time")
        assert len(await read(other)) == 3 * 16_000
    async with opened(pool, wav(1.0), folder) as following:
        assert len(await read(following)) == 16_000


async def test_memory_is_bounded(made: Made, folder: Path) -> None:
    """A bomb gets its bound, and is told."""
    said = await refusal(made(command=FAULTY), b"BOMB", folder)
    assert said == "clip: it needs more than 100 MB of memory to be decoded"


@pytest.mark.parametrize(
    ("word", "reason"),
    [(b"OPEN", "Too many open files"), (b"CONNECT", "Too many open files"), (b"WRITE", "File too large")],
)
async def test_a_child_reaches_nothing(made: Made, folder: Path, word: bytes, reason: str) -> None:
    """Neither files nor the network, and it cannot write into its own file."""
    assert await refusal(made(command=FAULTY), word, folder) == f"refused: {reason}"


async def test_a_message_is_bounded(made: Made, folder: Path) -> None:
    """Whatever a child says, no more than this is read of it."""
    assert len(await refusal(made(command=FAULTY), b"LIE", folder)) == 4096


async def test_a_fault_after_the_survey_ends_the_samples_with_an_error(made: Made, folder: Path) -> None:
    """Those before it are there."""
    async with opened(made(command=FAULTY), b"LATER", folder) as decoded:
        assert len(await within(decoded.next_block())) == 16_000
        with pytest.raises(AudioFormatError, match="its decoder failed"):
            await within(decoded.next_block())


async def test_a_process_that_ended_is_started_again(made: Made, folder: Path) -> None:
    """The files that are being decoded do not even notice."""
    pool = made()
    async with opened(pool, wav(30.0), folder) as other:
        process = psutil.Process(pool.pid)
        process.kill()
        await asyncio.to_thread(process.wait)
        async with opened(pool, wav(1.0), folder) as following:
            assert len(await read(following)) == 16_000
        assert len(await read(other)) == 30 * 16_000


async def test_a_process_that_cannot_be_started_is_an_overload(made: Made, folder: Path) -> None:
    """The client may come back."""
    with pytest.raises(OverloadError, match="no process to decode the file"):
        async with opened(made(command=("/nonexistent",)), wav(1.0), folder):
            pass


async def test_surveys_wait_for_their_turn(made: Made, folder: Path) -> None:
    """No more at once than there are places; a client that leaves gives its own back."""
    pool = made(max_surveys=1, limits=DecoderLimits(silence_s=60.0), command=FAULTY)
    with file_of(b"SLEEP", folder) as file:
        first = asyncio.create_task(pool.open(file, "clip", 100.0))
        second = asyncio.create_task(_length(pool, folder))
        await asyncio.sleep(0)
        assert not second.done()
        first.cancel()
        assert await within(second) == 16_000


async def test_a_caller_takes_one_survey_at_a_time(made: Made, folder: Path) -> None:
    """However many files it sends, and however long they take, the next caller gets its turn."""
    pool = made(max_surveys=2, limits=DecoderLimits(silence_s=60.0), command=FAULTY)
    with contextlib.ExitStack() as files:
        long = [files.enter_context(file_of(b"SLEEP", folder)) for _ in range(3)]
        waiting = [asyncio.create_task(pool.open(file, "clip", 100.0, "a")) for file in long]
        await asyncio.sleep(0)
        with file_of(wav(1.0), folder) as file:
            decoded = await within(pool.open(file, "clip", 100.0, "b"))
            assert len(await read(decoded)) == 16_000
            decoded.close()
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _length(pool: DecoderPool, folder: Path) -> int:
    async with opened(pool, wav(1.0), folder) as decoded:
        return len(await read(decoded))


async def test_a_child_ends_with_its_reader(made: Made, folder: Path) -> None:
    """Once the client has gone, nothing is decoded for it."""
    pool = made()
    async with opened(pool, wav(300.0), folder, max_s=1000.0) as decoded:
        assert await within(decoded.next_block()) is not None
        server = psutil.Process(pool.pid)
        [child] = server.children()
    await within(asyncio.to_thread(psutil.wait_procs, [child], 60))
    assert not server.children()


async def test_the_process_knows_no_secrets_and_no_torch(
    made: Made, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the daemon's environment it gets paths alone, and it is small."""
    monkeypatch.setenv("STREAMER_KEY", "secret")
    pool = made()
    async with opened(pool, wav(1.0), folder):
        server = psutil.Process(pool.pid)
        assert set(server.environ()) <= {"PATH", "PYTHONPATH", "OPENBLAS_NUM_THREADS", "LD_LIBRARY_PATH", "LC_CTYPE"}
        assert not any("torch" in mapped.path for mapped in server.memory_maps())
        assert server.memory_info().rss < 100_000_000


ASKING = """
import asyncio, sys
from streamer.server.decoder_pool import DecoderPool

async def main():
    pool = DecoderPool()
    with open(sys.argv[1], "rb") as file:
        decoded = await pool.open(file, "clip", 1000.0)
        print(pool.pid, flush=True)
        sys.stdin.read()
        decoded.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_process_ends_with_its_daemon(folder: Path, *, is_killed: bool) -> None:
    """Which stops, or is killed; so do the children, which have nobody left to answer."""
    (folder / "clip.wav").write_bytes(wav(300.0))
    command = [sys.executable, "-c", ASKING, folder / "clip.wav"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as daemon:
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        server = psutil.Process(int(daemon.stdout.readline()))
        started = [server, *server.children()]
        assert len(started) == 2
        if is_killed:
            daemon.kill()
        daemon.stdin.close()
    _, alive = psutil.wait_procs(started, timeout=120)
    assert alive == []


def test_tests_run_the_decoder_of_this_tree() -> None:
    """Its folder is handed to the process, wherever the package is installed."""
    assert os.path.samefile(Path(sys.modules["streamer"].__file__ or "").parent.parent, ROOT)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "libx264"), ("matroska", "libx265"), ("avi", "mpeg4")])
async def test_the_sound_of_a_video_is_decoded_alone(container: str, codec: str, made: Made, folder: Path) -> None:
    """Pictures of any size are passed over: to decode one would take more memory and threads than a process has."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        picture = out.add_stream(codec, rate=25, options={"preset": "ultrafast"})
        sound = out.add_stream("aac", rate=16000, layout="mono")
        picture.width, picture.height, picture.pix_fmt = 3840, 2160, "yuv420p"
        for _ in range(3):
            out.mux(picture.encode(av.VideoFrame(3840, 2160, "yuv420p")))
        tone = np.sin(np.arange(16_000, dtype=np.float32) / 5)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.rate = 16_000
        out.mux([*picture.encode(None), *sound.encode(frame), *sound.encode(None)])

    async with opened(made(), file.getvalue(), folder) as decoded:
        samples = await read(decoded)

    assert len(samples) == pytest.approx(16_000, abs=3_000)
