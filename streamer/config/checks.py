"""Checks of the configuration: each value by its key, and pairs of values that do not fit together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec
from msgspec import inspect

from streamer.config.keys import KEYS, expectation, is_optional
from streamer.config.sections import Config
from streamer.config.sources import Setting
from streamer.config.texts import problem_of
from streamer.config.toml import shown
from streamer.errors import ConfigError
from streamer.text.languages import LANGUAGES, expected_language, known_language

MODEL_KEYS = ("model.name", "revise.model")
"""Keys that name a model."""
_ENGLISH = re.compile(r"(?:distil-)?(tiny|base|small|medium)\.en")
"""Published models that know English alone; the group is the one of the same size that knows many languages."""


def checked(setting: Setting, problem_of_model: Callable[[str], str | None]) -> object:
    """
    The value of a setting in the type of its key; languages become their codes.

    Args:
        setting: From a source; its key exists.
        problem_of_model: Says what is wrong with a model name, None if nothing is.

    Raises:
        ConfigError: The value is of the wrong type or out of range, or there is no such language, model or address.
    """
    annotation, type_ = KEYS[setting.section][setting.key]
    if is_optional(type_) and setting.value in (0, "0") and setting.value is not False:
        return None
    value = _of_text(str(setting.value), type_) if setting.is_text else setting.value
    found = f"{setting.dotted} = {shown(value)} {setting.origin}"
    try:
        converted = msgspec.convert(value, annotation, strict=not setting.is_text)
    except (msgspec.ValidationError, UnicodeError):  # a byte of a variable that is no text
        raise ConfigError(f"{found}: expected {expectation(setting.section, setting.key)}") from None
    if problem := problem_of(setting.dotted, converted):
        raise ConfigError(f"{found}: {problem}")
    if setting.dotted in MODEL_KEYS and converted and (problem := problem_of_model(str(converted))):
        raise ConfigError(f"{found}: {problem}")
    if setting.dotted == "session.language":
        return _code(str(converted), found)
    if setting.dotted == "session.languages" and isinstance(converted, tuple):
        codes = [_code(tag, f"{found}: found {shown(tag)}") for tag in converted]
        return tuple(dict.fromkeys(code for code in codes if code != "auto"))
    return converted


def _code(tag: str, found: str) -> str:
    """The code of a language tag; `found` names the setting, its value and its source for the error."""
    code = known_language(tag, LANGUAGES)
    if code is None:
        raise ConfigError(f"{found}: {expected_language(tag, LANGUAGES)}")
    return code


def _several_gateways(where: str) -> str:
    """How to get several gateways where engines are here or on Ray, in words."""
    if where == "ray":
        own = "each gateway has a connection to Ray of its own"
        return f"{own}: expected server.processes = 1, and several daemons behind a balancer, which share the engines"
    return 'expected engines.where = "processes", or server.processes = 1'


def _of_text(text: str, type_: inspect.Type) -> object:
    """A text of the environment as what msgspec does not make of it: a list, or the switch of a switch or text."""
    match type_:
        case inspect.VarTupleType():
            return _listed(text)
        case inspect.UnionType(types=types) if any(isinstance(each, inspect.BoolType) for each in types):
            return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    return text


def _listed(text: str) -> object:
    """A list in a variable: JSON, or texts separated by commas. What begins as JSON and is none stays text."""
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def contradictions(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Pairs of keys whose values are allowed by themselves, but not together; and that in words."""
    scheduler, language, model = config.scheduler, config.session.language, config.model.name
    if scheduler.max_step_interval_ms < scheduler.step_interval_ms:
        text = (
            f"scheduler.max_step_interval_ms = {scheduler.max_step_interval_ms}: expected at least "
            f"scheduler.step_interval_ms = {scheduler.step_interval_ms} (milliseconds)"
        )
        yield ("scheduler.max_step_interval_ms", "scheduler.step_interval_ms"), text
    if config.server.processes > 1 and config.engines.where != "processes":
        text = (
            f'server.processes = {config.server.processes}: engines.where = "{config.engines.where}" '
            f"has one gateway in a daemon; {_several_gateways(config.engines.where)}"
        )
        yield ("server.processes", "engines.where"), text
    if language not in ("auto", "en") and model.endswith(".en"):
        published = _ENGLISH.fullmatch(model)
        text = (
            f'session.language = "{language}": model.name = "{model}" knows English alone; expected "en" or "auto", '
            f'or a model of many languages such as "{published[1] if published else "base"}"'
        )
        yield ("session.language", "model.name"), text
    if bool(config.server.tls_certificate) != bool(config.server.tls_key):
        text = "server.tls_certificate and server.tls_key belong together: set both or none"
        yield ("server.tls_certificate", "server.tls_key"), text
    engines = config.engines
    if engines.where != "ray" and (engines.address or engines.most):
        key = "engines.address" if engines.address else "engines.most"
        yield (key, "engines.where"), f'{key} is set: expected engines.where = "ray", found "{engines.where}"'
    if 0 < engines.most < engines.count:
        text = f"engines.most = {engines.most}: expected 0, or at least engines.count = {engines.count}"
        yield ("engines.most", "engines.count"), text
