"""One daemon for the scenarios that leave it running."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.helpers.daemon_process import DaemonProcess, daemon_process
from tests.helpers.ports import reserved_port


@pytest.fixture(scope="session")
def wyoming_port() -> Iterator[int]:
    """Where the daemon speaks Wyoming."""
    with reserved_port() as port:
        yield port


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def daemon(tmp_path_factory: pytest.TempPathFactory, wyoming_port: int) -> AsyncIterator[DaemonProcess]:
    """Ready, with tiny.en."""
    folder = tmp_path_factory.mktemp("daemon")
    async with daemon_process(folder, STREAMER_WYOMING_PORT=str(wyoming_port)) as running:
        yield running
