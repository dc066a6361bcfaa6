"""Options that several commands have, and their types."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A number in a range; neither infinity nor what is no number, which are in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """
        The number of a text.

        Args:
            value: As it was given.
            param: The option.
            ctx: Of the command.

        Raises:
            click.BadParameter: It is no number, or out of range.
        """
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
config_option = click.option("--config", "config_file", type=FILE, help="TOML file; see configs/ for examples.")
model_option = click.option("--model", help="Model name (see `streamer models list`) or path of a checkpoint.")


def _writable(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """A file for results, if it can be written: to be known before they are measured, which may take an hour."""
    if path is not None and path.is_dir():
        raise click.BadParameter(f"{path} is a folder: expected a file")
    if path is not None and not path.exists() and not os.access(path.parent, os.W_OK):
        raise click.BadParameter(f"{path.parent} is no folder that can be written to")
    return path


RESULTS: dict[str, Any] = {"type": click.Path(dir_okay=False, writable=True, path_type=Path), "callback": _writable}
"""Of an option that names a file for results."""
json_option = click.option("--json", "json_out", **RESULTS, help="Write the results to this file.")


def configured(command: Command) -> Command:
    """Add the options of every command with an engine: --config and --model."""
    return config_option(model_option(command))


def spoken(command: Command) -> Command:
    """Add the options of what is said: --language and --task."""
    task = click.option("--task", type=click.Choice(["transcribe", "translate"]), help="translate: to English.")
    return click.option("--language", help="Code, tag or name, as de, de-AT or German; auto: detect it.")(task(command))


def n_streams(_ctx: click.Context, _param: click.Parameter, text: str) -> int | None:
    """
    The value of an option that takes a number of streams.

    Args:
        _ctx: Of the command.
        _param: The option.
        text: As it was given.

    Returns:
        The number; None: auto.

    Raises:
        click.BadParameter: It is neither.
    """
    if text == "auto":
        return None
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise click.BadParameter(f"{text[:20]!r}: expected a number of streams from 1 to 9999, or auto")
    return int(text)
