"""A daemon's surroundings for its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.config import Config, ServerConfig
from streamer.protocol.options import SessionOptions
from tests.helpers.ports import reserved_port
from tests.helpers.scripted_engine import ScriptedService
from tests.helpers.served_daemon import Manager


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """The one that the environment names."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture
def scripted() -> ScriptedService:
    """What the daemon builds here."""
    return ScriptedService()


@pytest.fixture
def config() -> Iterator[Config]:
    """A free port."""
    with reserved_port() as port:
        yield Config(server=ServerConfig(port=port, drain_s=5), session=SessionOptions(language="en"))
