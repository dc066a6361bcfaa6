"""Tests of streamer.config.sections."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import msgspec

from streamer.config import LimitsConfig, sections

REPOSITORY = Path(__file__).parents[3]


def test_every_key_is_documented() -> None:
    """Each field of each section is followed by a string that explains it."""
    for node in ast.parse(inspect.getsource(sections)).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config") and node.name != "Config":
            fields = node.body[1:]
            for field, text in zip(fields[::2], fields[1::2], strict=True):
                assert isinstance(field, ast.AnnAssign)
                assert isinstance(text, ast.Expr), f"{node.name}: {ast.unparse(field)} has no docstring"


def test_limits_are_explained() -> None:
    """Every limit stands in the operator's table with its default."""
    table = (REPOSITORY / "docs" / "operations.md").read_text()
    for field in msgspec.structs.fields(LimitsConfig):
        assert f"| `limits.{field.name}` | {field.default} " in table.replace(": no own bound", " ")
