"""
State that a client keeps to resume after a lost connection: unstable audio, and the numbers of turns.

`Backlog` holds audio and commands to send, `EventMerger` merges the events of successive sessions into one transcript.
Both count stream time: seconds since the first sample that was ever sent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from msgspec import UNSET

from streamer.protocol.bounds import MAX_PAST_TURNS
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Skipped, TurnEnd, TurnRevised, words_of
from streamer.protocol.messages import SAMPLE_BYTES, AudioFormat, End, Flush, PastTurn, Resume
from streamer.protocol.options import MAX_TEXT_CHARS, Update

MAX_BLOCK_BYTES = 32768
"""Longer audio is split into messages of this size: one second of 16-bit samples at 16 kHz."""
MIN_AHEAD_S = 5.0
"""Audio that may always be on its way, in seconds: the daemon tells only from time to time what it has taken."""
END_TOLERANCE_S = 0.1
"""A difference below this is rounding of the resampler, not audio that the daemon has missed."""
CONTEXT_CHARS = 200
"""Length of the context sent for a daemon that does not know the session."""
MAX_REVISED = 256
"""Revised turns that are remembered; a daemon repeats at most 64 of them after a resume."""
_SILENCE = {"mulaw": b"\xff", "alaw": b"\xd5"}

Outgoing: TypeAlias = bytes | Update | Flush | End


@dataclass(frozen=True, slots=True)
class _Queued:
    """A message to send: `n` sample frames long (0 for a command), after the first `at` frames of the stream."""

    at: int
    n: int
    message: Outgoing


class Backlog:
    """
    Queue of audio and commands in sending order, kept until no resume can need them again.

    At most `max_s` seconds of sent audio are kept beside what is unsent: new audio pushes out the oldest. While that
    much is unsent, or half of it is sent and the daemon has not taken it, there is no room (`has_room`): pushed out is
    only what the daemon has.

    Args:
        audio: Format of the bytes.
        max_s: Seconds of sent audio kept at most, and of unsent audio.

    Raises:
        ValueError: The encoding is a container, which cannot be sent again in part.
    """

    def __init__(self, audio: AudioFormat, max_s: float) -> None:
        if audio.encoding not in SAMPLE_BYTES:
            raise ValueError(
                f"encoding {audio.encoding}: expected raw samples, since a container cannot be sent again in part; "
                "use pcm_s16le, pcm_f32le, mulaw or alaw"
            )
        self._rate = audio.rate
        self._frame_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels
        self._silence = _SILENCE.get(audio.encoding, b"\0")
        self._max = int(max_s * audio.rate)
        self._most_ahead = int(max(max_s / 2, MIN_AHEAD_S) * audio.rate)
        self._most_sent = max(self._max, self._most_ahead)
        self._items: deque[_Queued] = deque()
        self._next = 0
        """Index in `_items` of the next item to send."""
        self._start = self._end = 0
        """First sample frame held, and one past the last."""
        self._received = 0
        """First sample frame that the daemon has not taken."""

    @property
    def start_s(self) -> float:
        """Stream time of the first audio still held, in seconds."""
        return self._start / self._rate

    @property
    def end_s(self) -> float:
        """Seconds of audio put in so far."""
        return self._end / self._rate

    @property
    def has_room(self) -> bool:
        """Whether more audio may be put in."""
        return self._end - self._sent_to < self._max and self._sent_to - self._received < self._most_ahead

    @property
    def has_unsent(self) -> bool:
        """Whether an item is still to be sent."""
        return self._next < len(self._items)

    def put(self, message: Outgoing) -> None:
        """
        Append a message.

        Raises:
            ValueError: The audio is not whole sample frames (one sample of every channel).
        """
        if not isinstance(message, bytes):
            self._items.append(_Queued(self._end, 0, message))
            return
        if len(message) % self._frame_bytes:
            raise ValueError(
                f"{len(message)} bytes of audio: expected a multiple of {self._frame_bytes}, whole sample frames"
            )
        size = MAX_BLOCK_BYTES // self._frame_bytes * self._frame_bytes
        for at in range(0, len(message), size):
            block = message[at : at + size]
            self._items.append(_Queued(self._end, len(block) // self._frame_bytes, block))
            self._end += len(block) // self._frame_bytes
        while self._next and self._sent_to - self._start > self._most_sent:
            self._drop_first()

    def take(self) -> Outgoing | None:
        """Return the next message to send, None if all are sent. The message is kept for `rewind`."""
        if not self.has_unsent:
            return None
        self._next += 1
        return self._items[self._next - 1].message

    def rewind(self, to_s: float) -> Skipped | None:
        """
        Go back to a stream time, in seconds, and send from there. Silence replaces audio that is no longer held.

        Returns:
            The interval that silence replaces, None if all audio is held.
        """
        frame = self._received = min(round(to_s * self._rate), self._end)
        self._next = next((i for i, item in enumerate(self._items) if _reaches(item, frame)), len(self._items))
        if frame < self._start:
            self._fill(frame)
            return Skipped(start_s=to_s, end_s=self.start_s, reason="this audio was no longer kept by the client")
        if self.has_unsent and self._items[self._next].at < frame:
            self._split(self._next, frame)
            self._next += 1
        return None

    def repeat(self, message: Flush) -> None:
        """Insert a command before all unsent items, unless it is among them."""
        if all(item.message != message for item in list(self._items)[self._next :]):
            at = self._items[self._next].at if self.has_unsent else self._end
            self._items.insert(self._next, _Queued(at, 0, message))

    def note_received(self, received_s: float) -> None:
        """Note up to where the daemon has taken audio, stream time in seconds."""
        self._received = round(received_s * self._rate)

    def forget(self, before_s: float) -> None:
        """Drop sent items that lie before a stream time, in seconds."""
        frame = int(before_s * self._rate)
        while self._next and self._items[0].at + self._items[0].n <= frame and self._items[0].at < frame:
            self._drop_first()

    @property
    def _sent_to(self) -> int:
        """First sample frame that was not sent."""
        return self._items[self._next].at if self.has_unsent else self._end

    def _drop_first(self) -> None:
        item = self._items.popleft()
        self._next -= 1
        # silence that replaced lost audio lies before `_start`: it is not held
        self._start = max(self._start, item.at + item.n)

    def _split(self, index: int, frame: int) -> None:
        item = self._items[index]
        assert isinstance(item.message, bytes)
        n = frame - item.at
        self._items[index] = _Queued(item.at, n, item.message[: n * self._frame_bytes])
        self._items.insert(index + 1, _Queued(frame, item.n - n, item.message[n * self._frame_bytes :]))

    def _fill(self, frame: int) -> None:
        """Insert silence from a sample frame up to the first one held; the silence itself does not count as held."""
        missing = self._start - frame
        size = MAX_BLOCK_BYTES // self._frame_bytes
        for at in range(0, missing, size):
            n = min(size, missing - at)
            self._items.insert(at // size, _Queued(frame + at, n, self._silence * (n * self._frame_bytes)))
        self._next = 0


def _reaches(item: _Queued, frame: int) -> bool:
    """Whether an item ends after a frame; a command exactly at the frame counts, since it may not have arrived."""
    return item.at + item.n > frame or item.at >= frame


class EventMerger:
    """
    Merges the events of successive sessions on one stream of audio.

    Turns are numbered without gaps over all sessions, and each ends once. Repetitions after a resume are dropped. A
    turn that was open when its session was lost ends with its stable text. `RevisionCounter` numbers the captions.

    Args:
        keeps_turns: Tell a daemon that does not know the session what was said, for the viewers of its room.
    """

    def __init__(self, *, keeps_turns: bool = False) -> None:
        self.n_turns = 0
        """Number of turns that have ended."""
        self.stable_s = 0.0
        """Stream time, in seconds, up to which this client has stable text."""
        self._identity: tuple[str, str] | None = None
        self._first_turn = 0
        """Merged number of turn 0 of the present session."""
        self._open: Caption | None = None
        self._language = ""
        self._context = ""
        self._turns: deque[PastTurn] = deque(maxlen=MAX_PAST_TURNS if keeps_turns else 0)
        self._revised: dict[int, str] = {}
        """Text of the newest `MAX_REVISED` revised turns by their number."""
        self.flushes: list[int] = []
        """Ids of flushes that are not answered yet."""

    def resume(self, held_from_s: float, max_bytes: int = 0) -> Resume | None:
        """
        Return the `resume` field of `start`, None before the first session.

        Args:
            held_from_s: Stream time from which on audio is held, seconds.
            max_bytes: Most bytes of past turns; the oldest are left out.
        """
        if self._identity is None:
            return None
        session, token = self._identity
        return Resume(
            session=session,
            token=token,
            stable_s=max(self.stable_s, held_from_s),
            context=self._context_with(self._open),
            turns=self._past_turns(max_bytes),
            first_turn=self._first_turn,
        )

    def begin(self, session: str, token: str) -> list[Event]:
        """Note the session of a `started` message. Returns events that end the open turn where the session is new."""
        is_new = self._identity is None or self._identity[0] != session
        self._identity = session, token
        if not is_new:
            return []
        closed = self._closed_turn()
        events: list[Event] = self._turn_end(closed) if closed is not None else []
        self._first_turn = self.n_turns
        return events

    def expect_flushed(self, flush_id: int) -> None:
        """Note a flush that the client sends: `merge` passes one answer on, even if the flush is sent again."""
        self.flushes.append(flush_id)

    def merge(self, event: Event) -> list[Event]:
        """Return an event of the present session with merged numbers; empty if it is a repetition."""
        match event:
            case Caption():
                return self._caption(msgspec.structs.replace(event, turn=self._first_turn + event.turn))
            case TurnEnd():
                return self._turn_end(msgspec.structs.replace(event, turn=self._first_turn + event.turn))
            case TurnRevised():
                return self._turn_revised(msgspec.structs.replace(event, turn=self._first_turn + event.turn))
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
        stable = [word for word in words_of(caption) if word.stable]
        self.stable_s = max(self.stable_s, *(word.end_s for word in stable[-1:]), 0.0)
        return [self._open]

    def _turn_end(self, turn: TurnEnd) -> list[Event]:
        if turn.turn < self.n_turns:
            return []
        self.n_turns, self._open, self._language = turn.turn + 1, None, turn.language
        self.stable_s = max(self.stable_s, turn.end_s)
        self._context = self._context_with(turn)
        self._turns.append(_past(turn))
        return [turn]

    def _turn_revised(self, revision: TurnRevised) -> list[Event]:
        if self._revised.get(revision.turn) == revision.text:
            return []
        self._revised[revision.turn] = revision.text
        while len(self._revised) > MAX_REVISED:
            del self._revised[next(iter(self._revised))]
        for i, past in enumerate(self._turns):
            if past.turn == revision.turn:
                self._turns[i] = msgspec.structs.replace(past, text=revision.text[:MAX_TEXT_CHARS])
        return [revision]

    def _flushed(self, flush_id: int, event: Event) -> list[Event]:
        if flush_id not in self.flushes:
            return []
        self.flushes.remove(flush_id)
        return [event]

    def _context_with(self, turn: Caption | TurnEnd | None) -> str:
        text = turn.text if isinstance(turn, TurnEnd) else turn.stable if turn is not None else ""
        return f"{self._context} {text}".strip()[-CONTEXT_CHARS:]

    def _closed_turn(self) -> TurnEnd | None:
        """The open turn ended with its stable text: a new session continues from there. None: there is none."""
        if self._open is None or not self._open.stable:
            return None  # a new session transcribes partial text again, under the same number
        stable = tuple(word for word in words_of(self._open) if word.stable)
        return TurnEnd(
            turn=self._open.turn,
            text=self._open.stable,
            start_s=self._open.start_s,
            end_s=min(max(self.stable_s, self._open.start_s), self._open.end_s),
            language=self._language,
            reason="limit",
            words=stable if self._open.words is not UNSET else UNSET,
        )

    def _past_turns(self, max_bytes: int) -> tuple[PastTurn, ...]:
        """What was said, with the stable words of the open turn; the newest turns that fit."""
        closed = self._closed_turn()
        turns = [*self._turns, *([_past(closed, is_open=True)] if closed is not None and self._turns.maxlen else ())]
        n_left = max_bytes
        for n, turn in enumerate(reversed(turns)):
            n_left -= len(msgspec.json.encode(turn)) + 1
            if n_left < 0 or n == MAX_PAST_TURNS:
                return tuple(turns[len(turns) - n :])
        return tuple(turns)


def _past(turn: TurnEnd, *, is_open: bool = False) -> PastTurn:
    return PastTurn(
        turn=turn.turn,
        text=turn.text[:MAX_TEXT_CHARS],
        start_s=turn.start_s,
        end_s=turn.end_s,
        language=turn.language,
        open=is_open,
    )


class RevisionCounter:
    """Counts the captions of each turn as they are read, since some were replaced before."""

    def __init__(self) -> None:
        self._turn, self._rev = -1, 0

    def number(self, event: Event) -> Event:
        """Return the event; a caption gets its number in its turn as `rev`, from 1."""
        if not isinstance(event, Caption):
            return event
        self._rev = self._rev + 1 if event.turn == self._turn else 1
        self._turn = event.turn
        return msgspec.structs.replace(event, rev=self._rev)
