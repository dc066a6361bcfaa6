"""Messages about keys and variables that do not exist, each with the nearest that does."""

from __future__ import annotations

import difflib
import re

from streamer.config.keys import ENVIRONMENT_PREFIX, KEYS
from streamer.config.toml import shown


def unknown_key(dotted: str, origin: str) -> str:
    """What is wrong with a key that does not exist; `dotted` is `section.key`, or a section or key alone."""
    key = dotted.rpartition(".")[2]
    # keys without their section: it may be missing or wrong
    known = {name: f"{section}.{name}" for section, names in reversed(KEYS.items()) for name in names}
    known |= {f"{section}.{name}": f"{section}.{name}" for section, names in KEYS.items() for name in names}
    if key == dotted:
        known |= {section: f"[{section}]" for section in KEYS}
    nearest = [key] if key in known else difflib.get_close_matches(dotted, known, n=1)
    remedy = f"did you mean {known[nearest[0]]}?" if nearest else "see: streamer config show"
    name = dotted if re.fullmatch(r"[\w.-]{1,100}", dotted) else shown(dotted)
    return f"unknown key {name} {origin}: {remedy}"


def unknown_variable(variable: str) -> str:
    """What is wrong with a variable that has the prefix and names no key."""
    known = [f"{ENVIRONMENT_PREFIX}{section}_{key}".upper() for section, keys in KEYS.items() for key in keys]
    ending = [name for name in known if name.endswith(variable.removeprefix(ENVIRONMENT_PREFIX[:-1]))]
    nearest = ending or difflib.get_close_matches(variable, known, n=1)
    remedy = f"did you mean {nearest[0]}?" if nearest else "see: streamer config show"
    return f"unknown environment variable {variable}, expected {ENVIRONMENT_PREFIX}SECTION_KEY: {remedy}"
