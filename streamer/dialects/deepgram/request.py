"""
The request of a Deepgram live client: the query of `/v1/listen`, and the API key.

Unknown parameters are ignored, as Deepgram ignores them, and so are known ones without a meaning here, such as `tag`.
Refused are values that their parameter does not allow, and every parameter of `REFUSED` that asks for
something. A parameter of `WITHOUT_EFFECT` is accepted, and the client is warned in the `metadata` of its results.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import msgspec

from streamer.audio.pcm import MAX_CHANNELS, MAX_RATE, MIN_RATE
from streamer.errors import ProtocolError
from streamer.protocol.bounds import keyterms_problem
from streamer.protocol.messages import AudioFormat, Encoding
from streamer.protocol.options import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS
from streamer.text.languages import expected_language, known_language, known_languages

ENCODINGS: dict[str, Encoding] = {
    "linear16": "pcm_s16le",
    "linear32": "pcm_f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
}
COMPRESSED: dict[str, Encoding] = {
    "opus": "opus_packets",
    "ogg-opus": "container",
    "flac": "container",
    "speex": "container",
    "amr-nb": "container",
    "amr-wb": "container",
}
"""Encodings that need no rate: the sound tells it, or always has the same."""
TELEPHONE_RATE = 8000
"""Sample rate of mu-law and A-law where the client names none, in hertz."""
SUBPROTOCOLS = ("token", "bearer")
"""Subprotocols that a page offers before its key; the server answers with this word alone."""
_SEVERAL_LANGUAGES = "multi"
"""Value of `language` for speech in several languages."""
_HINT = "language_hint"
REFUSED = ("callback", "redact", "replace", "profanity_filter", "search")
"""Features that are missing here, and without which words would be shown that must not be, or results be lost."""
WITHOUT_EFFECT = {
    "diarize": "speakers are not told apart",
    "diarize_model": "speakers are not told apart",
    "numerals": "numbers are written as the model writes them",
    "measurements": "units are written as the model writes them",
    "dictation": "spoken marks such as 'comma' are written as words",
    "detect_entities": "entities are not marked",
    "filler_words": "filler words are written where the model writes them",
}
"""Features that are missing here, and what their absence means: all words are still sent."""


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """A warning about a parameter, with the fields of Deepgram's `metadata.warnings`."""

    parameter: str
    type: str = "unsupported_parameter"
    message: str


class ListenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed live request."""

    audio: AudioFormat | None
    """None: the format comes in the header of the audio."""
    is_multichannel: bool = False
    """Whether every channel gets a session of its own."""
    language: str | None = None
    """None: the daemon's default."""
    languages: tuple[str, ...] = ()
    """What detection chooses from; empty: the daemon's default."""
    tells_languages: bool = False
    """Whether results tell which language they are in."""
    keyterms: tuple[str, ...] = ()
    endpoint_ms: int | None = None
    """None: the daemon's default."""
    marks_endpoints: bool = True
    """Whether the end of a turn is marked as `speech_final`."""
    interim_results: bool = False
    utterance_end_ms: int | None = None
    vad_events: bool = False
    warnings: tuple[Warned, ...] = ()
    """For parameters that have no effect."""


