"""That every test runs: pytest passes over some folders by their name."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def test_no_folder_with_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    """Its tests would never fail."""
    names = {name for path in TESTS.rglob("test_*.py") for name in path.relative_to(TESTS).parts[:-1]}
    patterns = pytestconfig.getini("norecursedirs")

    assert "streamer" in names
    assert [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)] == []
