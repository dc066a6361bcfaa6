"""Tests of streamer/protocol/schema.py: one document for both sides, and its copies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamer.protocol.schema import schema_text

ROOT = Path(__file__).parent.parent.parent.parent
DEFINITIONS: dict[str, Any] = json.loads(schema_text())["$defs"]


def test_the_committed_copy_is_what_the_structs_give() -> None:
    """After a change of a struct: `python -m streamer.protocol.schema > docs/captions.v1.schema.json`."""
    assert (ROOT / "docs" / "captions.v1.schema.json").read_text(encoding="utf-8") == schema_text()


def test_the_documented_command_prints_it() -> None:
    """The command of the module's docstring writes the copy."""
    command = [sys.executable, "-m", "streamer.protocol.schema"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd=ROOT)

    assert printed.stdout == schema_text()


def test_every_message_is_found_by_its_type() -> None:
    """The two sides name their messages, and each definition is there."""
    mappings = {side: DEFINITIONS[side]["discriminator"]["mapping"] for side in ("ClientMessage", "ServerMessage")}

    assert list(mappings["ClientMessage"]) == ["end", "flush", "start", "update"]
    assert {"hello", "started", "caption", "turn_end", "bye", "error", "room"} <= mappings["ServerMessage"].keys()
    for reference in (reference for mapping in mappings.values() for reference in mapping.values()):
        assert reference.removeprefix("#/$defs/") in DEFINITIONS


@pytest.mark.parametrize(
    ("name", "is_closed"), [("Start", True), ("End", True), ("Started", False), ("Caption", False)]
)
def test_clients_must_not_add_fields_and_the_server_may(name: str, is_closed: bool) -> None:
    """The daemon refuses unknown fields; clients read over those of a newer daemon."""
    assert (DEFINITIONS[name].get("additionalProperties") is False) == is_closed


def test_bounds_are_those_of_the_structs() -> None:
    """A generated client refuses what the daemon would refuse."""
    endpoint = DEFINITIONS["Start"]["properties"]["endpoint_ms"]

    assert endpoint["anyOf"] == [{"type": "integer", "minimum": 100, "maximum": 5000}, {"type": "null"}]
