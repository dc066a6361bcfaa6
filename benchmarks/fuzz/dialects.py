"""Parsers of the dialects, and of what a browser records."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import parse_qsl

import numpy as np

from benchmarks.fuzz.cases import Check, Parser
from streamer.audio.opus import WebmDecoder
from streamer.dialects import wyoming
from streamer.dialects.actions import Dialect
from streamer.dialects.deepgram.protocol import DeepgramProtocol
from streamer.dialects.deepgram.request import parse_query
from streamer.dialects.openai.http import read_form
from streamer.dialects.openai.keys import SecretRequest
from streamer.dialects.openai.realtime import RealtimeProtocol
from streamer.dialects.openai.session import AudioInput, decode, default_settings, updated
from streamer.dialects.vosk import VoskProtocol
from streamer.dialects.wyoming import WyomingProtocol
from streamer.protocol.options import SessionOptions
from streamer.server.openai.forms import UploadForm
from tests.helpers.webm import recorded

LANGUAGES = ("en", "de")
Messages = Sequence[Mapping[str, object]]
SOUND = np.zeros(160, "<i2").tobytes()
DEEPGRAM: Messages = [
    {"type": "KeepAlive"},
    {"type": "Finalize"},
    {"type": "CloseStream"},
    {"type": "Configure", "keyterms": ["Ray Serve"]},
]
VOSK: Messages = [
    {"config": {"sample_rate": 8000, "words": True, "max_alternatives": 3, "phrase_list": ["one two"]}},
    {"reset": 1},
    {"eof": 1},
]
OPENAI: Messages = [
    {
        "type": "session.update",
        "session": {
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": {"model": "x", "language": "en", "prompt": "café"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
                }
            },
        },
    },
    {"type": "transcription_session.update", "session": {"input_audio_format": "g711_ulaw", "turn_detection": None}},
    {"type": "input_audio_buffer.append", "audio": base64.b64encode(SOUND).decode()},
    {"type": "input_audio_buffer.commit", "event_id": "e_1"},
    {"type": "input_audio_buffer.clear"},
]
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\ncaf\xc3\xa9\r\n'
    b'--x\r\nContent-Disposition: form-data; name="temperature"\r\n\r\n0.5\r\n'
    b'--x\r\nContent-Disposition: form-data; name="keywords[]"\r\n\r\nRay Serve\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--x--\r\n'
)
FIELDS = b"language=de&prompt=a&keywords[]=b&keywords[]=c&temperature=0.3&stream=true&response_format=verbose_json"
QUERIES = [
    b"model=any&encoding=linear16&sample_rate=16000&channels=2&multichannel=true&interim_results=true",
    b"language=de&endpointing=300&utterance_end_ms=1000&keyterm=Ray+Serve&keyterm=Anyscale&punctuate=false",
]


def parsers() -> Iterator[Parser]:
    """Every parser of this file."""
    yield Parser("deepgram query", QUERIES, check_query)
    yield Parser("deepgram", _frames(DEEPGRAM), _dialect(_deepgram))
    yield Parser("vosk", _frames(VOSK), _dialect(VoskProtocol))
    yield Parser("wyoming", _wyoming_streams(), _dialect(lambda: WyomingProtocol("tiny.en", LANGUAGES, 100_000)))
    yield Parser("openai realtime", _frames(OPENAI), check_realtime)
    secret = {"expires_after": {"seconds": 60}, "session": OPENAI[0]["session"]}
    yield Parser("client secret", [json.dumps(secret).encode()], check_secret)
    yield Parser("upload form", [FORM], check_form)
    yield Parser("form fields", [FIELDS], check_fields)
    tone = np.sin(np.arange(9600) / 30).astype(np.float32)
    yield Parser("webm", [recorded(tone)], check_webm, 0.02)


def _frames(messages: Messages) -> list[bytes]:
    return [*(json.dumps(message).encode() for message in messages), SOUND]


def _wyoming_streams() -> list[bytes]:
    sound: dict[str, object] = {"rate": 16000, "width": 2, "channels": 1}
    begin = "".join(
        [
            wyoming.encode("describe", {}),
            wyoming.encode("transcribe", {"language": "en"}),
            wyoming.encode("audio-start", sound),
        ]
    )
    chunk = json.dumps({"type": "audio-chunk", "data": sound, "payload_length": len(SOUND)}).encode() + b"\n" + SOUND
    return [begin.encode() + chunk + wyoming.encode("audio-stop", {}).encode(), chunk]


LISTEN = parse_query(parse_qsl(QUERIES[0].decode()), LANGUAGES)


def _deepgram() -> DeepgramProtocol:
    return DeepgramProtocol(LISTEN, "r_1", "tiny.en", "2026-01-01")


def _dialect(build: Callable[[], Dialect]) -> Check:
    """A dialect answers any frame and raises nothing; a second frame meets the state that the first one left."""

    def check(data: bytes, random_: random.Random) -> None:
        dialect = build()
        dialect.begin()
        for frame in (data[: len(data) // 2], data[len(data) // 2 :]) if random_.random() < 0.3 else (data, data):
            dialect.receive(frame if random_.random() < 0.5 else frame.decode(errors="replace"))

    return check


def check_realtime(data: bytes, random_: random.Random) -> None:
    """The realtime protocol answers any message and raises nothing."""
    defaults = SessionOptions()
    protocol = RealtimeProtocol(
        "s_1", "tiny.en", LANGUAGES, default_settings(defaults), defaults, is_beta=random_.random() < 0.5
    )
    protocol.open()
    for frame in (data.decode(errors="replace"), json.dumps(OPENAI[2]), data):
        protocol.receive(frame)


def check_secret(data: bytes, _: random.Random) -> None:
    """A request for a client secret gives settings, or is refused."""
    defaults = SessionOptions()
    asked = decode(data, SecretRequest)
    given = asked.session.input() if asked.session is not None else AudioInput()
    updated(default_settings(defaults), given, defaults, LANGUAGES, "session")


def check_form(data: bytes, random_: random.Random) -> None:
    """A form that arrives in parts becomes fields and a file, or is refused."""
    form = UploadForm(b"x")
    try:
        size = 1 if random_.random() < 0.02 else random_.choice((61, 4096, 16_384))
        for at in range(0, len(data), size):
            form.write(data[at : at + size])
        form.finish()
        read_form(form.fields, SessionOptions(), LANGUAGES, "transcribe")
    finally:
        form.close()


def check_fields(data: bytes, _: random.Random) -> None:
    """Names and texts of a form, without its envelope."""
    fields = parse_qsl(data.decode(errors="replace"), keep_blank_values=True)
    read_form(fields, SessionOptions(), LANGUAGES, "transcribe")


def check_query(data: bytes, _: random.Random) -> None:
    """A query is parsed, or refused with a reason."""
    parse_query(parse_qsl(data.decode(errors="replace"), keep_blank_values=True), LANGUAGES)


def check_webm(data: bytes, random_: random.Random) -> None:
    """A recording that arrives in two parts becomes finite samples, or is refused."""
    decoder, at = WebmDecoder(), random_.randrange(len(data) + 1)
    for part in (data[:at], data[at:]):
        for samples in decoder.blocks(part):
            assert np.isfinite(samples).all()
