"""
What a client keeps so that a lost connection costs no word: audio not yet stable, and the story so far. Pure.

`Backlog` holds what was and will be sent, `Story` makes one account of the events of successive connections. Stream
time is the clock of both: seconds since the first sample that was ever sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from msgspec import UNSET

from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Skipped, TurnEnd, Word
from streamer.protocol.messages import AudioFormat, End, Flush, Resume
from streamer.protocol.options import Update

MAX_BLOCK_BYTES = 32768
"""Longer audio is split into messages of this size: a second of 16-bit samples at 16 kHz."""
END_TOLERANCE_S = 0.1
"""A resampler rounds; less than this is no audio that a daemon has missed."""
CONTEXT_CHARS = 200
"""Of the last words, for a daemon that does not know the session."""
_SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
_SILENCE = {"mulaw": b"\xff", "alaw": b"\xd5"}

Outgoing: TypeAlias = bytes | Update | Flush | End


@dataclass(frozen=True, slots=True)
class _Queued:
    """Something to send, `n` sample frames long, where `at` frames come before it."""

    at: int
    n: int
    message: Outgoing


class Backlog:
    """
    Audio and commands in the order in which they are to be sent, kept until they cannot be needed again.

    Bounded by `max_s` seconds of audio: what was sent gives way to what was not, and the sender waits
    while there is no room for more of that.

    Args:
        audio: Format of the bytes.
        max_s: Audio kept at most, seconds.

    Raises:
        ValueError: A container: it has no beginning in its middle.
    """

    def __init__(self, audio: AudioFormat, max_s: float) -> None:
        if audio.encoding not in _SAMPLE_BYTES:
            raise ValueError(f"encoding {audio.encoding}: expected raw samples; only those can be sent again in part")
        self._rate = audio.rate
        self._frame_bytes = _SAMPLE_BYTES[audio.encoding] * audio.channels
        self._silence = _SILENCE.get(audio.encoding, b"\0")
        self._max = int(max_s * audio.rate)
        self._items: deque[_Queued] = deque()
        self._next = 0
        """Index in `_items` of what is sent next."""
        self._start = self._end = 0
        """First frame held, and one past the last."""

    @property
    def start_s(self) -> float:
        """Where the audio that is still held begins."""
        return self._start / self._rate

    @property
    def end_s(self) -> float:
        """Audio taken so far."""
        return self._end / self._rate

    @property
    def has_room(self) -> bool:
        """Whether more audio may be put in."""
        sent_to = self._items[self._next].at if self.has_unsent else self._end
        return self._end - sent_to < self._max

    @property
    def has_unsent(self) -> bool:
        """Whether there is something to send."""
        return self._next < len(self._items)

    def put(self, message: Outgoing) -> None:
        """
        Add what is to be sent next.

        Raises:
            ValueError: Audio that is not whole frames (one sample of every channel).
        """
        if not isinstance(message, bytes):
            self._items.append(_Queued(self._end, 0, message))
            return
        if len(message) % self._frame_bytes:
            raise ValueError(f"{len(message)} bytes of audio: expected a multiple of {self._frame_bytes}")
        size = MAX_BLOCK_BYTES // self._frame_bytes * self._frame_bytes
        for at in range(0, len(message), size):
            block = message[at : at + size]
            self._items.append(_Queued(self._end, len(block) // self._frame_bytes, block))
            self._end += len(block) // self._frame_bytes
        while self._next and self._end - self._start > self._max:
            self._drop_first()

    def take(self) -> Outgoing | None:
        """The next message to send, None if all are sent. It is kept, for `rewind`."""
        if not self.has_unsent:
            return None
        self._next += 1
        return self._items[self._next - 1].message

    def rewind(self, to_s: float) -> Skipped | None:
        """
        Send again from a stream time on; silence stands for what is no longer held, so that times stay true.

        Returns:
            That stretch, None if there is none.
        """
        frame = min(round(to_s * self._rate), self._end)
        self._next = next((i for i, item in enumerate(self._items) if _reaches(item, frame)), len(self._items))
        if frame < self._start:
            self._fill(frame)
            return Skipped(start_s=to_s, end_s=self.start_s, reason="this audio was no longer kept by the client")
        if self.has_unsent and self._items[self._next].at < frame:
            self._split(self._next, frame)
            self._next += 1
        return None

    def repeat(self, message: Flush) -> None:
        """Send a command again before anything else, unless it is about to be sent anyway."""
        if all(item.message != message for item in list(self._items)[self._next :]):
            at = self._items[self._next].at if self.has_unsent else self._end
            self._items.insert(self._next, _Queued(at, 0, message))

    def forget(self, before_s: float) -> None:
        """Audio before a stream time is not needed again; only what was sent is let go."""
        frame = int(before_s * self._rate)
        while self._next and self._items[0].at + self._items[0].n <= frame and self._items[0].at < frame:
            self._drop_first()

    def _drop_first(self) -> None:
        item = self._items.popleft()
        self._next -= 1
        # silence that stood for lost audio lies before what is held
        self._start = max(self._start, item.at + item.n)

    def _split(self, index: int, frame: int) -> None:
        item = self._items[index]
        assert isinstance(item.message, bytes)
        n = frame - item.at
        self._items[index] = _Queued(item.at, n, item.message[: n * self._frame_bytes])
        self._items.insert(index + 1, _Queued(frame, item.n - n, item.message[n * self._frame_bytes :]))

    def _fill(self, frame: int) -> None:
        """Silence from a frame to the first that is held; it is not held itself."""
        missing = self._start - frame
        size = MAX_BLOCK_BYTES // self._frame_bytes
        for at in range(0, missing, size):
            n = min(size, missing - at)
            self._items.insert(at // size, _Queued(frame + at, n, self._silence * (n * self._frame_bytes)))
        self._next = 0


def _reaches(item: _Queued, frame: int) -> bool:
    """Whether any of an item lies at or after a frame; a command at that very frame may not have arrived."""
    return item.at + item.n > frame or item.at >= frame


class Story:
    """
    One account of one stream of audio, whatever sessions it took.

    Turns are numbered without gaps over all of them, and each ends once. What is said twice after a resume is dropped;
    a turn that was open when its session was lost ends with its stable text. `Revisions` numbers what is left to read.
    """

    def __init__(self) -> None:
        self.n_turns = 0
        """Turns ended."""
        self.stable_s = 0.0
        """Up to here all text is stable and here."""
        self._identity: tuple[str, str] | None = None
        self._first_turn = 0
        """Number, in the story, of the session's turn 0."""
        self._open: Caption | None = None
        self._language = ""
        self._context = ""
        self.flushes: list[int] = []
        """Those not answered yet."""

    def resume(self, held_from_s: float) -> Resume | None:
        """How to ask for the session to go on, if there was one; audio before `held_from_s` is no longer held."""
        if self._identity is None:
            return None
        session, token = self._identity
        stable_s = max(self.stable_s, held_from_s)
        return Resume(session=session, token=token, stable_s=stable_s, context=self._context_with(self._open))

    def begin(self, session: str, token: str) -> list[Event]:
        """A session has answered: the known one, or another one in its place."""
        is_new = self._identity is None or self._identity[0] != session
        self._identity = session, token
        if not is_new:
            return []
        events = self._cut_short()
        self._first_turn = self.n_turns
        return events

    def expect_flushed(self, flush_id: int) -> None:
        """A flush was asked for; it is answered once, however often it had to be sent."""
        self.flushes.append(flush_id)

    def tell(self, event: Event) -> list[Event]:
        """What an event of the present session means for the story: itself with other numbers, or nothing."""
        match event:
            case Caption():
                return self._caption(msgspec.structs.replace(event, turn=self._first_turn + event.turn))
            case TurnEnd():
                return self._turn_end(msgspec.structs.replace(event, turn=self._first_turn + event.turn))
            case Flushed(id=flush_id):
                return self._flushed(flush_id, event)
            case Bye():
                return [msgspec.structs.replace(event, turns=self.n_turns)]
            case Ack(stable_s=stable_s):
                self.stable_s = max(self.stable_s, stable_s)
        return [event]

    def _caption(self, caption: Caption) -> list[Event]:
        last = self._open
        if caption.turn < self.n_turns:
            return []
        if last is not None and (last.stable, last.partial) == (caption.stable, caption.partial):
            return []
        self._open = caption
        stable = [word for word in _words(caption) if word.stable]
        self.stable_s = max(self.stable_s, *(word.end_s for word in stable[-1:]), 0.0)
        return [self._open]

    def _turn_end(self, turn: TurnEnd) -> list[Event]:
        if turn.turn < self.n_turns:
            return []
        self.n_turns, self._open, self._language = turn.turn + 1, None, turn.language
        self.stable_s = max(self.stable_s, turn.end_s)
        self._context = self._context_with(turn)
        return [turn]

    def _flushed(self, flush_id: int, event: Event) -> list[Event]:
        if flush_id not in self.flushes:
            return []
        self.flushes.remove(flush_id)
        return [event]

    def _context_with(self, turn: Caption | TurnEnd | None) -> str:
        text = turn.text if isinstance(turn, TurnEnd) else turn.stable if turn is not None else ""
        return f"{self._context} {text}".strip()[-CONTEXT_CHARS:]

    def _cut_short(self) -> list[Event]:
        """End the open turn where its stable text ends: the new session goes on from there."""
        if self._open is None or not self._open.stable:
            return []  # what was only partial is said again under the same number
        stable = tuple(word for word in _words(self._open) if word.stable)
        return self._turn_end(
            TurnEnd(
                turn=self._open.turn,
                text=self._open.stable,
                start_s=self._open.start_s,
                end_s=min(max(self.stable_s, self._open.start_s), self._open.end_s),
                language=self._language,
                reason="limit",
                words=stable if self._open.words is not UNSET else UNSET,
            )
        )


class Revisions:
    """Numbers the captions of each turn as they are read: some were replaced before."""

    def __init__(self) -> None:
        self._turn, self._rev = -1, 0

    def number(self, event: Event) -> Event:
        """The event; a caption with its number in its turn, from 1."""
        if not isinstance(event, Caption):
            return event
        self._rev = self._rev + 1 if event.turn == self._turn else 1
        self._turn = event.turn
        return msgspec.structs.replace(event, rev=self._rev)


def _words(caption: Caption) -> tuple[Word, ...]:
    return caption.words if caption.words is not UNSET else ()
