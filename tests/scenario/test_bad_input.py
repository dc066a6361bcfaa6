"""Everything that can be wrong with what the daemon is given: a message that says what, and its code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed

from streamer.errors import EngineError
from streamer.weights import Checkpoint, load, resolve
from tests.helpers.daemon_process import Client, DaemonProcess, streamer, word_errors
from tests.helpers.engines import engine_on, request, toy
from tests.helpers.recordings import Recording

asynchronous = pytest.mark.asyncio(loop_scope="session")


def assert_failed(result: CompletedProcess[str], code: int, *messages: str) -> None:
    """The exit code, one line that says all of this, and no traceback."""
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    for message in messages:
        assert message in last


# --- the command line: models


def test_an_unknown_model_is_answered_with_the_nearest_name() -> None:
    """The message lists what there is."""
    assert_failed(streamer("serve", "--model", "tinny.en"), 2, "no model is called tinny.en", "did you mean tiny.en?")


@pytest.fixture(scope="module")
def weights() -> Checkpoint:
    """tiny.en, to be damaged."""
    return load(resolve("tiny.en"))


def test_a_download_with_a_wrong_hash_is_not_run(tmp_path: Path) -> None:
    """A published model that is not what was published is not run."""
    folder = tmp_path / "whisper-streamer" / "models" / "tiny.en"
    folder.mkdir(parents=True)
    (folder / "tiny.en.pt").write_bytes(b"not what was published")

    result = streamer("serve", "--model", "tiny.en", XDG_CACHE_HOME=str(tmp_path))

    assert_failed(result, 1, "is not tiny.en as published", "expected", "pull it again")


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    """A file that ends too early."""
    whole = resolve("tiny.en").weights[0]
    with whole.open("rb") as file:
        (tmp_path / "model.bin").write_bytes(file.read(2_000_000))

    assert_failed(streamer("transcribe", "--model", tmp_path, clip()), 1, "model.bin", "truncated")


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    """A network of another kind, in a file of the right kind."""
    torch.save({"dims": {"n_vocab": 10}, "model_state_dict": {"weight": torch.zeros(3)}}, tmp_path / "other.pt")
    assert_failed(streamer("transcribe", "--model", tmp_path / "other.pt", clip()), 1, "other.pt")

    (tmp_path / "noise.pt").write_bytes(os.urandom(4096))
    assert_failed(streamer("transcribe", "--model", tmp_path / "noise.pt", clip()), 1, "noise.pt")


def test_a_tensor_of_a_wrong_shape_is_named(tmp_path: Path, weights: Checkpoint) -> None:
    """With both shapes."""
    tensors = dict(weights.tensors) | {"encoder.conv1.weight": torch.zeros(384, 128, 3)}
    torch.save({"dims": asdict(weights.dims), "model_state_dict": tensors}, tmp_path / "bent.pt")

    result = streamer("transcribe", "--model", tmp_path / "bent.pt", clip())

    assert_failed(result, 1, "encoder.conv1.weight", "(384, 128, 3)", "(384, 80, 3)")


def clip() -> Path:
    """A recording that would be transcribed."""
    return Path(__file__).parent.parent / "data" / "dev-LJ002-0020.flac"


# --- the command line: configuration, port, sound


def test_a_misspelt_key_is_answered_with_the_right_one(tmp_path: Path) -> None:
    """A misspelt key, the file it is in, and the key that was meant."""
    (tmp_path / "daemon.toml").write_text("[server]\nprot = 8000\n")

    result = streamer("serve", "--config", tmp_path / "daemon.toml")

    assert_failed(result, 2, "unknown key server.prot", "daemon.toml", "did you mean server.port?")


def test_a_wrong_value_is_answered_with_the_allowed_ones() -> None:
    """What was found, where, and what is allowed."""
    result = streamer("serve", STREAMER_SESSION_ENDPOINT_MS="50")

    assert_failed(result, 2, "session.endpoint_ms", "STREAMER_SESSION_ENDPOINT_MS", "from 100 to 5000 (milliseconds)")


def test_a_port_in_use_is_named() -> None:
    """With the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_failed(streamer("serve", "--port", port), 1, f"port {port} on 127.0.0.1 is in use")


