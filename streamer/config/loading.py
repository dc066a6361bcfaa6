"""
Reads the configuration from its sources and checks it.

Later sources win: defaults, TOML file, `STREAMER_SECTION_KEY` variables, flags. Each value is checked on its own: a
mistake is told with the key, the source of the value, the value found and the values allowed. All mistakes are told at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from streamer.config.checks import checked, contradictions
from streamer.config.sections import Config
from streamer.config.sources import Mistake, Setting, settings_of_environment, settings_of_file, settings_of_flags
from streamer.errors import ConfigError


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
        *(settings_of_file(path) if path else ()),
        *settings_of_environment(environment),
        *settings_of_flags(flags),
    ]
    mistakes = [mistake.text for mistake in found if isinstance(mistake, Mistake)]
    sections: dict[str, dict[str, object]] = {}
    wrong: set[str] = set()
    for setting in found:
        if isinstance(setting, Setting):
            try:
                sections.setdefault(setting.section, {})[setting.key] = checked(setting, problem_of_model)
            except ConfigError as error:
                mistakes.append(str(error))
                wrong.add(setting.dotted)
    try:
        config = msgspec.convert(sections, Config)
    except msgspec.ValidationError as error:  # each value is allowed by itself, but not with the others
        problem, _, place = str(error).partition(" - at `$.")
        raise _all_of([*mistakes, f"{place.rstrip('`')}: {problem}"]) from None
    mistakes += [text for keys, text in contradictions(config) if wrong.isdisjoint(keys)]
    if mistakes:
        raise _all_of(mistakes)
    return config


def _all_of(mistakes: list[str]) -> ConfigError:
    return ConfigError("\n".join(dict.fromkeys(mistakes)))
