"""Tests of streamer.config.texts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from streamer.config import load
from streamer.errors import ConfigError


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        *(("server.host", value, "a name or an address of this machine without a port, such as ")
          for value in (" ", "127.0.0.1:9000", "http://127.0.0.1", "[::1]", "unix:", "/run/streamer.sock")),
        *(("wyoming.host", value, "a name or an address of this machine without a port, such as ")
          for value in ("0.0.0.0:10300", "unix:/run/wyoming.sock")),
        *(("server.root_path", value, 'a path such as "/captions"')
          for value in ("https://example.org/captions", "/captions?x", "/my captions")),
        *(("engines.address", value, '"auto", HOST:PORT of a head of Ray') for value in ("ray://head:10001", "head")),
        *((key, "a\\u0000b", "text without NUL characters") for key in ("server.tls_key", "recording.folder")),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_meant_is_a_mistake(
    error_of: Callable[[str], str], key: str, value: str, allowed: str
) -> None:
    """Before it is used, as an address with its port, which no system listens on."""
    section, _, name = key.partition(".")
    where = '[engines]\nwhere = "ray"\n' if section == "engines" else f"[{section}]\n"
    assert f": expected {allowed}" in error_of(f'{where}{name} = "{value}"\n')


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("server.host", value) for value in ("localhost", "box.lan", "0.0.0.0", "::", "fe80::1%eth0", "unix:/a/b")),
        *(("server.root_path", value) for value in ("", "/captions", "captions/", "/a/b")),
        *(("engines.address", value) for value in ("", "auto", "10.0.0.1:6379")),
    ],
)
def test_addresses_and_paths_are_taken(key: str, value: str) -> None:
    """As they are."""
    section, _, name = key.partition(".")
    flags = {key: value, "engines.where": "ray"}
    assert getattr(getattr(load(None, {}, flags), section), name) == value


def test_a_variable_that_is_not_utf8_is_a_mistake() -> None:
    """It could not be shown."""
    with pytest.raises(ConfigError, match=r"session\.prompt = .*: expected text in UTF-8"):
        load(None, {"STREAMER_SESSION_PROMPT": os.fsdecode(b"\xff")}, {})


@pytest.mark.parametrize("origin", ["", "null", "localhost:3000", "//a.org", "https://*.a.org", "https://a.org b.org"])
def test_what_is_no_origin_of_a_page_is_a_mistake(error_of: Callable[[str], str], origin: str) -> None:
    """No browser would send it, so it would let nobody in, without a sign."""
    assert f'found "{origin}"' in error_of(f'[server]\nallowed_origins = ["{origin}"]\n')


@pytest.mark.parametrize("origin", ["*", "https://a.org", "HTTP://a.org:8080/", "tauri://localhost", "file://"])
def test_origins_of_pages_and_apps_are_taken(file: Path, origin: str) -> None:
    """With the slash that people copy from the address bar."""
    file.write_text(f'[server]\nallowed_origins = ["{origin}"]\n')
    assert load(file, {}, {}).server.allowed_origins == (origin,)
