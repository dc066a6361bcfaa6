"""Tests of streamer/access/exposure.py: a daemon that is open to the network without keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.access.exposure import check_exposure, is_loopback
from streamer.access.keys import Keys
from streamer.config import ServerConfig
from streamer.errors import ConfigError

WIDE = ["0.0.0.0", "::", "192.168.1.2", "box.example"]


@pytest.mark.parametrize("address", WIDE)
def test_an_open_address_without_keys_is_refused_unless_allowed(tmp_path: Path, address: str) -> None:
    """The message names both remedies."""
    (tmp_path / "keys").write_text("kitchen kitchen-0123456789abcdef\n")
    with pytest.raises(ConfigError, match=r"server\.keys_file, or server\.allow_without_keys"):
        check_exposure([address], ServerConfig(), Keys())

    check_exposure([address], ServerConfig(), Keys(tmp_path / "keys"))
    check_exposure([address], ServerConfig(allow_without_keys=True), Keys())
    assert not is_loopback(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "/run/streamer.sock", "unix:streamer.sock"]
)
def test_an_address_of_this_machine_alone_needs_no_keys(address: str) -> None:
    """Nobody else reaches it."""
    check_exposure([address], ServerConfig(), Keys())

    assert is_loopback(address)
