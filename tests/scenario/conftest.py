"""One daemon for the scenarios that leave it running."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.helpers.daemon_process import DaemonProcess, daemon_process


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DaemonProcess]:
    """Ready, with tiny.en."""
    async with daemon_process(tmp_path_factory.mktemp("daemon")) as running:
        yield running
