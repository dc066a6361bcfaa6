"""Session options: the validated fields of `start` with their defaults, and `update`, which changes some of them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

from streamer.protocol.bounds import MAX_KEYTERM_CHARS, MAX_KEYTERMS, keyterms_problem

Delay = Literal["minimal", "low", "medium", "high"]
Task = Literal["transcribe", "translate"]
MAX_TEXT_CHARS = 4096
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
"""Text of at most 4096 characters: more than fits into the decoder's context would be cut anyway."""
MIN_ENDPOINT_MS, MAX_ENDPOINT_MS = 100, 5000
EndpointMs = Annotated[int, msgspec.Meta(ge=MIN_ENDPOINT_MS, le=MAX_ENDPOINT_MS)]
PAUSE_MS = 500
"""Silence that is a pause, in milliseconds: it makes the words before it stable, ends speech without words, and is the
endpoint of protocols whose servers end an utterance at a pause."""
Options = TypeVar("Options", bound=msgspec.Struct)
Keyterms = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=MAX_KEYTERM_CHARS)], ...], msgspec.Meta(max_length=MAX_KEYTERMS)
]

MAX_TAG_CHARS, MAX_LANGUAGES = 100, 128
Languages = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=MAX_TAG_CHARS)], ...], msgspec.Meta(max_length=MAX_LANGUAGES)
]
"""More languages than Whisper knows; the longest tag that BCP 47 wants to be held has 35 characters."""
Revise = bool | Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
"""Whether turns get a second pass; the name of a model: with that one."""


def check_keyterms(terms: object) -> None:
    """
    Check a list of key terms wherever it enters; anything but a tuple means that no list was given.

    Raises:
        ValueError: The list is beyond the bounds; decoding turns that into a `msgspec.ValidationError`.
    """
    if isinstance(terms, tuple) and (problem := keyterms_problem(terms)):
        raise ValueError(problem)


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of one session. Only `Update` changes them while the session runs."""

    language: str = "auto"
    """Language: a code, a tag such as `de-AT`, or a name; `auto`: detected from the first seconds of speech."""
    languages: Languages = ()
    """Languages that detection chooses from, each as `language`; empty: all that the model knows."""
    task: Task = "transcribe"
    """`translate` translates to English; English-only models ignore it."""
    prompt: Text = ""
    """Text that the decoder reads before the first word: names, spelling, style."""
    keyterms: Keyterms = ()
    """Words and names that decoding favours."""
    endpoint_ms: EndpointMs | None = None
    """Silence that ends a turn, in milliseconds, 100 to 5000. None: turns are sentences, a pause ends a turn whose text
    reads as finished, a long one ends any turn."""
    delay: Delay = "low"
    """How long a word stays partial before it becomes stable: shorter is faster and makes more errors."""
    partials: bool = True
    """Send `partial`, the text that may still change."""
    words: bool = True
    """Send `words` with times and confidence."""
    revise: Revise = False
    """Decode each ended turn once more as a whole, and send `turn_revised` where its text changes; a name: with that
    model. Recordings that are transcribed as files always get this second pass."""

    def __post_init__(self) -> None:
        """Check the key terms, which no annotation bounds as a whole."""
        check_keyterms(self.keyterms)


class Update(msgspec.Struct, frozen=True, kw_only=True, tag="update", forbid_unknown_fields=True):
    """Change options for the audio sent after this message. A field that is null or left out keeps its value."""

    language: str | None = None
    languages: Languages | None = None
    keyterms: Keyterms | None = None
    endpoint_ms: EndpointMs | None = None
    revise: Revise | None = None

    def __post_init__(self) -> None:
        """Check the key terms, which no annotation bounds as a whole."""
        check_keyterms(self.keyterms)

    def over(self, options: Options) -> Options:
        """Return a copy of the options, or of a `Start` message, with the changes applied."""
        changes = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(options, **changes)
