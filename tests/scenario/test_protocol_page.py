"""docs/protocol.md is true: its examples decode with the real structs, its tables name every field and error code."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from streamer.errors import ProtocolError
from streamer.protocol.errors import ERROR_CODES
from streamer.protocol.events import Bye, Word
from streamer.protocol.messages import (
    AudioFormat,
    ClientMessage,
    Hello,
    Limits,
    PastTurn,
    Resume,
    Start,
    encode,
)
from streamer.protocol.options import SessionOptions
from streamer.protocol.schema import AnyServerMessage
from streamer.protocol.state_machine import CaptionsProtocol, State, decode_client
from streamer.server.captions_routes import Token
from streamer.server.status_routes import Info
from tests.helpers.daemon_process import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
CLIENT: dict[str, type[msgspec.Struct]] = {
    kind.__struct_config__.tag: kind for kind in ClientMessage.__args__ if isinstance(kind.__struct_config__.tag, str)
}
SERVER: dict[str, type[msgspec.Struct]] = {kind.__struct_config__.tag: kind for kind in AnyServerMessage.__args__}
PARTS: dict[str, type[msgspec.Struct]] = {
    "audio": AudioFormat,
    "resume": Resume,
    "turns": PastTurn,
    "limits": Limits,
    "words": Word,
}
"""Objects inside messages, by the heading under which the page describes them."""
HTTP_ANSWERS: dict[str, type[msgspec.Struct]] = {"token": Token, "version": Info}
"""JSON that is no message, by its first field."""

EXAMPLES = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)]
SECTIONS = dict(re.findall(r"^####? `(\w+)`\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
ROW = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \|(.*)\|$", re.MULTILINE)
CONVERSATION = [line.partition(": ") for line in PAGE.splitlines() if line.startswith(("C: ", "S: "))]


def rows(section: str) -> dict[str, str]:
    """The rest of each table row of a section, by the name in its first column."""
    return {name: rest for names, rest in ROW.findall(SECTIONS[section]) for name in re.findall(r"\w+", names)}


def holds(found: Any, expected: Any) -> bool:
    """Whether a decoded value still has everything that the JSON had: nothing was ignored as unknown."""
    if isinstance(expected, dict):
        return all(name in found and holds(found[name], value) for name, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(holds, found, expected))
    return bool(found == expected)


def decoded(example: dict[str, Any], kind: Any) -> Any:
    """A value of a struct, all of whose JSON the struct knows."""
    value = msgspec.convert(example, kind)
    assert holds(msgspec.to_builtins(value), example), example
    return value


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.get("type", next(iter(example))))
def test_every_example_is_a_message(example: dict[str, Any]) -> None:
    """The daemon takes those of a client; those of the server have no field that the structs do not know."""
    type_ = example.get("type")
    if type_ in CLIENT:
        assert isinstance(decode_client(json.dumps(example)), CLIENT[type_])
    elif type_ is not None:
        assert isinstance(decoded(example, AnyServerMessage), SERVER[type_])
    else:
        decoded(example, HTTP_ANSWERS[next(iter(example))])


def test_every_message_has_an_example() -> None:
    """Of both sides."""
    assert {example["type"] for example in EXAMPLES if "type" in example} == CLIENT.keys() | SERVER.keys()


@pytest.mark.parametrize(("name", "kind"), [*CLIENT.items(), *SERVER.items(), *PARTS.items()])
def test_tables_name_exactly_the_fields(name: str, kind: type[msgspec.Struct]) -> None:
    """Each field of a struct has a row in its section, and there are no others."""
    assert rows(name).keys() == set(kind.__struct_fields__)


@pytest.mark.parametrize("kind", [Start, AudioFormat, Resume, PastTurn, *CLIENT.values()])
def test_tables_give_defaults_and_bounds(kind: type[msgspec.Struct]) -> None:
    """What a client may leave out, and how much it may ask for."""
    section = next(name for name, found in (CLIENT | PARTS).items() if found is kind)
    table = rows(section)
    schema = msgspec.json.schema(kind)["$defs"][kind.__name__]
    defaults = msgspec.to_builtins(SessionOptions()) if kind is Start else {}
    for name, field in schema["properties"].items():
        if name == "type":
            continue
        for bound in re.findall(r"'(?:minimum|maximum|maxLength|maxItems)': (\d+)", str(field)):
            assert bound in table[name], (name, bound)
        if name in schema["required"]:
            assert "required" in table[name]
        default = defaults.get(name, field.get("default", ...))
        if not isinstance(default, dict) and default is not ...:
            shown = json.dumps(default)
            assert f"| `{shown}` |" in table[name] or f"| {shown} |" in table[name], (name, shown)


def test_every_choice_is_named() -> None:
    """Encodings, delays, tasks and the like."""
    choices = re.findall(r'"enum":(\[.*?\])', msgspec.json.encode(msgspec.json.schema(ClientMessage)).decode())
    choices += re.findall(r'"enum":(\[.*?\])', msgspec.json.encode(msgspec.json.schema(AnyServerMessage)).decode())

    assert [word for choice in choices for word in json.loads(choice) if f"`{word}`" not in PAGE] == []


def test_every_error_code_is_explained_with_its_close_code() -> None:
    """The table of the page is the table of the code."""
    section = PAGE.partition("\n## Errors and close codes")[2].partition("\n## ")[0]
    table = {code: int(close) for code, close in re.findall(r"^\| `(\w+)` \| (\d{4}) \|", section, re.MULTILINE)}

    assert table == {code: close for code, (close, _) in ERROR_CODES.items()}


def test_the_conversation_is_legal() -> None:
    """The state machine takes the client's side from `start` to `end`; the server's side goes from `hello` to `bye`."""
    protocol = CaptionsProtocol(("en",), 1 << 20)
    told: list[Any] = []
    for side, _, text in CONVERSATION:
        if text.startswith("(binary"):
            assert protocol.receive(bytes(3200))
        elif side == "C":
            protocol.receive(text)
        else:
            told.append(decoded(json.loads(text), AnyServerMessage))
            assert json.loads(encode(told[-1])) == json.loads(text)

    assert protocol.state is State.ENDING
    assert isinstance(told[0], Hello)
    assert isinstance(told[-1], Bye)


def test_links_inside_the_page_lead_somewhere() -> None:
    """Each `#name` is a heading."""
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}

    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors


def test_a_wrong_example_would_be_found() -> None:
    """The checks above can fail: a misspelt field of either side is noticed."""
    with pytest.raises(ProtocolError):
        decode_client('{"type": "flush", "number": 1}')
    with pytest.raises(AssertionError):
        decoded({"type": "draining", "deadline_s": 1.0, "deadline": 1.0}, AnyServerMessage)
