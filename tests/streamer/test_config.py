"""Tests of streamer.config."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamer.config
from streamer.config import KEYS, Config, LimitsConfig, ServerConfig, load, to_toml
from streamer.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.toml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cpu.toml"


def error_of(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    return str(caught.value).replace(str(file), "cpu.toml")


def test_nothing_given_is_the_defaults() -> None:
    """No file, no environment, no flag: the defaults."""
    assert load(None, {}, {"server.port": None}) == Config()


def test_flags_win_over_environment_over_file(file: Path) -> None:
    """Each layer overrides the one before, key by key."""
    file.write_text("[server]\nport = 1\nhost = 'file'\nidle_s = 5\n")
    environment = {"STREAMER_SERVER_PORT": "2", "STREAMER_SERVER_HOST": "environment"}
    config = load(file, environment, {"server.port": 3})
    assert config.server == ServerConfig(port=3, host="environment", idle_s=5.0)


@pytest.mark.parametrize(
    ("variable", "text", "section", "key", "value"),
    [
        ("STREAMER_SESSION_PARTIALS", "false", "session", "partials", False),
        ("STREAMER_SERVER_IDLE_S", "2.5", "server", "idle_s", 2.5),
        ("STREAMER_SERVER_ALLOWED_ORIGINS", "https://a.org, https://b.org", "server", "allowed_origins",
         ("https://a.org", "https://b.org")),
        ("STREAMER_SERVER_ALLOWED_ORIGINS", "", "server", "allowed_origins", ()),
        ("STREAMER_MODEL_NAME", "base", "model", "name", "base"),
    ],
)  # fmt: skip
def test_environment_text_becomes_the_type_of_its_key(
    variable: str, text: str, section: str, key: str, value: object
) -> None:
    """Numbers, booleans and comma-separated lists are read from text."""
    config = msgspec.to_builtins(load(None, {variable: text}, {}))
    assert config[section][key] == value


def test_foreign_environment_variables_are_left_alone() -> None:
    """A container platform's STREAMER_PORT=tcp://… for a service called streamer is not ours."""
    foreign = {
        "STREAMER_PORT": "tcp://10.0.0.1:80",
        "STREAMER_SERVICE_HOST": "10.0.0.1",
        "STREAMER_SERVICE_PORT_HTTP": "80",
        "STREAMER_PORT_80_TCP_ADDR": "10.0.0.1",
        "STREAMER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "STREAMER_SERVER_SERVICE_HOST": "10.0.0.1",
        "STREAMER_SERVER_PORT": "tcp://10.0.0.1:80",
        "STREAMER_KEY": "a client's",
        "OTHER_SEVER_PORT": "1",
    }
    assert load(None, foreign, {}) == Config()


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("STREAMER_SEVER_PORT", "STREAMER_SERVER_PORT"),
        ("STREAMER_PORT", "STREAMER_SERVER_PORT"),
        ("STREAMER_LANGUAGE", "STREAMER_SESSION_LANGUAGE"),
        ("STREAMER_SERVER", "STREAMER_SERVER_"),
        ("STREAMER_ZZZZZZZZZZZZZZZZZZZZZZZZ", "see: streamer config show"),
    ],
)
def test_a_variable_of_no_section_names_the_nearest(variable: str, nearest: str) -> None:
    """A misspelt or missing section is not taken for a foreign variable."""
    with pytest.raises(ConfigError, match=f"unknown environment variable {variable}, .*{nearest}"):
        load(None, {variable: "1"}, {})


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5))
def test_a_list_of_the_environment_may_be_json(terms: list[str]) -> None:
    """So that a text may hold a comma."""
    config = load(None, {"STREAMER_SERVER_ALLOWED_ORIGINS": f" {json.dumps(terms)}"}, {})
    assert config.server.allowed_origins == tuple(terms)