def shown_key(headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
    """Return the key in `Authorization: Token KEY` or `Bearer KEY`, else the subprotocol after `token` or `bearer`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() in SUBPROTOCOLS and key.strip():
        return key.strip()
    return next((key for name, key in itertools.pairwise(subprotocols) if name in SUBPROTOCOLS), None)


def answered_subprotocol(subprotocols: Sequence[str]) -> str | None:
    """Return the subprotocol to answer, None if none was offered: browsers require one, and the key is not repeated."""
    return next((name for name in subprotocols if name in SUBPROTOCOLS), None)


def parse_query(query: Iterable[tuple[str, str]], languages: Sequence[str]) -> ListenRequest:
    """
    Parse a query.

    Args:
        query: Decoded names and values, in order.
        languages: Language codes of the model.

    Raises:
        ProtocolError: Code `INVALID_QUERY_PARAMETER`; the message names the parameter, what was found and what is
            allowed.
    """
    values = _Values(query)
    for name in REFUSED:
        if asked := values.asked(name):
            raise _refused(name, asked, "not supported here; leave it out")
    utterance_end_ms = values.integer("utterance_end_ms", 1, 60_000)
    language = _language(values, languages)
    hints = values.all(_HINT)
    is_detected = language in (None, "auto")
    unheeded = [tag for tag in hints if not is_detected or known_language(tag, languages) is None]
    endpointing = values.text("endpointing").lower()
    return ListenRequest(
        audio=_audio(values),
        is_multichannel=values.flag("multichannel"),
        language=language,
        languages=known_languages(hints, languages) if is_detected else (),
        tells_languages=_is_multi(values),
        keyterms=_keyterms(values),
        endpoint_ms=_endpoint_ms(values, utterance_end_ms),
        marks_endpoints=endpointing != "false",
        interim_results=values.flag("interim_results"),
        utterance_end_ms=utterance_end_ms,
        vad_events=values.flag("vad_events"),
        warnings=tuple(
            [_without_effect(name) for name in WITHOUT_EFFECT if values.asked(name)]
            + [_without_heed(tag, language, languages) for tag in unheeded[:1]]
        ),
    )


_ON, _OFF = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
"""How clients write flags."""


class _Values:
    def __init__(self, query: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in query:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """Return the last value given; empty if there is none."""
        return self._values.get(name, [""])[-1].strip()

    def all(self, name: str) -> list[str]:
        return [value.strip() for value in self._values.get(name, []) if value.strip()]

    def asked(self, name: str) -> str:
        """Return the first value that switches a feature on; empty if there is none."""
        return next((value for value in self.all(name) if value.lower() not in _OFF), "")

    def flag(self, name: str) -> bool:
        value = self.text(name).lower()
        if value not in ("", *_ON, *_OFF):
            raise _refused(name, value, "expected true or false")
        return value in _ON

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.text(name)
        if not value:
            return None
        whole, point, rest = value.partition(".")
        value = whole if whole and point and not rest.strip("0") else value  # as some languages write all numbers
        if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
            raise _refused(name, value, f"expected an integer from {low} to {high}")
        return int(value)


def _audio(values: _Values) -> AudioFormat | None:
    encoding = values.text("encoding").lower()
    rate = values.integer("sample_rate", MIN_RATE, MAX_RATE)
    channels = values.integer("channels", 1, MAX_CHANNELS) or 1
    if not encoding:
        return None
    if encoding in COMPRESSED:
        return AudioFormat(encoding=COMPRESSED[encoding])
    if encoding not in ENCODINGS:
        known = ", ".join([*ENCODINGS, *COMPRESSED])
        raise _refused("encoding", encoding, f"expected one of {known}, or none for wav, webm and other containers")
    if rate is None:
        if encoding.startswith("linear"):
            raise _refused("sample_rate", "", f"raw audio needs it: an integer from {MIN_RATE} to {MAX_RATE}")
        rate = TELEPHONE_RATE
    return AudioFormat(encoding=ENCODINGS[encoding], rate=rate, channels=channels)


def _language(values: _Values, languages: Sequence[str]) -> str | None:
    asked = values.text("language")
    if values.text("detect_language").lower() in _ON or _is_multi(values):
        return "auto"
    if not asked:
        return None
    language = known_language(asked, languages)
    if language is None:
        raise _refused("language", asked, expected_language(asked, languages))
    return language


def _is_multi(values: _Values) -> bool:
    return values.text("language").lower() == _SEVERAL_LANGUAGES


def _keyterms(values: _Values) -> tuple[str, ...]:
    """Return `keyterm` unchanged and `keywords` without the boost of `word:2`."""
    keywords = [word.rpartition(":")[0] if _is_boosted(word) else word for word in values.all("keywords")]
    terms = (*values.all("keyterm"), *keywords)
    if problem := keyterms_problem(terms):
        raise _refused("keyterm", f"{len(terms)} terms", problem)
    return terms


def _is_boosted(keyword: str) -> bool:
    word, _, boost = keyword.rpartition(":")
    return bool(word) and boost.lstrip("-").replace(".", "", 1).isdigit()


def _endpoint_ms(values: _Values, utterance_end_ms: int | None) -> int | None:
    """Return the silence that ends a turn, in ms: without endpointing `utterance_end_ms`, else the maximum."""
    endpointing = values.text("endpointing").lower()
    if endpointing in ("", "true"):
        return None
    if endpointing == "false":
        asked = utterance_end_ms or MAX_ENDPOINT_MS
    else:
        # not None, since the value is not empty
        asked = cast(int, values.integer("endpointing", 0, 60_000))
    return min(max(asked, MIN_ENDPOINT_MS), MAX_ENDPOINT_MS)


def _without_effect(name: str) -> Warned:
    return Warned(parameter=name, message=f"{name} has no effect here: {WITHOUT_EFFECT[name]}")


def _without_heed(tag: str, language: str | None, languages: Sequence[str]) -> Warned:
    is_detected = language in (None, "auto")
    reason = expected_language(tag, languages) if is_detected else f"language={language} is not detected"
    return Warned(parameter=_HINT, message=f"{_HINT}={_shown(tag)} has no effect here: {reason}")


def _shown(value: str) -> str:
    return value if len(value) <= 60 else value[:60] + "…"


def _refused(name: str, value: str, remedy: str) -> ProtocolError:
    return ProtocolError("INVALID_QUERY_PARAMETER", f"{name}={_shown(value)}: {remedy}")
