"""Every key of the configuration with its type, and the values that a key allows in words."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import inspect

from streamer.config.sections import Config
from streamer.config.toml import shown

ENVIRONMENT_PREFIX = "STREAMER_"
"""Start of the name of a variable: `STREAMER_SECTION_KEY`."""


class Key(NamedTuple):
    """The type of one key: as annotated with its bounds, and as msgspec describes it."""

    annotation: object
    type: inspect.Type


KEYS: dict[str, dict[str, Key]] = {
    section.name: {
        field.name: Key(field.type, inspect.type_info(field.type)) for field in msgspec.structs.fields(section.type)
    }
    for section in msgspec.structs.fields(Config)
}
"""Every key by section."""


def expectation(section: str, key: str) -> str:
    """The values that a key allows, in words, with the unit: `an integer from 0 to 65535`."""
    type_ = KEYS[section][key].type
    return _expectation(type_) + _unit(key) + (", or 0 for none" if is_optional(type_) else "")


def is_optional(type_: inspect.Type) -> bool:
    """Whether a key may have no value: None in a `Config`, 0 in its sources, since TOML has no null."""
    return isinstance(type_, inspect.UnionType) and type_.includes_none


def _expectation(type_: inspect.Type) -> str:
    """The values a type allows, in words."""
    match type_:
        case inspect.UnionType(types=types):
            return ", or ".join(_expectation(each) for each in types if not isinstance(each, inspect.NoneType))
        case inspect.LiteralType(values):
            return "one of " + ", ".join(shown(value) for value in values)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high):
            return "an integer" + _range(low, high)
        case inspect.FloatType(ge=low, le=high):
            return "a number" + _range(low, high)
        case inspect.StrType(min_length=shortest, max_length=longest):
            kind = "text that is not empty" if shortest else "text"
            return f"{kind} of at most {longest} characters" if longest else kind
        case inspect.VarTupleType(item_type=item, max_length=longest):
            kind = "a list of text"
            if longest and isinstance(item, inspect.StrType) and item.max_length:
                kind += f", at most {longest} of at most {item.max_length} characters"
            return kind
    raise TypeError(f"no words for configuration type {type_}")


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None else f" from {low} to {high}"


def _unit(key: str) -> str:
    units = {
        "_per_s": "per second",
        "_ms": "milliseconds",
        "_s": "seconds",
        "_bytes": "bytes",
        "_mb": "megabytes",
        "rate": "hertz",
    }
    return next((f" ({unit})" for suffix, unit in units.items() if key.endswith(suffix)), "")