@pytest.mark.parametrize("text", ["[", '["a",]', "[1]", '[["a"]]', "[" * 5000])
def test_a_broken_list_of_the_environment_is_a_mistake(text: str) -> None:
    """What begins as JSON is not read as texts separated by commas."""
    with pytest.raises(ConfigError, match=r"server\.allowed_origins = .*: expected a list of text"):
        load(None, {"STREAMER_SERVER_ALLOWED_ORIGINS": text}, {})


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
        ("[model]\nname = 'bsae'", r'model\.name = "bsae" in cpu\.toml: never heard of bsae'),
    ],
)  # fmt: skip
def test_a_language_or_model_that_does_not_exist_is_a_mistake(file: Path, text: str, message: str) -> None:
    """Before a client meets it."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {}, lambda name: f"never heard of {name}" if name == "bsae" else None)
    assert re.search(message, str(caught.value).replace(str(file), "cpu.toml"))


def test_all_mistakes_are_told_at_once(file: Path) -> None:
    """Of every source, a line each, in their order; a wrong value causes no second complaint."""
    file.write_text(
        "colour = 1\n[server]\nprot = 1\nport = 'x'\n[session]\nlanguage = 'klingon'\n"
        "[scheduler]\nstep_interval_ms = 3000\nmax_step_interval_ms = 'x'\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {"STREAMER_SEVER_PORT": "1", "STREAMER_LOG_LEVEL": "loud"}, {"server.port": 70000})
    names = [re.split(r"[ ,]", line.removeprefix("unknown "))[:2] for line in str(caught.value).splitlines()]
    assert [" ".join(name) for name in names] == [
        "key colour", "key server.prot", "environment variable", "server.port =", "session.language =",
        "scheduler.max_step_interval_ms =", "log.level =", "server.port =",
    ]  # fmt: skip


def test_contradictions_are_told_beside_other_mistakes(file: Path) -> None:
    """As long as their own keys are right."""
    file.write_text("[scheduler]\nstep_interval_ms = 3000\n[session]\nlanguage = 'de'\n[server]\nprot = 1\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert len(str(caught.value).splitlines()) == 3


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
    ],
)  # fmt: skip
def test_a_wrong_value_is_an_error_that_says_what_is_allowed(file: Path, text: str, message: str) -> None:
    """Key, value, origin, allowed values and unit are all in the message."""
    assert error_of(file, text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1", "unknown key server.prot in cpu.toml: did you mean server.port?"),
        ("[sever]\nport = 1", "unknown key sever in cpu.toml: did you mean [server]?"),
        ("port = 1", "unknown key port in cpu.toml: did you mean server.port?"),
        ("[model]\nport = 1", "unknown key model.port in cpu.toml: did you mean server.port?"),
        ("[qqqqqq]\nzzzzzz = 1", "unknown key qqqqqq in cpu.toml: see: streamer config show"),
    ],
)
def test_an_unknown_key_names_the_nearest(file: Path, text: str, message: str) -> None:
    """A misspelt, misplaced or homeless key is an error with a suggestion."""
    assert error_of(file, text) == message


def test_unknown_and_wrong_keys_of_the_environment_name_the_variable() -> None:
    """A variable of a known section is held to the same rules as the file."""
    with pytest.raises(ConfigError, match=r"unknown key server\.prot in environment variable STREAMER_SERVER_PROT"):
        load(None, {"STREAMER_SERVER_PROT": "1"}, {})
    with pytest.raises(ConfigError, match=r'server\.port = "x" in environment variable STREAMER_SERVER_PORT'):
        load(None, {"STREAMER_SERVER_PORT": "x"}, {})


def test_a_wrong_flag_names_the_command_line() -> None:
    """A flag out of range is told from a key out of range."""
    with pytest.raises(ConfigError, match=r"server\.port = 70000 on the command line: expected an integer"):
        load(None, {}, {"server.port": 70000})


def test_unreadable_files_are_errors(file: Path) -> None:
    """A missing file, bad TOML and bytes that are not text each say which file."""
    with pytest.raises(ConfigError, match=r"cannot read .*cpu\.toml: no such file or directory"):
        load(file, {}, {})
    assert error_of(file, "[server").startswith("cpu.toml is not a TOML file: ")
    assert error_of(file, "keys = " + "[" * 5000).startswith(
        "cpu.toml is not a configuration: brackets nested too deep"
    )
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"cpu\.toml is not a TOML file"):
        load(file, {}, {})


def test_what_is_shown_reads_back_equal(file: Path) -> None:
    """`to_toml` writes every key, and `load` gives the same configuration again."""
    flags = {
        "session.prompt": 'Grüße, "Ω" 🎙\n\t\\',
        "server.allowed_origins": ["https://a.org"],
        "session.words": False,
    }
    config = load(None, {}, flags)
    file.write_text(to_toml(config), encoding="utf-8")
    assert load(file, {}, {}) == config
    keys = [line.partition(" = ")[0] for line in to_toml(config).splitlines() if " = " in line]
    assert keys == [key for keys in KEYS.values() for key in keys]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_load_and_explain_every_key(path: Path) -> None:
    """Each file in configs/ is valid, and each key has a comment, with the unit where there is one."""
    load(path, {}, {})
    for line in path.read_text().splitlines():
        if match := re.match(r"(\w+) = ", line):
            key, (_, _, comment) = match[1], line.partition(" # ")
            units = {"_ms": "milliseconds", "_s": "seconds", "_bytes": "bytes", "rate": "hertz"}
            unit = next((unit for suffix, unit in units.items() if key.endswith(suffix)), "")
            assert comment, f"{line}: no comment"
            assert unit in comment, f"{line}: no unit"


def test_the_four_uses_are_shipped() -> None:
    """One file per use."""
    assert [path.stem for path in CONFIGS] == ["cpu-server", "edge-gpu", "gpu-server", "microphone"]


def test_every_key_is_documented() -> None:
    """Each field of each section is followed by a string that explains it."""
    for node in ast.parse(inspect.getsource(streamer.config)).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config") and node.name != "Config":
            fields = node.body[1:]
            for field, text in zip(fields[::2], fields[1::2], strict=True):
                assert isinstance(field, ast.AnnAssign)
                assert isinstance(text, ast.Expr), f"{node.name}: {ast.unparse(field)} has no docstring"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_unit_waits_longer_than_the_drain(path: Path) -> None:
    """systemd must not kill a daemon that is still finishing its sessions."""
    unit = (REPOSITORY / "systemd" / "streamer.service").read_text()
    match = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert match
    assert load(path, {}, {}).server.drain_s < int(match[1])


def test_limits_are_explained() -> None:
    """Every limit stands in the operator's table with its default."""
    table = (REPOSITORY / "docs" / "operations.md").read_text()
    for field in msgspec.structs.fields(LimitsConfig):
        assert f"| `limits.{field.name}` | {field.default} " in table.replace(": no own bound", " ")
