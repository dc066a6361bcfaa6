"""
What a client sends to one session: samples and commands, bounded and in order, until the worker takes them.

Samples wait for room while the backlog is full, which slows the sender down; none is dropped. Commands cannot wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from streamer.audio.pcm import SAMPLE_RATE
from streamer.errors import OverloadError
from streamer.protocol.events import Event
from streamer.session.session import Session

MAX_BLOCKS = 4096
"""Items that wait, however short the blocks of samples: from this number on samples wait for room."""
MAX_COMMANDS = 256
"""Updates and flushes that wait: no client has a use for so many within one backlog."""


@dataclass(frozen=True, slots=True)
class Command:
    """A call to the session that is due once all samples fed before it were taken."""

    apply: Callable[[Session], list[Event]]


class Inbox:
    """
    A bounded queue of samples and commands, on the event loop only.

    Args:
        max_backlog_s: Audio at which `wait_for_room` begins to wait, seconds.
    """

    def __init__(self, max_backlog_s: float) -> None:
        self._max_samples = int(max_backlog_s * SAMPLE_RATE)
        self._items: deque[Tensor | Command] = deque()
        self._n_samples = self._n_commands = 0
        self._room = asyncio.Event()
        self._room.set()
        self.is_closed = False
        """Whether the client's side takes nothing more."""

    def __bool__(self) -> bool:
        return bool(self._items)

    @property
    def backlog_s(self) -> float:
        """Audio that waits, seconds."""
        return self._n_samples / SAMPLE_RATE

    # --- the client's side

    async def wait_for_room(self) -> None:
        """Wait until samples may be put or the inbox is closed; cancelling is safe."""
        await self._room.wait()

    def put_samples(self, samples: Tensor) -> None:
        """Add samples, (n,) float32 at 16 kHz; the caller has waited for room."""
        self._items.append(samples)
        self._n_samples += samples.shape[0]
        self._update_room()

    def put_command(self, apply: Callable[[Session], list[Event]]) -> None:
        """
        Add a call to the session behind everything that waits.

        Raises:
            OverloadError: `MAX_COMMANDS` commands wait already.
        """
        if self._n_commands >= MAX_COMMANDS:
            raise OverloadError(f"{MAX_COMMANDS} updates and flushes wait: send fewer", retry_after_s=1.0)
        self._items.append(Command(apply))
        self._n_commands += 1
        self._update_room()

    def close(self) -> None:
        """Take nothing more from the client, and release whoever waits for room; what waits can still be taken."""
        self.is_closed = True
        self._room.set()

    def clear(self) -> None:
        """Close, and drop what waits."""
        self._items.clear()
        self._n_samples = self._n_commands = 0
        self.close()

    def drop_samples(self) -> int:
        """Drop the samples that wait, but no command. Returns their number."""
        n_samples = self._n_samples
        self._items = deque(item for item in self._items if isinstance(item, Command))
        self._n_samples = 0
        self._update_room()
        return n_samples

    # --- the worker's side

    def take_samples(self, most: int) -> Tensor:
        """Up to `most` samples from the front, (n,) float32; they end at a command, and n may be 0."""
        blocks, n = [], 0
        while n < most and self._items and isinstance(block := self._items[0], Tensor):
            self._items.popleft()
            if n + block.shape[0] > most:
                self._items.appendleft(block[most - n :])
                block = block[: most - n]
            blocks.append(block)
            n += block.shape[0]
        self._n_samples -= n
        self._update_room()
        return torch.cat(blocks) if blocks else torch.empty(0)

    def take_commands(self) -> list[Command]:
        """Commands whose samples have all been taken."""
        commands = []
        while self._items and isinstance(command := self._items[0], Command):
            self._items.popleft()
            commands.append(command)
        self._n_commands -= len(commands)
        self._update_room()
        return commands

    def check_integrity(self) -> None:
        """
        Compare the counters with what waits.

        Raises:
            AssertionError: A counter is wrong, or a sender waits although there is room.
        """
        n_samples = sum(item.shape[0] for item in self._items if isinstance(item, Tensor))
        n_commands = sum(isinstance(item, Command) for item in self._items)
        if (self._n_samples, self._n_commands) != (n_samples, n_commands):
            counted = f"{self._n_samples} samples and {self._n_commands} commands"
            raise AssertionError(f"inbox counts {counted}, but holds {n_samples} and {n_commands}")
        if self._room.is_set() != (self.is_closed or self._has_room):
            raise AssertionError(f"inbox with {n_samples} samples in {len(self._items)} items: room is told wrongly")

    @property
    def _has_room(self) -> bool:
        return self._n_samples < self._max_samples and len(self._items) < MAX_BLOCKS

    def _update_room(self) -> None:
        if self.is_closed or self._has_room:
            self._room.set()
        else:
            self._room.clear()