@pytest.fixture
def no_devices(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without a sound card, whatever this one has."""
    (tmp_path / "sounddevice.py").write_text(
        "from types import SimpleNamespace\n"
        "PortAudioError = OSError\n"
        "default = SimpleNamespace(device=(-1, -1))\n"
        "def query_devices(): return []\n"
        "def _initialize(): pass\n"
        "def _terminate(): pass\n"
    )
    return {"PYTHONPATH": str(tmp_path)}


def test_a_missing_microphone_is_named(no_devices: dict[str, str]) -> None:
    """What is missing, and what to look at."""
    assert_failed(streamer("mic", **no_devices), 1, "no input device found", "connect a microphone", "group audio")


def test_a_missing_portaudio_is_answered_with_what_to_install(tmp_path: Path) -> None:
    """The library is missing: what to install."""
    (tmp_path / "sounddevice.py").write_text('raise OSError("PortAudio library not found")\n')

    assert_failed(streamer("mic", PYTHONPATH=str(tmp_path)), 1, "PortAudio", "apt-get install libportaudio2")


def test_a_file_without_sound_is_named(tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / "text.wav").write_text("not sound")

    assert_failed(streamer("transcribe", tmp_path / "text.wav"), 1, "text.wav")


# --- the engine


def test_mel_frames_of_another_model_are_refused() -> None:
    """Mel frames of a model with other bands."""
    with pytest.raises(EngineError, match=r"window of shape \(80, 100\).*this model needs 5 bands"):
        engine_on(toy(), max_batch=1, max_window_s=2.0, bucket=8, n_tail=20).step([request(torch.zeros(80, 100))])


def test_tokens_past_the_context_are_refused() -> None:
    """More committed text than the decoder holds."""
    with pytest.raises(EngineError, match=r"tokens leaves -?[0-9]+ of 48"):
        engine_on(toy(), max_batch=1, max_window_s=2.0, bucket=8, n_tail=20).step(
            [request(torch.zeros(5, 100), prefix=(1,) * 100)]
        )


# --- the wire

SOUND = bytes(3200)
FLOAT = {"audio": {"encoding": "pcm_f32le", "rate": 16000}}


@asynchronous
@pytest.mark.parametrize(
    ("frames", "error", "close", "message"),
    [
        ([SOUND], "start_required", 1002, 'expected "start" before audio'),
        ([{"type": "flush", "id": 1}], "start_required", 1002, 'expected "start" first'),
        ([{"type": "start", "audio": {"encoding": "opus"}}], "bad_value", 1002, "mulaw, alaw or webm_opus"),
        ([{"type": "start", "audio": {"rate": 4000}}], "bad_value", 1002, "from 8000 to 48000 (hertz)"),
        ([{"type": "start", "language": "xx"}], "bad_value", 1002, 'language = "xx"'),
        ([{"type": "start", "langage": "en"}], "unknown_field", 1002, 'no field "langage"'),
        ([{"type": "hallo"}], "unknown_type", 1002, "expected start, update, flush, end"),
        (["{"], "bad_json", 1002, "not JSON"),
        ([{"type": "start"}, {"type": "start"}], "already_started", 1002, "twice"),
        ([{"type": "start", **FLOAT}, np.full(800, np.nan, "<f4").tobytes()], "bad_audio", 1007, "is nan"),
        ([{"type": "start", **FLOAT}, np.full(800, np.inf, "<f4").tobytes()], "bad_audio", 1007, "is inf"),
        ([{"type": "start"}, bytes(1_048_578)], "frame_too_large", 1009, "1048578 bytes: expected at most 1048576"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_each_wrong_message_has_its_code_and_close_code(
    daemon: DaemonProcess, frames: list[object], error: str, close: int, message: str
) -> None:
    """The last message is a fatal error with its code, the connection closes with its code."""
    async with daemon.connect() as connection:
        client = Client(connection)
        for frame in frames:
            await connection.send(frame if isinstance(frame, bytes | str) else json.dumps(frame))
        code = await client.close_code()

    last = client.messages[-1]
    assert (last["type"], last["code"], last["fatal"]) == ("error", error, True)
    assert message in last["message"]
    assert code == close


@asynchronous
async def test_a_message_far_above_the_limit_is_cut(daemon: DaemonProcess) -> None:
    """While it is read."""
    async with daemon.connect() as connection:
        client = Client(connection)
        await client.start()
        with contextlib.suppress(ConnectionClosed):
            await connection.send(bytes(3_000_000))

        assert await client.close_code() == 1009


@asynchronous
async def test_a_client_that_vanishes_disturbs_nobody(daemon: DaemonProcess, recordings: dict[str, Recording]) -> None:
    """Its neighbour does not notice, and the daemon stays ready."""
    spoken = recordings["dev-sns-0870"]
    async with daemon.connect() as one, daemon.connect() as other:
        vanishing, staying = Client(one), Client(other)
        await vanishing.start()
        await staying.start()
        await asyncio.gather(vanishing.send(spoken.samples[:48_000]), staying.send(spoken.samples[:48_000]))
        one.transport.abort()
        await staying.send(spoken.samples[48_000:])
        await staying.say({"type": "end"})
        await staying.until("bye")

    assert word_errors(spoken.text, staying.text) < 0.2
    assert staying.broken == []
    assert (await daemon.get("/readyz")).status_code == 200
