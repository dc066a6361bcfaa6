"""What all tests of building share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    """Building sets the threads of the process: put them back."""
    n = torch.get_num_threads()
    yield
    torch.set_num_threads(n)
