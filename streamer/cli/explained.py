"""`streamer config show`: the configuration as TOML, each key with the explanation from its docstring."""

from __future__ import annotations

import ast
import inspect
import textwrap

import msgspec

from streamer.config import Config, expectation, toml_value

COMMENT_WIDTH = 118
"""Characters of a comment line after `# `."""


def explained(config: Config) -> str:
    """The configuration as a TOML file that `load` reads back to an equal one, with a comment before each key."""
    defaults = Config()
    return "\n".join(
        _section(name, getattr(config, name), getattr(defaults, name)) for name in Config.__struct_fields__
    )


def _section(name: str, section: msgspec.Struct, defaults: msgspec.Struct) -> str:
    texts = explanations(type(section))
    lines = [*_comment(inspect.getdoc(type(section)) or ""), f"[{name}]"]
    for key in section.__struct_fields__:
        default = toml_value(getattr(defaults, key))
        lines += [*_comment(texts[key]), *_comment(f"Allowed: {expectation(name, key)}. Default: {default}.")]
        lines.append(f"{key} = {toml_value(getattr(section, key))}")
    return "\n".join(lines) + "\n"


def explanations(section: type[msgspec.Struct]) -> dict[str, str]:
    """The docstring of each field of a section, on one line: the string after it in the source."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            texts[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value)).replace("\n", " ")
    return texts


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, COMMENT_WIDTH, break_long_words=False)]
