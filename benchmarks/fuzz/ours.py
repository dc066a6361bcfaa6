"""Parsers of captions.v1, audio, configuration, keys and checkpoints."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.fuzz.cases import Parser
from streamer.access.keys import Keys
from streamer.audio.pcm import AudioDecoder
from streamer.config import Config, load, to_toml
from streamer.errors import StreamerError
from streamer.protocol.messages import Start
from streamer.protocol.options import SessionOptions
from streamer.protocol.state_machine import CaptionsProtocol, State
from streamer.weights.ctranslate2 import read_ctranslate2
from streamer.weights.huggingface import read_huggingface
from streamer.weights.openai import read_openai
from tests.streamer.weights import writers

MESSAGES = [
    {"type": "start"},
    {
        "type": "start",
        "audio": {"encoding": "pcm_f32le", "rate": 48000, "channels": 2},
        "language": "en",
        "task": "transcribe",
        "prompt": "café",
        "keyterms": ["Ray Serve"],
        "endpoint_ms": 500,
        "delay": "low",
        "partials": True,
        "words": False,
        "resume": {"session": "s_1", "token": "r_1", "stable_s": 12.5, "context": "last words"},
    },
    {"type": "update", "language": "de", "keyterms": ["a", "b"], "endpoint_ms": 5000},
    {"type": "flush", "id": 7},
    {"type": "end"},
]


def parsers(folder: Path) -> Iterator[Parser]:
    """Every parser of this file; files are written to `folder`."""
    messages = [json.dumps(message).encode() for message in MESSAGES]
    yield Parser("captions.v1", messages, check_protocol)
    sound = (np.sin(np.arange(320)) * 20_000).astype("<i2").tobytes()
    yield Parser("pcm", [sound, np.linspace(-1, 1, 160, dtype="<f4").tobytes(), b""], check_sound, 0.3)
    file = folder / "config.toml"
    configs = [to_toml(Config()).encode(), b"[server]\nport = 9000\n[session]\nkeyterms = ['a']\n"]
    yield Parser("configuration", configs, lambda data, _: check_config(data, file), 0.1)
    keys = folder / "keys"
    lines = b"# ours\nkitchen 0123456789abcdef\noffice fedcba9876543210\n"
    yield Parser("key file", [lines], lambda data, _: check_keys(data, keys), 0.2)
    yield token_parser(folder / "token-keys")
    tensors = writers.random_tensors()
    container = folder / "model.bin"
    yield Parser(
        "ctranslate2",
        [writers.container(writers.ctranslate2_variables(tensors))],
        lambda data, _: check_ctranslate2(data, container),
        0.05,
    )
    openai = writers.write_openai(folder / "small.pt", tensors)
    yield Parser("openai .pt", [openai.read_bytes()], lambda data, _: check_openai(data, openai), 0.01)
    huggingface = writers.write_huggingface(folder / "hf", tensors)
    safetensors = huggingface / "model.safetensors"
    yield Parser(
        "safetensors",
        [safetensors.read_bytes()],
        lambda data, _: check_huggingface(data, safetensors),
        0.02,
    )
    described = huggingface / "config.json"
    yield Parser("config.json", [described.read_bytes()], lambda data, _: check_huggingface(data, described), 0.02)


def check_protocol(data: bytes, random_: random.Random) -> None:
    """Frames before the case bring the protocol into every state; after an error it is closed."""
    protocol = CaptionsProtocol(("en", "de"), 100_000)
    for message in random_.choice(([], MESSAGES[:1], [MESSAGES[0], MESSAGES[4]])):
        protocol.receive(json.dumps(message))
    # text that is not UTF-8 is refused before the protocol sees it
    frame = data if random_.random() < 0.1 else data.decode(errors="replace")
    try:
        received = protocol.receive(frame)
    except StreamerError as error:
        error_text = str(error)
        assert protocol.state is State.CLOSED, protocol.state
        assert error_text.isprintable(), "an error of more than one line"
        assert len(error_text) < 500, "an error that repeats the input"
        raise
    if isinstance(received, Start):
        received.options(SessionOptions())


def check_sound(data: bytes, random_: random.Random) -> None:
    """Bytes that are accepted become finite samples."""
    encoding = random_.choice(("pcm_s16le", "pcm_f32le", "mulaw", "alaw"))
    decoder = AudioDecoder(encoding, random_.choice((8000, 16_000, 44_100, 48_000)), random_.randint(1, 8))
    for samples in (decoder.decode(data), decoder.finish()):
        assert np.isfinite(samples).all()


def check_config(data: bytes, file: Path) -> None:
    """A configuration that is accepted can be written and read again."""
    file.write_bytes(data)
    config = load(file, {}, {})
    file.write_text(to_toml(config))
    assert load(file, {}, {}) == config


def check_keys(data: bytes, file: Path) -> None:
    """A key file that is accepted knows its keys."""
    file.write_bytes(data)
    Keys(file).identify("0123456789abcdef")


def token_parser(file: Path) -> Parser:
    """The parser of keys and tokens: only the whole token and the whole key are accepted."""
    file.write_text("kitchen 0123456789abcdef\n")
    keys = Keys(file, clock=lambda: 0.0)
    token = keys.issue_token(keys.identify("0123456789abcdef"), 300).text

    def check(data: bytes, _: random.Random) -> None:
        shown = data.decode(errors="replace")
        keys.identify(shown)
        assert shown in (token, "0123456789abcdef"), "a forged key was taken"

    return Parser("keys and tokens", [token.encode(), b"0123456789abcdef"], check)


def check_openai(data: bytes, file: Path) -> None:
    """A damaged archive is refused."""
    file.write_bytes(data)
    read_openai(file)


def check_ctranslate2(data: bytes, file: Path) -> None:
    """A damaged container is refused."""
    file.write_bytes(data)
    read_ctranslate2(file.parent, (file,))


def check_huggingface(data: bytes, file: Path) -> None:
    """A damaged file beside whole ones is refused; it is restored afterwards."""
    before = file.read_bytes()
    file.write_bytes(data)
    try:
        read_huggingface(file.parent, (file.parent / "model.safetensors",))
    finally:
        file.write_bytes(before)
