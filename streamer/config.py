"""
The configuration: one frozen section per component, read from a file, the environment and the command line.

Later sources win: defaults, TOML file, `STREAMER_SECTION_KEY` variables, flags. Each value is checked on its own: a
mistake is told with the key, the source of the value, the value found and the values allowed. An unknown key is a
mistake too, because a misspelt key that is ignored is noticed only in production. All mistakes are told at once.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, inspect

from streamer.errors import ConfigError
from streamer.protocol.options import SessionOptions
from streamer.text.languages import LANGUAGES, expected_language, known_language

ENVIRONMENT_PREFIX = "STREAMER_"
CLIENT_VARIABLES = ("STREAMER_KEY",)
"""Variables of clients, which may run beside the daemon in one environment."""
SERVICE_LINK = re.compile(r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""Names after the prefix that Kubernetes and Docker set for services called streamer or streamer-…."""
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")
"""Value of such a variable that ends in `PORT`, as one of the configuration may."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


class ModelConfig(Section, frozen=True, kw_only=True):
    """The weights and the device they run on."""

    name: Annotated[str, Meta(min_length=1)] = "tiny.en"
    """Model name (`streamer models list`) or the path of a checkpoint."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic; `auto` takes the fastest that the device computes natively."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` is the GPU if there is one."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """CPU threads, each a worker that steps its own sessions; 0: one per physical core. A GPU has one worker."""


class ServerConfig(Section, frozen=True, kw_only=True):
    """The WebSocket and HTTP server."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is every network of the machine."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    """TCP port; 0: any free one."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may connect, besides the daemon's own; `*` is every page."""
    keys_file: str = ""
    """File of API keys, `NAME KEY` a line; empty: systemd's credential `api-keys` if there is one, else no keys."""
    allow_without_keys: bool = False
    """Serve networks beyond this machine without API keys: every client that reaches the port may use the daemon."""
    token_s: Annotated[int, Meta(ge=10, le=86400)] = 300
    """Seconds that a token of `POST /v1/tokens` lets a page connect; open connections outlast it."""
    tls_certificate: str = ""
    """PEM file of the certificate and its chain; empty: plain HTTP, for this machine or a proxy that speaks TLS."""
    tls_key: str = ""
    """PEM file of its private key."""
    max_frame_bytes: Annotated[int, Meta(ge=1024, le=16777216)] = 1048576
    """Longest WebSocket message, in bytes."""
    idle_s: Annotated[float, Meta(ge=1, le=86400)] = 60.0
    """Seconds without a message after which a connection is closed."""
    max_backlog_s: Annotated[float, Meta(ge=1, le=600)] = 30.0
    """Seconds of audio a session may be ahead of its transcription before reading from it pauses."""
    resume_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """Seconds a session is kept for a client that lost its connection."""
    rooms: bool = False
    """Let a live session show its captions to an audience (`/v1/captions?room=NAME`, `/watch/NAME`)."""
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    """Seconds that open sessions get to finish when the daemon stops."""


class WyomingConfig(Section, frozen=True, kw_only=True):
    """The Wyoming protocol for Home Assistant, over TCP: it knows neither keys nor encryption."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is every network of the machine, where anybody may use it."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port, by convention 10300; 0: off."""


class LimitsConfig(Section, frozen=True, kw_only=True):
    """Bounds of what clients may use; docs/operations.md has the reason of each default."""

    max_connections: Annotated[int, Meta(ge=1, le=1048576)] = 1024
    """WebSockets open at once, those without a session included; one more gets HTTP 503."""
    handshakes_per_s: Annotated[float, Meta(ge=0.1, le=100000)] = 50.0
    """New WebSockets and uploads of one caller (key, else address) each second; more get HTTP 429."""
    requests_per_s: Annotated[float, Meta(ge=0.1, le=100000)] = 100.0
    """Other requests of one caller each second, with a burst of five times as many; more wait, then get HTTP 429."""
    messages_per_s: Annotated[float, Meta(ge=1, le=100000)] = 100.0
    """WebSocket messages of one connection each second, with a burst of ten times as many; more are read later."""
    max_viewers: Annotated[int, Meta(ge=0, le=1048576)] = 1000
    """Viewers of all rooms together, the microphone's among them; more are refused."""
    max_sessions_per_key: Annotated[int, Meta(ge=0, le=65536)] = 0
    """Sessions of one API key at once; 0: as many as there are."""
    max_connection_s: Annotated[float, Meta(ge=1, le=31536000)] = 86400.0
    """Seconds after which a connection is asked to come back and resume, as at a restart."""
    send_timeout_s: Annotated[float, Meta(ge=0.1, le=600)] = 20.0
    """Seconds in which a client takes a message; after that its connection is lost."""
    request_timeout_s: Annotated[float, Meta(ge=0.1, le=600)] = 10.0
    """Seconds in which a connection sends its request, the next one, or what is left of a refused one."""
    max_unread_events: Annotated[int, Meta(ge=64, le=1048576)] = 4096
    """Events that may wait for a slow client, replaced captions not counted; with one more its session ends."""
    max_upload_bytes: Annotated[int, Meta(ge=1024, le=17179869184)] = 268435456
    """Largest audio file taken over HTTP, in bytes; as much of the temporary folder is used."""
    max_recording_s: Annotated[float, Meta(ge=1, le=604800)] = 14400.0
    """Longest audio of such a file, in seconds: a small file can hold days of silence."""


class SchedulerConfig(Section, frozen=True, kw_only=True):
    """Step intervals, windows, and the number of sessions."""

    step_interval_ms: Annotated[int, Meta(ge=10, le=10000)] = 300
    """New audio after which a session is decoded again, in milliseconds, while there is capacity."""
    max_step_interval_ms: Annotated[int, Meta(ge=10, le=10000)] = 1000
    """The step interval under full load, in milliseconds; beyond it new sessions are refused."""
    max_sessions: Annotated[int, Meta(ge=0, le=65536)] = 0
    """Sessions at once; 0: as many as measurements at the start, when idle, and of the steps of sessions say."""
    kv_reuse: Literal["exact", "committed"] = "committed"
    """After an encoder pass, read all committed words again, or only those of the last one and a half seconds."""
    max_window_s: Annotated[float, Meta(ge=8, le=18)] = 15.0
    """Longest stretch of audio decoded at once, in seconds; then it is cut to its last six (docs/experiments.md)."""


class CaptureConfig(Section, frozen=True, kw_only=True):
    """The microphone."""

    device: str = ""
    """Number or part of the name of an input device (`streamer doctor`); empty: the default one."""
    rate: Annotated[int, Meta(ge=0, le=384000)] = 0
    """Capture rate in hertz; 0: the device's own."""


class RecordingConfig(Section, frozen=True, kw_only=True):
    """Recordings of sessions on disk, for replay: audio, text and every decision."""

    folder: str = ""
    """Folder for the recordings of all sessions; empty: none is recorded."""
    max_session_mb: Annotated[int, Meta(ge=1, le=1000000)] = 500
    """Size at which the recording of a session stops, in megabytes; an hour of audio is 230."""
    max_folder_mb: Annotated[int, Meta(ge=1, le=100000000)] = 5000
    """Size of the folder from which on no recording begins, in megabytes."""


class LogConfig(Section, frozen=True, kw_only=True):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe events that are written; transcripts appear at `debug` only."""
    format: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` on a terminal and `json` elsewhere, with priorities under systemd."""
    spans: bool = False
    """Send a span of each step by OpenTelemetry (extra `otel`), to where `OTEL_EXPORTER_OTLP_ENDPOINT` says."""


class Config(Section, frozen=True, kw_only=True):
    """Everything that can be set, by section."""

    model: ModelConfig = ModelConfig()
    server: ServerConfig = ServerConfig()
    wyoming: WyomingConfig = WyomingConfig()
    limits: LimitsConfig = LimitsConfig()
    session: SessionOptions = SessionOptions()
    scheduler: SchedulerConfig = SchedulerConfig()
    capture: CaptureConfig = CaptureConfig()
    recording: RecordingConfig = RecordingConfig()
    log: LogConfig = LogConfig()


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


class Setting(NamedTuple):
    """One value of a source, before it is checked."""

    section: str
    key: str
    value: object
    origin: str
    """The source, for messages: `in configs/cpu.toml`."""
    is_text: bool
    """Whether the value is text that is converted to the type of its key, as in the environment."""

    @property
    def dotted(self) -> str:
        """Section and key: `server.port`."""
        return f"{self.section}.{self.key}"


class Mistake(NamedTuple):
    """Something in a source that is no setting, in words."""

    text: str


def no_problem(_: str) -> None:
    """Accept every model name."""


def load(
    path: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, object],
    problem_of_model: Callable[[str], str | None] = no_problem,
) -> Config:
    """
    Read the configuration.

    Args:
        path: TOML file, or None.
        environment: `os.environ`; variables that container platforms set for a service named streamer are ignored.
        flags: Values by dotted key (`server.port`); None: the flag was not given.
        problem_of_model: Says what is wrong with a configured model name, None if nothing is.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, a value is of the wrong type or out of range, values do
            not fit together; the message has a line for each mistake.
    """
    found = [
        *(_settings_of_file(path) if path else ()),
        *_settings_of_environment(environment),
        *_settings_of_flags(flags),
    ]
    mistakes = [mistake.text for mistake in found if isinstance(mistake, Mistake)]
    sections: dict[str, dict[str, object]] = {}
    wrong: set[str] = set()
    for setting in found:
        if isinstance(setting, Setting):
            try:
                sections.setdefault(setting.section, {})[setting.key] = _checked(setting, problem_of_model)
            except ConfigError as error:
                mistakes.append(str(error))
                wrong.add(setting.dotted)
    try:
        config = msgspec.convert(sections, Config)
    except msgspec.ValidationError as error:  # each value is allowed by itself, but not with the others
        problem, _, place = str(error).partition(" - at `$.")
        raise _all_of([*mistakes, f"{place.rstrip('`')}: {problem}"]) from None
    mistakes += [text for keys, text in _contradictions(config) if wrong.isdisjoint(keys)]
    if mistakes:
        raise _all_of(mistakes)
    return config


def _all_of(mistakes: list[str]) -> ConfigError:
    return ConfigError("\n".join(dict.fromkeys(mistakes)))


def to_toml(config: Config) -> str:
    """The configuration as a TOML file that `load` reads back to an equal one."""
    sections = msgspec.to_builtins(config)
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {toml_value(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )


def toml_value(value: object) -> str:
    """A value of the configuration as TOML."""
    # text, numbers, booleans and lists of text are written alike in JSON and TOML
    return json.dumps(value, ensure_ascii=False)


def _settings_of_file(path: Path) -> Iterator[Setting | Mistake]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        yield Mistake(f"cannot read {path}: {(error.strerror or str(error)).lower()}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        yield Mistake(f"{path} is not a TOML file: {error}")
    except RecursionError:
        yield Mistake(f"{path} is not a configuration: brackets nested too deep, expected flat values")
    else:
        yield from _settings_of_tables(tables, f"in {path}")


def _settings_of_tables(tables: Mapping[str, object], origin: str) -> Iterator[Setting | Mistake]:
    for section, table in tables.items():
        if section not in KEYS:
            yield _unknown_key(section, origin)
        elif not isinstance(table, dict):
            yield Mistake(f"{section} = {_shown(table)} {origin}: expected a section, [{section}]")
        else:
            for key, value in table.items():
                yield _setting(section, key, value, origin)


def _settings_of_environment(environment: Mapping[str, str]) -> Iterator[Setting | Mistake]:
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or _is_foreign(variable, text):
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if section in KEYS and key:
            yield _setting(section, key, text, f"in environment variable {variable}", is_text=True)
        else:
            yield _unknown_variable(variable)


def _is_foreign(variable: str, text: str) -> bool:
    """Whether a variable with the daemon's prefix is a client's or that of a container platform."""
    name = variable.removeprefix(ENVIRONMENT_PREFIX)
    if variable in CLIENT_VARIABLES or SERVICE_LINK.fullmatch(name):
        return True
    return name.endswith("PORT") and SERVICE_ADDRESS.fullmatch(text) is not None


def _settings_of_flags(flags: Mapping[str, object]) -> Iterator[Setting | Mistake]:
    for dotted, value in flags.items():
        if value is not None:
            section, _, key = dotted.partition(".")
            yield _setting(section, key, value, "on the command line")


def _setting(section: str, key: str, value: object, origin: str, *, is_text: bool = False) -> Setting | Mistake:
    if key not in KEYS[section]:
        return _unknown_key(f"{section}.{key}", origin)
    return Setting(section, key, value, origin, is_text)


def _checked(setting: Setting, problem_of_model: Callable[[str], str | None]) -> object:
    """The value in the type of its key; a language becomes its code."""
    annotation, type_ = KEYS[setting.section][setting.key]
    is_list = setting.is_text and isinstance(type_, inspect.VarTupleType)
    value = _listed(str(setting.value)) if is_list else setting.value
    found = f"{setting.dotted} = {_shown(value)} {setting.origin}"
    try:
        checked = msgspec.convert(value, annotation, strict=not setting.is_text)
    except msgspec.ValidationError:
        raise ConfigError(f"{found}: expected {expectation(setting.section, setting.key)}") from None
    if setting.dotted == "model.name" and (problem := problem_of_model(str(checked))):
        raise ConfigError(f"{found}: {problem}")
    if setting.dotted == "session.language":
        code = known_language(str(checked), LANGUAGES)
        if code is None:
            raise ConfigError(f"{found}: {expected_language(str(checked), LANGUAGES)}")
        return code
    return checked


def _listed(text: str) -> object:
    """A list in a variable: JSON, or texts separated by commas. What begins as JSON and is none stays text."""
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _unknown_key(dotted: str, origin: str) -> Mistake:
    key = dotted.rpartition(".")[2]
    # keys without their section: it may be missing or wrong
    known = {name: f"{section}.{name}" for section, names in reversed(KEYS.items()) for name in names}
    known |= {f"{section}.{name}": f"{section}.{name}" for section, names in KEYS.items() for name in names}
    if key == dotted:
        known |= {section: f"[{section}]" for section in KEYS}
    nearest = [key] if key in known else difflib.get_close_matches(dotted, known, n=1)
    remedy = f"did you mean {known[nearest[0]]}?" if nearest else "see: streamer config show"
    return Mistake(f"unknown key {dotted} {origin}: {remedy}")


def _unknown_variable(variable: str) -> Mistake:
    known = [f"{ENVIRONMENT_PREFIX}{section}_{key}".upper() for section, keys in KEYS.items() for key in keys]
    ending = [name for name in known if name.endswith(variable.removeprefix(ENVIRONMENT_PREFIX[:-1]))]
    nearest = ending or difflib.get_close_matches(variable, known, n=1)
    remedy = f"did you mean {nearest[0]}?" if nearest else "see: streamer config show"
    return Mistake(f"unknown environment variable {variable}, expected {ENVIRONMENT_PREFIX}SECTION_KEY: {remedy}")


def expectation(section: str, key: str) -> str:
    """The values that a key allows, in words, with the unit: `an integer from 0 to 65535`."""
    return _expectation(KEYS[section][key].type) + _unit(key)


def _expectation(type_: inspect.Type) -> str:
    """The values a type allows, in words."""
    match type_:
        case inspect.LiteralType(values):
            return "one of " + ", ".join(_shown(value) for value in values)
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
    units = {"_ms": "milliseconds", "_s": "seconds", "_bytes": "bytes", "_mb": "megabytes", "rate": "hertz"}
    return next((f" ({unit})" for suffix, unit in units.items() if key.endswith(suffix)), "")


def _contradictions(config: Config) -> Iterator[tuple[tuple[str, str], str]]:
    """Pairs of keys whose values are allowed by themselves, but not together; and that in words."""
    scheduler, language, model = config.scheduler, config.session.language, config.model.name
    if scheduler.max_step_interval_ms < scheduler.step_interval_ms:
        text = (
            f"scheduler.max_step_interval_ms = {scheduler.max_step_interval_ms}: expected at least "
            f"scheduler.step_interval_ms = {scheduler.step_interval_ms} (milliseconds)"
        )
        yield ("scheduler.max_step_interval_ms", "scheduler.step_interval_ms"), text
    if language not in ("auto", "en") and model.endswith(".en"):
        text = (
            f'session.language = "{language}": model.name = "{model}" knows English alone; '
            f'expected "en" or "auto", or a model of many languages such as "{model.removesuffix(".en")}"'
        )
        yield ("session.language", "model.name"), text
