"""
What a client of OpenAI's Realtime API may set on a transcription session, in the present form and in the beta form.

Updates are partial: only the fields that are there change, and `null` brings a default back. Fields that mean nothing
here are read over, as an `error` event makes most clients give up; `session.updated` tells what is in force. Pure.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from streamer.dialects.openai.errors import RequestError
from streamer.dialects.openai.language_names import CODES
from streamer.protocol.messages import AudioFormat, Encoding, Start
from streamer.protocol.options import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS, Keyterms, SessionOptions, Text, listed_languages

DEFAULT_RATE = 24000
"""Of `audio/pcm` when none is given, hertz."""
VOICE_THRESHOLD = 0.5
"""The one in force; a client's wish is read over, since the voice detector's working point is measured."""

FormatName = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
Eagerness = Literal["low", "medium", "high", "auto"]

_ENCODINGS: dict[str, Encoding] = {"audio/pcm": "pcm_s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_FORMATS: dict[str, FormatName] = {"pcm_s16le": "audio/pcm", "mulaw": "audio/pcmu", "alaw": "audio/pcma"}
_BETA_FORMATS: dict[str, FormatName] = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
_ENDPOINT_MS: dict[Eagerness, int] = {"low": 1500, "medium": 900, "high": 400, "auto": 900}
"""Silence that ends a turn for `semantic_vad`: an eager server waits less."""


_ALLOWED = {
    "format.type": "audio/pcm, audio/pcmu or audio/pcma",
    "turn_detection.type": "server_vad or semantic_vad",
    "turn_detection.eagerness": "low, medium, high or auto",
    "transcription.delay": "minimal, low, medium, high or xhigh",
    "input_audio_format": "pcm16, g711_ulaw or g711_alaw",
}
"""What the fields take that are chosen from a list, by the end of their path."""

_Struct = TypeVar("_Struct", bound=Struct)


class Format(Struct, frozen=True, kw_only=True):
    """Encoding of the audio; OpenAI takes one rate for each, this daemon any from 8 to 48 kHz."""

    type: FormatName = "audio/pcm"
    rate: Annotated[int, Meta(ge=8000, le=48000)] | None = None

    def audio(self) -> AudioFormat:
        """The same in words of `captions.v1`."""
        rate = self.rate or (DEFAULT_RATE if self.type == "audio/pcm" else 8000)
        return AudioFormat(encoding=_ENCODINGS[self.type], rate=rate)


class ServerVad(Struct, frozen=True, kw_only=True, tag_field="type", tag="server_vad"):
    """A turn ends by silence."""

    threshold: float | None = None
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=10000)] | None = 300
    silence_duration_ms: Annotated[int, Meta(ge=0, le=60000)] | None = None


class SemanticVad(Struct, frozen=True, kw_only=True, tag_field="type", tag="semantic_vad"):
    """A turn ends where it seems complete; here by silence too, longer or shorter."""

    eagerness: Eagerness | None = "auto"


TurnDetection: TypeAlias = ServerVad | SemanticVad


class Transcription(Struct, frozen=True, kw_only=True):
    """How to transcribe. `model` is read over: there is one."""

    language: str | UnsetType | None = UNSET
    languages: tuple[str, ...] | UnsetType | None = UNSET
    prompt: Text | UnsetType | None = UNSET
    keywords: Keyterms | UnsetType | None = UNSET
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | UnsetType | None = UNSET


class AudioInput(Struct, frozen=True, kw_only=True):
    """Everything under `session.audio.input`."""

    format: Format | UnsetType | None = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class Audio(Struct, frozen=True, kw_only=True):
    """Everything under `session.audio`."""

    input: AudioInput | None = None


class SessionUpdate(Struct, frozen=True, kw_only=True):
    """`session` in the present form."""

    type: str | None = None
    audio: Audio | None = None

    def input(self) -> AudioInput:
        """The part that matters."""
        if self.type not in (None, "transcription"):
            raise RequestError(
                "invalid_value", f'session.type = "{self.type}": only "transcription" is served here', "session.type"
            )
        return (self.audio and self.audio.input) or AudioInput()


class BetaSessionUpdate(Struct, frozen=True, kw_only=True):
    """`session` in the beta form, which upstream has given up and others still speak."""

    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | UnsetType | None = UNSET
    input_audio_transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET

    def input(self) -> AudioInput:
        """The same in the present form."""
        name = self.input_audio_format
        return AudioInput(
            format=Format(type=_BETA_FORMATS[name]) if isinstance(name, str) else name,
            transcription=self.input_audio_transcription,
            turn_detection=self.turn_detection,
        )


class Settings(Struct, frozen=True, kw_only=True):
    """What is in force, in words of `captions.v1`."""

    audio: AudioFormat
    options: SessionOptions
    turn_detection: TurnDetection | None
    """None: the client says where a turn ends."""

    def start(self) -> Start:
        """The native session that these settings ask for."""
        return Start(audio=self.audio, **msgspec.structs.asdict(self.options))


def decode(frame: str | bytes | msgspec.Raw, kind: type[_Struct], path: str = "") -> _Struct:
    """
    Read JSON into a struct.

    Raises:
        RequestError: It is none, or a field holds something else than it may; `param` is the field's path below `path`.
    """
    try:
        return msgspec.json.decode(frame, type=kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        param = (path + place.rstrip("`")).lstrip(".")
        code = "missing_required_parameter" if "missing required" in problem else "invalid_value"
        message = problem.replace("`", "")
        allowed = next((words for end, words in _ALLOWED.items() if param.endswith(end)), None)
        message = message[:1].lower() + message[1:] + (f", expected {allowed}" if allowed else "")
        raise RequestError(code, f"{param}: {message}" if param else message, param or None) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RequestError("invalid_json", f"not JSON: {str(error).lower()}") from None


def default_settings(defaults: SessionOptions) -> Settings:
    """Before a client has said anything."""
    return Settings(audio=Format().audio(), options=defaults, turn_detection=ServerVad())


def updated(
    settings: Settings, asked: AudioInput, defaults: SessionOptions, languages: tuple[str, ...], path: str
) -> Settings:
    """
    Settings after an update.

    Args:
        settings: Before.
        asked: What the client sent.
        defaults: What `null` brings back.
        languages: Codes the model knows.
        path: Where a client finds the transcription settings, for messages.

    Raises:
        RequestError: The model does not know the language.
    """
    changes: dict[str, object] = {}
    if asked.format is not UNSET:
        changes["audio"] = (asked.format or Format()).audio()
    if asked.turn_detection is not UNSET:
        changes["turn_detection"] = asked.turn_detection
    settings = msgspec.structs.replace(settings, **changes)
    options = msgspec.structs.replace(
        settings.options,
        endpoint_ms=_endpoint_ms(settings.turn_detection, defaults),
        **_transcription_changes(asked.transcription, defaults, languages, path),
    )
    return msgspec.structs.replace(settings, options=options)


def known_language(asked: str, languages: tuple[str, ...], param: str) -> str:
    """
    The code of a language; `de-AT` and `German` are `de`, and nothing at all is `auto`.

    Raises:
        RequestError: The model does not know it.
    """
    name = asked.strip().lower().replace("_", "-")
    code = CODES.get(name, name.partition("-")[0]) or "auto"
    if code != "auto" and code not in languages:
        known = listed_languages(languages)
        raise RequestError("invalid_value", f'{param} = "{asked[:40]}": this model knows {known}', param)
    return code


def to_json(settings: Settings, session: str, model: str) -> dict[str, object]:
    """The session as a client sees it, in the present form."""
    return {
        "type": "transcription",
        "id": session,
        "object": "realtime.transcription_session",
        "audio": {
            "input": {
                "format": {"type": _FORMATS[settings.audio.encoding], "rate": settings.audio.rate},
                "transcription": _transcription_json(settings.options, model),
                "noise_reduction": None,
                "turn_detection": _turn_detection_json(settings),
            }
        },
        "include": None,
    }


def to_beta_json(settings: Settings, session: str, model: str) -> dict[str, object]:
    """The session as a client sees it, in the beta form."""
    names = {present: beta for beta, present in _BETA_FORMATS.items()}
    return {
        "id": session,
        "object": "realtime.transcription_session",
        "modalities": ["text"],
        "input_audio_format": names[_FORMATS[settings.audio.encoding]],
        "input_audio_transcription": _transcription_json(settings.options, model),
        "turn_detection": _turn_detection_json(settings),
    }


def prefix_padding_s(settings: Settings) -> float:
    """Sound before the first voice that counts as speech, seconds."""
    detection = settings.turn_detection
    return (detection.prefix_padding_ms or 0) / 1000 if isinstance(detection, ServerVad) else 0.0


def _endpoint_ms(detection: TurnDetection | None, defaults: SessionOptions) -> int:
    match detection:
        case ServerVad(silence_duration_ms=int(asked)):
            return min(max(asked, MIN_ENDPOINT_MS), MAX_ENDPOINT_MS)
        case SemanticVad(eagerness=eagerness):
            return _ENDPOINT_MS[eagerness or "auto"]
    return defaults.endpoint_ms


def _transcription_changes(
    asked: Transcription | UnsetType | None, defaults: SessionOptions, languages: tuple[str, ...], path: str
) -> dict[str, object]:
    if asked is UNSET:
        return {}
    asked = (
        asked
        if isinstance(asked, Transcription)
        else Transcription(language=None, prompt=None, keywords=None, delay=None)
    )
    changes: dict[str, object] = {}
    if isinstance(asked.language, str):
        changes["language"] = known_language(asked.language, languages, f"{path}.language")
    elif isinstance(asked.languages, tuple) and len(asked.languages) == 1:
        changes["language"] = known_language(asked.languages[0], languages, f"{path}.languages")
    elif asked.language is None or asked.languages is not UNSET:
        changes["language"] = defaults.language
    if asked.prompt is not UNSET:
        changes["prompt"] = defaults.prompt if asked.prompt is None else asked.prompt
    if asked.keywords is not UNSET:
        changes["keyterms"] = defaults.keyterms if asked.keywords is None else asked.keywords
    if asked.delay is not UNSET:
        changes["delay"] = "high" if asked.delay == "xhigh" else asked.delay or defaults.delay
    return changes


def _transcription_json(options: SessionOptions, model: str) -> dict[str, object]:
    return {
        "model": model,
        "language": None if options.language == "auto" else options.language,
        "prompt": options.prompt,
        "keywords": list(options.keyterms),
        "delay": options.delay,
    }


def _turn_detection_json(settings: Settings) -> dict[str, object] | None:
    match settings.turn_detection:
        case ServerVad(prefix_padding_ms=padding):
            return {
                "type": "server_vad",
                "threshold": VOICE_THRESHOLD,
                "prefix_padding_ms": padding or 0,
                "silence_duration_ms": settings.options.endpoint_ms,
            }
        case SemanticVad(eagerness=eagerness):
            return {"type": "semantic_vad", "eagerness": eagerness or "auto"}
    return None
