"""
OpenAI's `/v1/audio/transcriptions` and `/translations`: parsing of the form, and turns in each response format.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from streamer.dialects.append_only import AppendOnlyText
from streamer.dialects.openai.errors import RequestError, error_detail
from streamer.dialects.openai.logprobs import DeltaLogProbs, log_confidence, logprobs_of
from streamer.dialects.openai.session import asked_language, asked_languages, cut_prompt
from streamer.dialects.word_slices import part_of
from streamer.errors import StreamerError
from streamer.protocol.events import Caption, Event, Skipped, TurnEnd, Word, words_of
from streamer.protocol.options import Keyterms, SessionOptions, Task, check_keyterms
from streamer.protocol.turns import FinalTurns
from streamer.subtitles.cues import to_srt, to_vtt
from streamer.text.joining import joined, space_between
from streamer.text.languages import NAMES
from streamer.text.punctuation import SENTENCE_ENDS

ResponseFormat = Literal["json", "text", "srt", "vtt", "verbose_json"]
Granularity = Literal["word", "segment"]

JSON = "application/json"
MAX_WARNING_LETTERS = 1000
"""Of the header that tells the warnings: proxies refuse answers with more than 4 kB of headers."""
_TEXT_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed request."""

    response_format: ResponseFormat
    granularities: tuple[Granularity, ...]
    """Units whose times `verbose_json` shows."""
    is_streamed: bool
    has_logprobs: bool = False
    """Whether the response tells log probabilities: `include[]=logprobs`, in JSON or a stream."""
    options: SessionOptions


class _Fields(msgspec.Struct, frozen=True, kw_only=True):
    """Form fields with an effect; others, such as `model` and `chunking_strategy`, are ignored."""

    language: str = ""
    prompt: str = ""
    keywords: Keyterms = ()
    response_format: ResponseFormat = "json"
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Ignored: decoding is always greedy, as with temperature 0."""
    stream: bool = False
    include: tuple[Literal["logprobs"], ...] = ()

    def __post_init__(self) -> None:
        """Check the key terms, which no annotation bounds as a whole."""
        check_keyterms(self.keywords)


_ALLOWED = {
    "response_format": "json, text, srt, vtt or verbose_json",
    "temperature": "a number from 0 to 1",
    "stream": "true or false",
    "keywords": "at most 256 of at most 128 characters",
    "include": "logprobs",
}


class Body(NamedTuple):
    """Body of an HTTP response."""

    content: bytes
    media_type: str


def read_form(
    fields: Iterable[tuple[str, str]], defaults: SessionOptions, languages: tuple[str, ...], task: Task
) -> Asked:
    """
    Parse the fields of a form. A list comes as one field `name[]` or `name` for each entry.

    Args:
        fields: Names and texts, without the file.
        defaults: Session options for fields that are not given.
        languages: Language codes of the model.
        task: Task of the path.

    Raises:
        RequestError: A field has a value that is not allowed.
    """
    lists: dict[str, list[str]] = {}
    for name, text in fields:
        lists.setdefault(name.removesuffix("[]"), []).append(text)
    values: dict[str, str | list[str]] = {name: texts[-1] for name, texts in lists.items()}
    found = _checked({**values, "keywords": lists.get("keywords", []), "include": lists.get("include", [])})
    if found.include and not found.stream and found.response_format != "json":
        message = f"include = logprobs: expected response_format = json or stream = true, not {found.response_format}"
        raise RequestError("invalid_value", message, "include")
    granularities = tuple(_granularity(text) for text in lists.get("timestamp_granularities", ()) if text)
    language, choice = _languages(found.language, lists.get("languages", []), defaults, languages)
    options = msgspec.structs.replace(
        defaults,
        language=language,
        languages=choice,
        task=task,
        prompt=cut_prompt(found.prompt) or defaults.prompt,
        keyterms=found.keywords or defaults.keyterms,
        words=True,
    )
    return Asked(
        response_format=found.response_format,
        granularities=granularities or ("segment",),
        is_streamed=found.stream,
        has_logprobs=bool(found.include),
        options=options,
    )


def body(asked: Asked, turns: Sequence[TurnEnd], duration_s: float, warnings: Sequence[str] = ()) -> Body:
    """
    Build the response body.

    Args:
        asked: The parsed request.
        turns: Turns of the whole file.
        duration_s: Length of the file in seconds.
        warnings: What was lost of the file, and which channels were chosen; told in JSON, where there are any.
    """
    match asked.response_format:
        case "text":
            return _plain("text", f"{transcript(turns)}\n")
        case "srt":
            return _plain("srt", to_srt(turns))
        case "vtt":
            return _plain("vtt", to_vtt(turns))
        case "verbose_json":
            return _json(_verbose(asked, turns, duration_s) | _told(warnings))
    told: dict[str, object] = {"logprobs": logprobs_of(turns)} if asked.has_logprobs else {}
    return _json({"text": transcript(turns), **told, "usage": _usage(duration_s), **_told(warnings)})


def warning_headers(warnings: Sequence[str]) -> dict[str, str]:
    """The header `Streamer-Warnings`, for every format: in printable ASCII, at most `MAX_WARNING_LETTERS`."""
    told = re.sub(r"[^ -~]+", "?", "; ".join(warnings))
    return {"Streamer-Warnings": textwrap.shorten(told, MAX_WARNING_LETTERS, placeholder=" ...")} if told else {}


def error_body(error: StreamerError) -> bytes:
    """Build the body of an error response."""
    return msgspec.json.encode({"error": error_detail(error)})


def transcript(turns: Sequence[TurnEnd]) -> str:
    """Return the text of all turns."""
    return joined(turn.text for turn in turns)


class TranscriptEvents:
    """
    Server-sent events of one streamed response: stable text as it grows, then the whole text, revised.

    A `skipped` event of `captions.v1`, which OpenAI's clients pass over, tells where sound was lost.

    Args:
        has_logprobs: Whether deltas and the whole text come with log probabilities.
        warnings: As for `body`; told with the whole text.
    """

    def __init__(self, *, has_logprobs: bool = False, warnings: Sequence[str] = ()) -> None:
        self._warnings = warnings
        self._growth = AppendOnlyText()
        self._turns = FinalTurns()
        self._logprobs = DeltaLogProbs() if has_logprobs else None

    def project(self, event: Event) -> bytes:
        """Return the server-sent events for a session event; empty if there are none."""
        self._turns.take(event)
        match event:
            case Caption(stable=stable):
                return self._delta(self._growth.grow(stable), event)
            case TurnEnd(text=text):
                return self._delta(self._growth.end_turn(text), event)
            case Skipped():
                return _server_sent(event)
        return b""

    def done(self) -> bytes:
        """Return the last event. It has no `usage`, which OpenAI counts in tokens here."""
        told: dict[str, object] = {"logprobs": logprobs_of(self._turns)} if self._logprobs is not None else {}
        text = transcript(list(self._turns))
        return _server_sent({"type": "transcript.text.done", "text": text, **told, **_told(self._warnings)})

    def failed(self, error: StreamerError) -> bytes:
        """Return the last event after an error."""
        return _server_sent({"type": "error", "error": error_detail(error)})

    def _delta(self, delta: str, event: Caption | TurnEnd) -> bytes:
        tokens = {"logprobs": self._logprobs.of(delta, event)} if self._logprobs is not None else {}
        return _server_sent({"type": "transcript.text.delta", "delta": delta, **tokens}) if delta else b""


def model_json(name: str) -> dict[str, object]:
    """Return one entry of `/v1/models`; `created` is 0, since no client uses it."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "openai"}


