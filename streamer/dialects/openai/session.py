"""
Settings of a transcription session of OpenAI's Realtime API, in the present and in the beta form.

Updates are partial: only the given fields change, and `null` restores a default. Fields without an effect here are
ignored, since an `error` event makes most clients give up; `session.updated` shows the settings in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from streamer.dialects.openai.errors import RequestError
from streamer.protocol.bounds import Number
from streamer.protocol.messages import AudioFormat, Encoding, Start
from streamer.protocol.options import (
    MAX_ENDPOINT_MS,
    MAX_TEXT_CHARS,
    MIN_ENDPOINT_MS,
    PAUSE_MS,
    Keyterms,
    Languages,
    SessionOptions,
    check_keyterms,
)
from streamer.text.languages import expected_language, known_language, known_languages

INCLUDED_LOGPROBS = "item.input_audio_transcription.logprobs"
"""Entry of `include` that asks for log probabilities."""
DEFAULT_RATE = 24000
"""Rate of `audio/pcm` where none is given, in hertz."""
VOICE_THRESHOLD = 0.5
"""Shown to clients. A value they set is ignored, since the threshold of the voice detector is measured."""

FormatName = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
BetaFormatName = Literal["pcm16", "g711_ulaw", "g711_alaw"]
Eagerness = Literal["low", "medium", "high", "auto"]

_ENCODINGS: dict[str, Encoding] = {"audio/pcm": "pcm_s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_FORMATS: dict[str, FormatName] = {"pcm_s16le": "audio/pcm", "mulaw": "audio/pcmu", "alaw": "audio/pcma"}
_BETA_FORMATS: dict[BetaFormatName, FormatName] = {
    "pcm16": "audio/pcm",
    "g711_ulaw": "audio/pcmu",
    "g711_alaw": "audio/pcma",
}
_ENDPOINT_MS: dict[Eagerness, int] = {"low": 1500, "medium": 900, "high": 400, "auto": 900}
"""Silence that ends a turn for `semantic_vad`, in ms: an eager server waits less."""


_ALLOWED = {
    "format.type": "audio/pcm, audio/pcmu or audio/pcma",
    "turn_detection.type": "server_vad or semantic_vad",
    "turn_detection.eagerness": "low, medium, high or auto",
    "transcription.delay": "minimal, low, medium, high or xhigh",
    "input_audio_format": "pcm16, g711_ulaw or g711_alaw",
    "input.format": "audio/pcm, audio/pcmu or audio/pcma",
}
"""Allowed values of fields, by the end of their path."""

_Struct = TypeVar("_Struct", bound=Struct)


class Format(Struct, frozen=True, kw_only=True):
    """Encoding of the audio. OpenAI allows one rate for each encoding, this daemon any from 8 to 48 kHz."""

    type: FormatName = "audio/pcm"
    rate: Annotated[int, Meta(ge=8000, le=48000)] | None = None

    def audio(self) -> AudioFormat:
        """Convert to the audio format of `captions.v1`."""
        rate = self.rate or (DEFAULT_RATE if self.type == "audio/pcm" else 8000)
        return AudioFormat(encoding=_ENCODINGS[self.type], rate=rate)


class ServerVad(Struct, frozen=True, kw_only=True, tag_field="type", tag="server_vad"):
    """Turns end after silence."""

    threshold: Number | None = None
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=10000)] | None = 300
    silence_duration_ms: Annotated[int, Meta(ge=0, le=60000)] | None = None


class SemanticVad(Struct, frozen=True, kw_only=True, tag_field="type", tag="semantic_vad"):
    """Turns end where they seem complete; here after silence whose length depends on `eagerness`."""

    eagerness: Eagerness | None = "auto"


TurnDetection: TypeAlias = ServerVad | SemanticVad


class Transcription(Struct, frozen=True, kw_only=True):
    """Options of transcription. `model` is ignored, since the daemon has one."""

    language: str | UnsetType | None = UNSET
    languages: Languages | UnsetType | None = UNSET
    prompt: str | UnsetType | None = UNSET
    keywords: Keyterms | UnsetType | None = UNSET
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        """Check the key terms, which no annotation bounds as a whole."""
        check_keyterms(self.keywords)


FormatField: TypeAlias = Format | FormatName | BetaFormatName | UnsetType | None
"""A format, or its name alone, of which the present form knows objects and the beta form names."""


class AudioInput(Struct, frozen=True, kw_only=True):
    """The object `session.audio.input`."""

    format: FormatField = UNSET
    transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET


class Audio(Struct, frozen=True, kw_only=True):
    """The object `session.audio`."""

    input: AudioInput | None = None


class SessionUpdate(Struct, frozen=True, kw_only=True):
    """`session` in the present form, or flat in the beta form, which OpenAI has retired and some clients still send."""

    type: str | None = None
    audio: Audio | None = None
    include: tuple[str, ...] | UnsetType | None = UNSET
    input_audio_format: FormatField = UNSET
    input_audio_transcription: Transcription | UnsetType | None = UNSET
    turn_detection: TurnDetection | UnsetType | None = UNSET

    def input(self) -> AudioInput:
        """
        Return the part with an effect; a field of the present form counts before that of the beta form.

        Raises:
            RequestError: The session is not one of transcription.
        """
        if self.type not in (None, "transcription", "transcription_session"):
            raise RequestError(
                "invalid_value", f'session.type = "{self.type}": only "transcription" is served here', "session.type"
            )
        given = (self.audio and self.audio.input) or AudioInput()
        return AudioInput(
            format=self.input_audio_format if given.format is UNSET else given.format,
            transcription=self.input_audio_transcription if given.transcription is UNSET else given.transcription,
            turn_detection=self.turn_detection if given.turn_detection is UNSET else given.turn_detection,
        )

    @property
    def transcription_path(self) -> str:
        """Path of the transcription settings, for errors."""
        is_flat = self.input_audio_transcription is not UNSET
        return "session.input_audio_transcription" if is_flat else "session.audio.input.transcription"


class Settings(Struct, frozen=True, kw_only=True):
    """The settings in force, in terms of `captions.v1`."""

    audio: AudioFormat
    options: SessionOptions
    turn_detection: TurnDetection | None
    """None: the client ends turns by a commit."""
    has_logprobs: bool = False
    """Whether transcripts are sent with log probabilities."""

    @property
    def include(self) -> list[str] | None:
        """The entries of `include` in force; None if there are none."""
        return [INCLUDED_LOGPROBS] if self.has_logprobs else None

    def start(self) -> Start:
        """Return the `start` message of a native session with these settings; transcripts always hold words."""
        return Start(audio=self.audio, **msgspec.structs.asdict(self.options) | {"words": True})


def decode(frame: str | bytes | msgspec.Raw, kind: type[_Struct], path: str = "") -> _Struct:
    """
    Decode JSON into a struct. Numbers may be written as others write them: 24000.0, or "24000".

    Args:
        frame: JSON.
        kind: The struct.
        path: Path of the JSON in its message, which precedes `param` in errors.

    Raises:
        RequestError: The frame is not JSON, or a field has a value that is not allowed.
    """
    try:
        return msgspec.json.decode(frame, type=kind, strict=False)
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
    """Return the settings before the first update of a client."""
    detection = ServerVad()
    options = msgspec.structs.replace(defaults, endpoint_ms=_endpoint_ms(detection, defaults))
    return Settings(audio=Format().audio(), options=options, turn_detection=detection)


def updated(
    settings: Settings, asked: AudioInput, defaults: SessionOptions, languages: tuple[str, ...], path: str
) -> Settings:
    """
    Apply an update to the settings.

    Args:
        settings: Settings before the update.
        asked: The update.
        defaults: Options that `null` restores.
        languages: Language codes of the model.
        path: Path of the transcription settings in the client's message, for errors.

    Raises:
        RequestError: The model does not know the language.
    """
    changes: dict[str, object] = {}
    if asked.format is not UNSET:
        changes["audio"] = _format(asked.format).audio()
    if asked.turn_detection is not UNSET:
        changes["turn_detection"] = asked.turn_detection
    settings = msgspec.structs.replace(settings, **changes)
    options = msgspec.structs.replace(
        settings.options,
        endpoint_ms=_endpoint_ms(settings.turn_detection, defaults),
        **_transcription_changes(asked.transcription, defaults, languages, path),
    )
    return msgspec.structs.replace(settings, options=options)


def included(settings: Settings, include: tuple[str, ...] | UnsetType | None) -> Settings:
    """Return the settings with the `include` of an update applied; entries but `INCLUDED_LOGPROBS` have no effect."""
    if include is UNSET:
        return settings
    return msgspec.structs.replace(settings, has_logprobs=INCLUDED_LOGPROBS in (include or ()))


def asked_language(asked: str, languages: tuple[str, ...], param: str) -> str:
    """
    Return the code of a language: `de-AT` and `German` are `de`, blank text is `auto`.

    Args:
        asked: Code, tag or name.
        languages: Language codes of the model.
        param: Path of the field, for errors.

    Raises:
        RequestError: The model does not know the language.
    """
    code = known_language(asked, languages) if asked.strip() else "auto"
    if code is None:
        expected = expected_language(asked, languages)
        raise RequestError("invalid_value", f'{param} = "{asked[:40]}": {expected}', param)
    return code


def asked_languages(asked: Sequence[str], languages: tuple[str, ...], param: str) -> tuple[str, tuple[str, ...]]:
    """
    Return the options `language` and `languages` for the languages that may be spoken.

    One is the language. Of several, detection chooses from those that the model knows; the others are left out.

    Args:
        asked: Codes, tags or names; at least one.
        languages: Language codes of the model.
        param: Path of the field, for errors.

    Raises:
        RequestError: The model knows none of them.
    """
    known = known_languages(asked, languages)
    if len(known) > 1:
        return "auto", known
    return (known[0] if known else asked_language(asked[0], languages, param)), ()


def cut_prompt(prompt: str) -> str:
    """Return the end of a prompt, as much as an option may hold: like OpenAI's, the model reads its last tokens."""
    return prompt[-MAX_TEXT_CHARS:]


