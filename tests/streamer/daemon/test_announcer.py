"""Tests of streamer/daemon/announcer.py; `test_serve` has what is told, and when."""

from __future__ import annotations

import pytest

from streamer.daemon.announcer import for_browsers


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://0.0.0.0:80/", "http://127.0.0.1:80/ and http://box:80/"),
        ("https://[::]:80/", "https://127.0.0.1:80/ and https://box:80/"),
        ("http://[::1]:80/", "http://[::1]:80/"),
    ],
)
def test_the_address_is_one_that_a_browser_opens(url: str, shown: str) -> None:
    """Every network of the machine has no address of its own."""
    assert for_browsers(url, "box") == shown
