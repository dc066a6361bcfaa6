"""
What a client of Deepgram's live API asks for: the query of `/v1/listen` and the key it shows. Pure.

Every parameter is accepted, those without a meaning here are ignored, as Deepgram does. Refused are values that cannot
be what their parameter says, and what a client would miss without noticing: `callback` and `redact`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import msgspec

from streamer.audio.pcm import MAX_CHANNELS, MAX_RATE, MIN_RATE
from streamer.errors import ProtocolError
from streamer.protocol.messages import AudioFormat, Encoding
from streamer.protocol.options import MAX_ENDPOINT_MS, MIN_ENDPOINT_MS, listed_languages

ENCODINGS: dict[str, Encoding] = {
    "linear16": "pcm_s16le",
    "linear32": "pcm_f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
}
TELEPHONE_RATE = 8000
"""Of mu-law and A-law where the client names none."""
SUBPROTOCOLS = ("token", "bearer")
"""What a page offers before its key; answered is the word alone."""
_SPOKEN_BY = {"multi": "auto", "auto": "auto"}
_MISSED = ("callback", "redact")


class ListenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One live request, understood."""

    audio: AudioFormat | None
    """None: the audio says so itself, in its header."""
    is_multichannel: bool = False
    """Every channel is a speaker of its own."""
    language: str | None = None
    """None: the daemon's default."""
    keyterms: tuple[str, ...] = ()
    endpoint_ms: int | None = None
    """None: the daemon's default."""
    marks_endpoints: bool = True
    """Whether a pause is told as `speech_final`."""
    interim_results: bool = False
    utterance_end_ms: int | None = None
    vad_events: bool = False


def shown_key(headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
    """The key in `Authorization: Token KEY` or `Bearer KEY`; of a page, the subprotocol after `token` or `bearer`."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() in SUBPROTOCOLS and key.strip():
        return key.strip()
    return next((key for name, key in itertools.pairwise(subprotocols) if name in SUBPROTOCOLS), None)


def answered_subprotocol(subprotocols: Sequence[str]) -> str | None:
    """A browser fails a handshake that answers none of what it offered; the key itself is never answered."""
    return next((name for name in subprotocols if name in SUBPROTOCOLS), None)


def parse_query(query: Iterable[tuple[str, str]], languages: Sequence[str]) -> ListenRequest:
    """
    Understand a query.

    Args:
        query: Names and values, decoded, in order.
        languages: Codes that the model knows.

    Raises:
        ProtocolError: Code `INVALID_QUERY_PARAMETER`; the message names the parameter, what was found and what is
            allowed.
    """
    values = _Values(query)
    for name in _MISSED:
        if values.text(name) not in ("", "false"):
            raise _refused(name, values.text(name), "it is not done here; leave it out")
    utterance_end_ms = values.integer("utterance_end_ms", 1, 60_000)
    endpointing = values.text("endpointing").lower()
    return ListenRequest(
        audio=_audio(values),
        is_multichannel=values.flag("multichannel"),
        language=_language(values, languages),
        keyterms=_keyterms(values),
        endpoint_ms=_endpoint_ms(values, utterance_end_ms),
        marks_endpoints=endpointing != "false",
        interim_results=values.flag("interim_results"),
        utterance_end_ms=utterance_end_ms,
        vad_events=values.flag("vad_events"),
    )


class _Values:
    def __init__(self, query: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in query:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """The last value given; empty if none was."""
        return self._values.get(name, [""])[-1].strip()

    def all(self, name: str) -> list[str]:
        return [value.strip() for value in self._values.get(name, []) if value.strip()]

    def flag(self, name: str) -> bool:
        value = self.text(name).lower()
        if value not in ("", "true", "false"):
            raise _refused(name, value, "expected true or false")
        return value == "true"

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.text(name)
        if not value:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 10 and low <= int(value) <= high):
            raise _refused(name, value, f"expected an integer from {low} to {high}")
        return int(value)


def _audio(values: _Values) -> AudioFormat | None:
    encoding = values.text("encoding").lower()
    rate = values.integer("sample_rate", MIN_RATE, MAX_RATE)
    channels = values.integer("channels", 1, MAX_CHANNELS) or 1
    if not encoding:
        return None
    if encoding not in ENCODINGS:
        raise _refused("encoding", encoding, f"expected one of {', '.join(ENCODINGS)}, or none for wav and webm")
    if rate is None:
        if encoding.startswith("linear"):
            raise _refused("sample_rate", "", f"raw audio needs it: an integer from {MIN_RATE} to {MAX_RATE}")
        rate = TELEPHONE_RATE
    return AudioFormat(encoding=ENCODINGS[encoding], rate=rate, channels=channels)


def _language(values: _Values, languages: Sequence[str]) -> str | None:
    asked = values.text("language").lower()
    if values.text("detect_language").lower() == "true":
        return "auto"
    if not asked:
        return None
    language = _SPOKEN_BY.get(asked, asked.partition("-")[0].partition("_")[0])
    if language != "auto" and language not in languages:
        raise _refused("language", asked, f"this daemon's model knows {listed_languages(languages)}")
    return language


def _keyterms(values: _Values) -> tuple[str, ...]:
    """`keyterm` as it is; `keywords` without their boost, `word:2`."""
    keywords = [word.rpartition(":")[0] if _is_boosted(word) else word for word in values.all("keywords")]
    return (*values.all("keyterm"), *keywords)


def _is_boosted(keyword: str) -> bool:
    word, _, boost = keyword.rpartition(":")
    return bool(word) and boost.lstrip("-").replace(".", "", 1).isdigit()


def _endpoint_ms(values: _Values, utterance_end_ms: int | None) -> int | None:
    """Silence that ends a turn; without endpointing that of an utterance, else as much as there can be."""
    endpointing = values.text("endpointing").lower()
    if endpointing in ("", "true"):
        return None
    if endpointing == "false":
        asked = utterance_end_ms or MAX_ENDPOINT_MS
    else:
        # never None: it is not empty
        asked = cast(int, values.integer("endpointing", 0, 60_000))
    return min(max(asked, MIN_ENDPOINT_MS), MAX_ENDPOINT_MS)


def _refused(name: str, value: str, remedy: str) -> ProtocolError:
    found = value if len(value) <= 60 else value[:60] + "…"
    return ProtocolError("INVALID_QUERY_PARAMETER", f"{name}={found}: {remedy}")