def to_json(settings: Settings, session: str, model: str) -> dict[str, object]:
    """
    Build the `session` object of server events, in the present form.

    Args:
        settings: Settings in force.
        session: Id of the session.
        model: Name of the model.
    """
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
        "include": settings.include,
    }


def to_beta_json(settings: Settings, session: str, model: str) -> dict[str, object]:
    """
    Build the `session` object of server events, in the beta form.

    Args:
        settings: Settings in force.
        session: Id of the session.
        model: Name of the model.
    """
    names = {present: beta for beta, present in _BETA_FORMATS.items()}
    return {
        "id": session,
        "object": "realtime.transcription_session",
        "modalities": ["text"],
        "input_audio_format": names[_FORMATS[settings.audio.encoding]],
        "input_audio_transcription": _transcription_json(settings.options, model),
        "turn_detection": _turn_detection_json(settings),
        "include": settings.include,
    }


def prefix_padding_s(settings: Settings) -> float:
    """Return the audio before the first voice that counts as speech, in seconds."""
    detection = settings.turn_detection
    return (detection.prefix_padding_ms or 0) / 1000 if isinstance(detection, ServerVad) else 0.0


def _format(asked: Format | FormatName | BetaFormatName | None) -> Format:
    match asked:
        case None:
            return Format()
        case Format():
            return asked
        case "pcm16" | "g711_ulaw" | "g711_alaw":
            return Format(type=_BETA_FORMATS[asked])
    return Format(type=asked)


