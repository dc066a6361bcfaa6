"""What all connections of one caller share in a process: messages, decoding of recordings, and memory."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from streamer.access.decoding_budget import DecodingBudget
from streamer.access.token_buckets import Bucket

MESSAGES_PER_S = 4000.0
"""Of a caller, where no configuration says how many."""
MESSAGE_BURST_S = 10.0
"""Messages that a caller may send at once, in seconds of its rate."""
MESSAGE_BYTES = 8192.0
"""Bytes that count as a message: a fifth of a second of 16-bit samples, and 17 us of the event loop, also where nobody
hears them any more."""
BYTES_BURST_S = 2.0
"""Bytes that a caller may send at once, in seconds of their rate: 64 MB."""
_KEY = "allowance"
"""Of the scope of a request."""


class Allowance:
    """
    Of one caller.

    Args:
        messages_per_s: Of all its WebSockets.
    """

    def __init__(self, messages_per_s: float = MESSAGES_PER_S) -> None:
        self.messages = Bucket(messages_per_s, MESSAGE_BURST_S * messages_per_s)
        bytes_per_s = MESSAGE_BYTES * messages_per_s
        self.received = Bucket(bytes_per_s, BYTES_BURST_S * bytes_per_s)
        """Of bytes."""
        self.decoding = DecodingBudget()
        self.n_ahead = 0
        """Bytes of messages that were read ahead and wait."""


def note(scope: MutableMapping[str, Any], allowance: Allowance) -> None:
    """Let whatever serves a request find the allowance of its caller."""
    scope[_KEY] = allowance


def allowance_of(scope: MutableMapping[str, Any]) -> Allowance:
    """Return the allowance of a request's caller; one of its own where none was noted."""
    allowance = scope.setdefault(_KEY, Allowance())
    assert isinstance(allowance, Allowance)
    return allowance
