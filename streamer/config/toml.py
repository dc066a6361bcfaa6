"""Values and whole configurations as TOML."""

from __future__ import annotations

import json

import msgspec

from streamer.config.sections import Config

SHOWN_CHARS = 200
"""Of a value in a message; more is left out."""


def to_toml(config: Config) -> str:
    """The configuration as a TOML file that `load` reads back to an equal one."""
    sections = msgspec.to_builtins(config)
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )


def toml_value(value: object) -> str:
    """A value of the configuration as TOML; 0 for None."""
    # text, numbers, booleans and lists of text are written alike in JSON and TOML
    return json.dumps(0 if value is None else value, ensure_ascii=False)


def shown(value: object) -> str:
    """Any value of a source, for messages: as TOML where TOML has such a value; a long one is cut."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}… ({len(text)} characters)"
