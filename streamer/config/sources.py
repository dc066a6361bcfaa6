"""
The sources of the configuration: TOML file, environment, command line. Each gives settings and mistakes.

An unknown key is a mistake, because a misspelt key that is ignored is noticed only in production.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from streamer.config.keys import ENVIRONMENT_PREFIX, KEYS
from streamer.config.spelling import unknown_key, unknown_variable
from streamer.config.toml import shown
from streamer.errors import reason_of

CLIENT_VARIABLES = ("STREAMER_KEY",)
"""Variables of clients, which may run beside the daemon in one environment."""
SERVICE_LINK = re.compile(r"(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""Names after the prefix that Kubernetes and Docker set for services called streamer or streamer-…."""
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")
"""Value of such a variable that ends in `PORT`, as one of the configuration may."""


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


def settings_of_file(path: Path) -> Iterator[Setting | Mistake]:
    """What a TOML file says; a file that cannot be read is one mistake."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a mark
    except OSError as error:
        yield Mistake(f"cannot read {path}: {reason_of(error)}")
    except UnicodeDecodeError as error:
        found = f"the byte {error.object[error.start]:#04x} at offset {error.start}"
        yield Mistake(f"{path} is not a TOML file: expected text in UTF-8, found {found}")
    except tomllib.TOMLDecodeError as error:
        yield Mistake(f"{path} is not a TOML file: {error}")
    except RecursionError:
        yield Mistake(f"{path} is not a configuration: brackets nested too deep, expected flat values")
    except ValueError:  # of Python, which converts no longer ones
        yield Mistake(f"{path} is not a configuration: an integer of thousands of digits")
    else:
        yield from _settings_of_tables(tables, f"in {path}")


def _settings_of_tables(tables: Mapping[str, object], origin: str) -> Iterator[Setting | Mistake]:
    for section, table in tables.items():
        if section not in KEYS:
            yield Mistake(unknown_key(section, origin))
        elif not isinstance(table, dict):
            yield Mistake(f"{section} = {shown(table)} {origin}: expected a section, [{section}]")
        else:
            for key, value in table.items():
                yield _setting(section, key, value, origin)


def settings_of_environment(environment: Mapping[str, str]) -> Iterator[Setting | Mistake]:
    """What the variables `STREAMER_SECTION_KEY` say, by name; those of clients and container platforms say nothing."""
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or _is_foreign(variable, text):
            continue
        section, _, key = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("_")
        if section in KEYS and key:
            yield _setting(section, key, text, f"in environment variable {variable}", is_text=True)
        else:
            yield Mistake(unknown_variable(variable))


def _is_foreign(variable: str, text: str) -> bool:
    """Whether a variable with the daemon's prefix is a client's or that of a container platform."""
    name = variable.removeprefix(ENVIRONMENT_PREFIX)
    if variable in CLIENT_VARIABLES or SERVICE_LINK.fullmatch(name):
        return True
    return name.endswith("PORT") and SERVICE_ADDRESS.fullmatch(text) is not None


def settings_of_flags(flags: Mapping[str, object]) -> Iterator[Setting | Mistake]:
    """What the flags of the command line say, by dotted key of a known section; None: the flag was not given."""
    for dotted, value in flags.items():
        if value is not None:
            section, _, key = dotted.partition(".")
            yield _setting(section, key, value, "on the command line")


def _setting(section: str, key: str, value: object, origin: str, *, is_text: bool = False) -> Setting | Mistake:
    if key not in KEYS[section]:
        return Mistake(unknown_key(f"{section}.{key}", origin))
    return Setting(section, key, value, origin, is_text)