def _checked(values: Mapping[str, str | list[str]]) -> _Fields:
    try:
        return msgspec.convert(values, _Fields, strict=False)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition("`$.")
        place = path.rstrip("`").partition("[")[0]
        if place not in values:  # of a list of key terms as a whole
            raise RequestError("invalid_value", f"keywords: {problem}", "keywords") from None
        found = values[place]
        shown = f'"{found[:40]}"' if isinstance(found, str) else f"{len(found)} entries"
        message = f"{place} = {shown}: expected {_ALLOWED[place]}"
        raise RequestError("invalid_value", message, place) from None


def _languages(
    asked: str, several: Sequence[str], defaults: SessionOptions, languages: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """The options `language` and `languages` for the fields of these names; empty texts ask for nothing."""
    if asked:
        return asked_language(asked, languages, "language"), defaults.languages
    named = [tag for tag in several if tag]
    return asked_languages(named, languages, "languages") if named else (defaults.language, defaults.languages)


def _granularity(text: str) -> Granularity:
    match text:
        case "word" | "segment":
            return text
    message = f'timestamp_granularities = "{text[:40]}": expected word or segment'
    raise RequestError("invalid_value", message, "timestamp_granularities")


def _plain(format_: str, text: str) -> Body:
    return Body(text.encode(), _TEXT_TYPES[format_])


def _json(value: object) -> Body:
    return Body(msgspec.json.encode(value), JSON)


def _told(warnings: Sequence[str]) -> dict[str, object]:
    return {"warnings": list(warnings)} if warnings else {}


def _usage(duration_s: float) -> dict[str, object]:
    return {"type": "duration", "seconds": math.ceil(duration_s)}


def _verbose(asked: Asked, turns: Sequence[TurnEnd], duration_s: float) -> dict[str, object]:
    spoken = "en" if asked.options.task == "translate" else next((turn.language for turn in turns if turn.text), "")
    document: dict[str, object] = {
        "task": asked.options.task,
        "language": NAMES.get(spoken, spoken),
        "duration": round(duration_s, 3),
        "text": transcript(turns),
        "usage": _usage(duration_s),
    }
    if "segment" in asked.granularities:
        document["segments"] = list(_segments(turns))
    if "word" in asked.granularities:
        document["words"] = [
            {"word": word.text, "start": word.start_s, "end": word.end_s} for turn in turns for word in words_of(turn)
        ]
    return document


def _sentences(turns: Sequence[TurnEnd]) -> Iterator[tuple[str, Sequence[Word]]]:
    """Split turns at the ends of their sentences: the text of each, and its words."""
    for turn in turns:
        words = words_of(turn)
        ends = [i for i, word in enumerate(words, 1) if word.text.endswith(SENTENCE_ENDS) or i == len(words)]
        for first, end in itertools.pairwise([0, *ends]):
            yield part_of(turn.text, words, first, end), words[first:end]


def _segments(turns: Sequence[TurnEnd]) -> Iterator[dict[str, object]]:
    """Build a segment for each sentence. Their texts concatenate, so each begins with the space before it, if any."""
    before = ""
    for number, (said, words) in enumerate(_sentences(turns)):
        yield _segment(number, space_between(before, said) + said, words)
        before = said


def _segment(number: int, text: str, words: Sequence[Word]) -> dict[str, object]:
    """
    Build one segment with every field that clients require.

    Session events carry no token ids, and no segment is without speech: `tokens` is empty and `no_speech_prob` is 0.
    `seek` is the mel frame (10 ms) of the first word.
    """
    raw = text.encode()
    return {
        "id": number,
        "seek": round(words[0].start_s * 100),
        "start": words[0].start_s,
        "end": words[-1].end_s,
        "text": text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(map(log_confidence, words)) / len(words),
        "compression_ratio": len(raw) / len(zlib.compress(raw)),
        "no_speech_prob": 0.0,
    }


def _server_sent(event: object) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"
