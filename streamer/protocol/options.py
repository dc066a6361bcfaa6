"""What one session asks for: the options of `start`, validated, with their defaults."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec

Delay = Literal["minimal", "low", "medium", "high"]
Task = Literal["transcribe", "translate"]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
"""More than the decoder's context holds would only cost time to cut."""
EndpointMs = Annotated[int, msgspec.Meta(ge=100, le=5000)]
Options = TypeVar("Options", bound=msgspec.Struct)
Keyterms = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=128)], ...], msgspec.Meta(max_length=256)]


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of one session. Changed in mid-stream only by an `Update`."""

    language: str = "auto"
    """Whisper language code, or `auto`: detected from the first seconds of speech."""
    task: Task = "transcribe"
    """`translate` means to English."""
    prompt: Text = ""
    """Text before the first word: names, spelling, style."""
    keyterms: Keyterms = ()
    """Names to favour."""
    endpoint_ms: EndpointMs = 500
    """Silence that ends a turn, in milliseconds, 100 to 5000."""
    delay: Delay = "low"
    """How long a word is held back until it is stable."""
    partials: bool = True
    """Send the part that may still change."""
    words: bool = True
    """Send words with times and confidence."""


class Update(msgspec.Struct, frozen=True, kw_only=True, tag="update"):
    """Change options in mid-stream, for the audio that comes; what is None stays. A message of `captions.v1` too."""

    language: str | None = None
    keyterms: Keyterms | None = None
    endpoint_ms: EndpointMs | None = None

    def over(self, options: Options) -> Options:
        """The options, or a `Start` that asks for them, as they are from now on."""
        changes = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return msgspec.structs.replace(options, **changes)
