"""Tests of streamer.config.checks."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import load
from streamer.config.keys import KEYS
from streamer.errors import ConfigError


@pytest.mark.parametrize(
    ("variable", "text", "section", "key", "value"),
    [
        ("STREAMER_SESSION_PARTIALS", "false", "session", "partials", False),
        ("STREAMER_SERVER_IDLE_S", "2.5", "server", "idle_s", 2.5),
        ("STREAMER_SERVER_ALLOWED_ORIGINS", "https://a.org, https://b.org", "server", "allowed_origins",
         ("https://a.org", "https://b.org")),
        ("STREAMER_SERVER_ALLOWED_ORIGINS", "", "server", "allowed_origins", ()),
        ("STREAMER_SERVER_TRUSTED_PROXIES", "10.0.0.0/8, ::1,unix", "server", "trusted_proxies",
         ("10.0.0.0/8", "::1", "unix")),
        ("STREAMER_MODEL_NAME", "base", "model", "name", "base"),
        ("STREAMER_SESSION_LANGUAGES", "de-AT, English, deu", "session", "languages", ("de", "en")),
        ("STREAMER_SESSION_REVISE", "true", "session", "revise", True),
        ("STREAMER_SESSION_REVISE", "False", "session", "revise", False),
        ("STREAMER_SESSION_REVISE", "base", "session", "revise", "base"),
    ],
)  # fmt: skip
def test_environment_text_becomes_the_type_of_its_key(
    variable: str, text: str, section: str, key: str, value: object
) -> None:
    """Numbers, booleans and comma-separated lists are read from text."""
    config = msgspec.to_builtins(load(None, {variable: text}, {}))
    assert config[section][key] == value


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5))
def test_a_list_of_the_environment_may_be_json(terms: list[str]) -> None:
    """So that a text may hold a comma."""
    config = load(None, {"STREAMER_SESSION_KEYTERMS": f" {json.dumps(terms)}"}, {})
    assert config.session.keyterms == tuple(terms)


@pytest.mark.parametrize("text", ["[", '["a",]', "[1]", '[["a"]]', "[" * 5000])
def test_a_broken_list_of_the_environment_is_a_mistake(text: str) -> None:
    """What begins as JSON is not read as texts separated by commas."""
    with pytest.raises(ConfigError, match=r"server\.allowed_origins = .*: expected a list of text"):
        load(None, {"STREAMER_SERVER_ALLOWED_ORIGINS": text}, {})


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, keys in KEYS.items() for key in keys])
def test_a_variable_that_is_no_text_is_a_mistake(section: str, key: str) -> None:
    """Whatever the type of its key: the system lets variables hold any bytes."""
    with pytest.raises(ConfigError, match=rf"^{section}\.{key} = .* in environment variable .*: expected "):
        load(None, {f"STREAMER_{section}_{key}".upper(): os.fsdecode(b"\xff")}, {})


@pytest.mark.parametrize(("tag", "code"), [("german", "de"), ("de-AT", "de"), ("EN", "en"), ("auto", "auto")])
def test_a_language_becomes_its_code(file: Path, tag: str, code: str) -> None:
    """Read as on the wire."""
    file.write_text(f'[model]\nname = "base"\n[session]\nlanguage = "{tag}"\n')
    assert load(file, {}, {}).session.language == code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[session]\nlanguage = 'germn'", r'language = "germn" in cpu\.toml: expected auto .*mean de \(german\)\?'),
        ("[session]\nlanguage = ''", r'session\.language = "" in cpu\.toml: expected auto or one of en, zh'),
        ("[session]\nlanguage = 'de'", r'session\.language = "de": model\.name = "tiny\.en" knows English alone'),
        ("[session]\nlanguage = 'de'\n[model]\nname = 'distil-small.en'", r'many languages such as "small"$'),
        ("[session]\nlanguage = 'de'\n[model]\nname = '/models/mine.en'", r'many languages such as "base"$'),
        ("[model]\nname = 'bsae'", r'model\.name = "bsae" in cpu\.toml: never heard of bsae'),
        ("[revise]\nmodel = 'bsae'", r'revise\.model = "bsae" in cpu\.toml: never heard of bsae'),
        ("[session]\nlanguages = ['de', 'germn']", r'\["de", "germn"\] in .*: found "germn": .*mean de \(german\)\?'),
        ("[session]\nrevise = 3", r"session\.revise = 3 in cpu\.toml: expected true or false, or text"),
    ],
)  # fmt: skip
def test_a_language_or_model_that_does_not_exist_is_a_mistake(file: Path, text: str, message: str) -> None:
    """Before a client meets it."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {}, lambda name: f"never heard of {name}" if name == "bsae" else None)
    assert re.search(message, str(caught.value).replace(str(file), "cpu.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scheduler]\nstep_interval_ms = 0",
         "scheduler.step_interval_ms = 0 in cpu.toml: expected an integer from 10 to 10000 (milliseconds)"),
        ("[scheduler]\nstep_interval_ms = 1.5",
         "scheduler.step_interval_ms = 1.5 in cpu.toml: expected an integer from 10 to 10000 (milliseconds)"),
        ("[server]\nidle_s = nan",
         "server.idle_s = NaN in cpu.toml: expected a number from 1 to 86400 (seconds)"),
        ("[server]\nport = true", "server.port = true in cpu.toml: expected an integer from 0 to 65535"),
        ("[server]\nport = '8000'", 'server.port = "8000" in cpu.toml: expected an integer from 0 to 65535'),
        ("[server]\nallowed_origins = [1]",
         "server.allowed_origins = [1] in cpu.toml: expected a list of text"),
        ("[server]\ntrusted_proxies = ['10.0.0.0/8', 'proxy.lan', '10.0.0.0/33']",
         'server.trusted_proxies = ["10.0.0.0/8", "proxy.lan", "10.0.0.0/33"] in cpu.toml: expected addresses, '
         'networks such as "10.0.0.0/8", or "unix", found "proxy.lan"'),
        ("[server]\nallowed_origins = ['https://a.org', 'example.org']",
         'server.allowed_origins = ["https://a.org", "example.org"] in cpu.toml: expected origins such as '
         '"https://example.org", or "*" for every page, found "example.org"'),
        ("[session]\nwords = 1", "session.words = 1 in cpu.toml: expected true or false"),
        ("[model]\nname = ''", 'model.name = "" in cpu.toml: expected text that is not empty'),
        ("[capture]\nrate = -1",
         "capture.rate = -1 in cpu.toml: expected an integer from 0 to 384000 (hertz)"),
        ("[log]\nlevel = 'loud'",
         'log.level = "loud" in cpu.toml: expected one of "debug", "error", "info", "warning"'),
        ("server = 1", "server = 1 in cpu.toml: expected a section, [server]"),
        ("[scheduler]\nstep_interval_ms = 3000",
         "scheduler.max_step_interval_ms = 1000: expected at least "
         "scheduler.step_interval_ms = 3000 (milliseconds)"),
        ("[server]\ntls_key = 'key.pem'",
         "server.tls_certificate and server.tls_key belong together: set both or none"),
        ("[engines]\naddress = 'auto'", 'engines.address is set: expected engines.where = "ray", found "here"'),
        ("[engines]\nwhere = 'ray'\ncount = 3\nmost = 2",
         "engines.most = 2: expected 0, or at least engines.count = 3"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_an_error_that_says_what_is_allowed(
    error_of: Callable[[str], str], text: str, message: str
) -> None:
    """Key, value, origin, allowed values and unit are all in the message."""
    assert error_of(text) == message


@pytest.mark.parametrize("value", ["false", "99", "-1", '"0 ms"'])
def test_other_values_than_zero_are_in_the_range_of_an_optional_key(error_of: Callable[[str], str], value: str) -> None:
    """And the message says what 0 means."""
    expected = "an integer from 100 to 5000 (milliseconds), or 0 for none"
    assert expected in error_of(f"[session]\nendpoint_ms = {value}\n")


def test_several_gateways_need_engine_processes(error_of: Callable[[str], str]) -> None:
    """The message says what to change."""
    assert error_of("[server]\nprocesses = 2\n") == (
        'server.processes = 2: engines.where = "here" has one gateway in a daemon; '
        'expected engines.where = "processes", or server.processes = 1'
    )


def test_several_gateways_on_ray_are_several_daemons(error_of: Callable[[str], str]) -> None:
    """The message says why, and what to do instead."""
    assert error_of('[server]\nprocesses = 2\n\n[engines]\nwhere = "ray"\n') == (
        'server.processes = 2: engines.where = "ray" has one gateway in a daemon; each gateway has a connection to Ray '
        "of its own: expected server.processes = 1, and several daemons behind a balancer, which share the engines"
    )