def _endpoint_ms(detection: TurnDetection | None, defaults: SessionOptions) -> int:
    """Return the silence that ends a turn, in ms; without detection, where only commits end an item, the default."""
    match detection:
        case ServerVad(silence_duration_ms=int(asked)):
            return min(max(asked, MIN_ENDPOINT_MS), MAX_ENDPOINT_MS)
        case SemanticVad(eagerness=eagerness):
            return _ENDPOINT_MS[eagerness or "auto"]
    return defaults.endpoint_ms or PAUSE_MS


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
    changes = _language_changes(asked, defaults, languages, path)
    if asked.prompt is not UNSET:
        changes["prompt"] = cut_prompt(asked.prompt) if isinstance(asked.prompt, str) else defaults.prompt
    if asked.keywords is not UNSET:
        changes["keyterms"] = defaults.keyterms if asked.keywords is None else asked.keywords
    if asked.delay is not UNSET:
        changes["delay"] = "high" if asked.delay == "xhigh" else asked.delay or defaults.delay
    return changes


def _language_changes(
    asked: Transcription, defaults: SessionOptions, languages: tuple[str, ...], path: str
) -> dict[str, object]:
    if isinstance(asked.language, str):
        language, choice = asked_language(asked.language, languages, f"{path}.language"), defaults.languages
    elif isinstance(asked.languages, tuple) and asked.languages:
        language, choice = asked_languages(asked.languages, languages, f"{path}.languages")
    elif asked.language is None or asked.languages is not UNSET:
        language, choice = defaults.language, defaults.languages
    else:
        return {}
    return {"language": language, "languages": choice}


def _transcription_json(options: SessionOptions, model: str) -> dict[str, object]:
    return {
        "model": model,
        "language": None if options.language == "auto" else options.language,
        "languages": list(options.languages),
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
