"""A talk whose words and times are known, and a session that listens to it step by step, without any network."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from streamer.protocol.events import Bye, Caption, Event, Flushed, TurnEnd
from streamer.protocol.options import SessionOptions
from streamer.session.audio_window import WindowOptions
from streamer.session.session import Step
from streamer.session.voice_activity import VOICE_FRAME_S
from streamer.session.words import SpokenWord
from streamer.step import StepResult
from tests.helpers.sessions import MODEL, new_session
from tests.helpers.words import TOKENIZER, plain, result, word

N_MELS = MODEL.n_mels
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def numeral(n: int) -> str:
    """A word for a number, different for each below 1000: nothing is said twice."""
    return " " + "".join(NAMES[int(digit)] for digit in str(n))


def talk(*lengths_s: float, start_s: float = 1.0, word_s: float = 0.4) -> list[SpokenWord]:
    """Numerals back to back, as many as fit into each odd length; the even lengths are pauses."""
    words, at_s = [], start_s
    for i, length_s in enumerate(lengths_s):
        if i % 2 == 0:
            for k in range(max(1, round(length_s / word_s))):
                words.append(word(numeral(len(words)), at_s + k * word_s, at_s + (k + 1) * word_s))
            at_s = words[-1].end_s
        else:
            at_s += length_s
    return words


SURE = -0.1
"""Logarithm of the probability of what a perfect network hears."""


class Hall:
    """
    Plays a talk to a session in chunks, and answers its steps as a perfect network would.

    Mel frames carry their own number, so that a request can be checked against the frames it should hold. A step
    asked for in one chunk is answered `latency` chunks later.

    Args:
        words: What is said, in stream time and in its order.
        window: See `WindowOptions`.
        options: Of the session.
        latency: Chunks that a step takes.
        interval_s: Between partial steps.
        offset_s: Stream time of the first sample.
        voiced: Whether there is voice at an instant; by default where there are words.
        answer: How the network says it: `perfect`, `punctual`, `mumbling`, `stopping`, `straying`, `trailing`.
        spec: Further fields of the session's `SessionSpec`.
    """

    def __init__(
        self,
        words: Sequence[SpokenWord],
        window: WindowOptions,
        options: SessionOptions,
        *,
        latency: int = 0,
        interval_s: float = 0.3,
        offset_s: float = 0.0,
        context: str = "",
        voiced: Callable[[float], bool] | None = None,
        answer: str = "perfect",
        **spec: Any,
    ) -> None:
        self.words, self.window, self.offset_s = words, window, offset_s
        self.session = new_session(options=options, window=window, offset_s=offset_s, context=context, **spec)
        self.events: list[Event] = []
        self.steps: list[Step] = []
        self.now_s = offset_s
        self._starts_s = [w.start_s for w in words]
        self._spoken = ["".join(plain(w.text)) for w in words]
        self._places = {text: place for place, text in reversed(list(enumerate(self._spoken)))}
        self._voiced = voiced or self._is_said
        self._answer = {
            "perfect": self.perfect,
            "punctual": self.punctual,
            "mumbling": self.mumbling,
            "stopping": self.stopping,
            "straying": self.straying,
            "trailing": self.trailing,
        }[answer]
        self._latency, self._interval_s = latency, interval_s
        self._n_frames = self._n_judged = 0
        self._pending: tuple[Step, int] | None = None

    # --- the clock

    def play(self, until_s: float, chunk_s: float = 0.1) -> list[Event]:
        """Let time pass; the events of that time."""
        before, n_waits = len(self.events), 0
        while self.now_s < until_s - 1e-9:
            if self.session.is_full:
                n_waits += 1
                assert n_waits < 1000, "the session takes no more sound"
            else:
                self.hear(min(chunk_s, until_s - self.now_s))
            self.work()
        return self.events[before:]

    def hear(self, seconds: float) -> None:
        """Sound alone, no step."""
        self.now_s += seconds
        elapsed_s = self.now_s - self.offset_s
        n = int(elapsed_s * 100 + 1e-6) - self._n_frames
        frames = torch.arange(self._n_frames, self._n_frames + n, dtype=torch.float32)[:, None].repeat(1, N_MELS)
        self._n_frames += n
        probabilities = []
        while (self._n_judged + 1) * VOICE_FRAME_S <= elapsed_s + 1e-9:
            middle_s = self.offset_s + (self._n_judged + 0.5) * VOICE_FRAME_S
            probabilities.append(0.9 if self._voiced(middle_s) else 0.05)
            self._n_judged += 1
        self.say(self.session.push_frames(frames, probabilities))

    def work(self) -> None:
        """Answer the step in flight if its time has come, and begin the next ones that are due."""
        for _ in range(100):
            if self._pending is not None:
                step, chunks_left = self._pending
                if chunks_left > 0:
                    self._pending = step, chunks_left - 1
                    return
                self._pending = None
                self.say(self.session.apply(step, self._answer(step, self.audible(step))))
            if not self.session.is_due(self._interval_s):
                return
            self.steps.append(self.session.next_step())
            self._pending = self.steps[-1], self._latency
        raise AssertionError("a hundred steps on the same sound")

    def flush(self, flush_id: int = 1) -> None:
        """Ask for everything so far to be final."""
        self.say(self.session.flush(flush_id))

    def end(self, *, continues_elsewhere: bool = False) -> list[Event]:
        """No more sound, here at least: everything is answered; all events."""
        self.hear(0.06)  # as a stream does, so that the last frames are complete
        self.say(self.session.end(continues_elsewhere=continues_elsewhere))
        for _ in range(1000):
            if self.session.is_over:
                return self.events
            self.work()
        raise AssertionError("the session does not end")

    def say(self, events: list[Event]) -> None:
        """Keep what the session said."""
        self.events += events

    def _is_said(self, at_s: float) -> bool:
        n_begun = bisect.bisect_right(self._starts_s, at_s)
        return n_begun > 0 and at_s < self.words[n_begun - 1].end_s

    # --- the network

    def audible(self, step: Step) -> list[SpokenWord]:
        """The words that begin in the step's window, after its prefix."""
        start_s = self.offset_s + step.window_start_frame / 100
        edge_s = self.offset_s + step.edge_frame / 100
        prefix = plain(TOKENIZER.decode(step.request.prefix))
        known = [self._places[text] for text in prefix if text in self._places]
        first = max(known[-1] + 1 if known else 0, bisect.bisect_left(self._starts_s, start_s - 0.05))
        # less of a word than this is not recognised
        last = bisect.bisect_left(self._starts_s, edge_s - 0.05)
        return [word(w.text, w.start_s, min(w.end_s, edge_s)) for w in self.words[first:last]]

    def perfect(self, step: Step, words: list[SpokenWord]) -> StepResult:
        """Exactly what is audible."""
        return result(words, self.offset_s + step.window_start_frame / 100, logprob=SURE)

    def punctual(self, step: Step, words: list[SpokenWord]) -> StepResult:
        """What is audible, always ended like a sentence, as a network trained on whole sentences does."""
        if words:
            words = [*words[:-1], word(f"{words[-1].text}.", words[-1].start_s, words[-1].end_s)]
        return self.perfect(step, words)

    def mumbling(self, step: Step, words: list[SpokenWord]) -> StepResult:
        """What is audible, but for a word that is cut off: that one is misheard, each time otherwise."""
        edge_s = self.offset_s + step.edge_frame / 100
        if words and words[-1].end_s >= edge_s - 0.01:
            cut = words[-1]
            words = [*words[:-1], word(f" uh{step.edge_frame}", cut.start_s, cut.end_s)]
        return self.perfect(step, words)

    def stopping(self, step: Step, words: list[SpokenWord]) -> StepResult:
        """What is audible, but of six words and more the first two, unless the request says that the text goes on."""
        return self.perfect(step, words[:2] if step.request.no_eot_at is None and len(words) >= 6 else words)

    def straying(self, step: Step, words: list[SpokenWord]) -> StepResult:
        """What is audible, but nothing at all where the text that it is given to go on from says "six"."""
        return self.perfect(step, [] if "six" in plain(TOKENIZER.decode(step.request.prefix)) else words)

    def trailing(self, step: Step, words: list[SpokenWord]) -> StepResult:
        """As `straying`, but with three dots instead of nothing, which end with the newest sound."""
        edge_s = self.offset_s + step.edge_frame / 100
        astray = "six" in plain(TOKENIZER.decode(step.request.prefix))
        return self.perfect(step, [word("...", edge_s - 0.1, edge_s)] if astray else words)

    # --- what was said

    @property
    def text(self) -> list[str]:
        """The words of all turns that ended, without marks."""
        return [text for turn in self.turns for text in plain(turn.text)]

    @property
    def turns(self) -> list[TurnEnd]:
        """Turns that ended."""
        return [event for event in self.events if isinstance(event, TurnEnd)]

    @property
    def captions(self) -> list[Caption]:
        """Captions of all turns."""
        return [event for event in self.events if isinstance(event, Caption)]

    def spoken(self) -> list[str]:
        """The words of the talk, without marks."""
        return list(self._spoken)


def broken_promises(events: Sequence[Event]) -> list[str]:
    """What of the protocol's invariants these events of one session do not keep."""
    broken: list[str] = []
    turn, rev, stable, is_over = 0, 0, "", False
    for event in events:
        if is_over:
            broken.append(f"{event} after bye")
        match event:
            case Caption():
                if event.turn != turn:
                    broken.append(f"caption of turn {event.turn} in turn {turn}")
                if event.rev != rev + 1:
                    broken.append(f"rev {event.rev} after {rev}")
                if not event.stable.startswith(stable):
                    broken.append(f"stable {stable!r} became {event.stable!r}")
                if event.end_s < event.start_s:
                    broken.append(f"times of {event}")
                rev, stable = event.rev, event.stable
            case TurnEnd():
                if event.turn != turn:
                    broken.append(f"turn {event.turn} ended in turn {turn}")
                if plain(event.text)[: len(plain(stable))] != plain(stable):
                    broken.append(f"{event.text!r} does not begin with {stable!r}")
                turn, rev, stable = turn + 1, 0, ""
            case Flushed() if rev:
                broken.append(f"flushed inside turn {turn}")
            case Bye():
                is_over = True
                if event.turns != turn or rev:
                    broken.append(f"{event} after {turn} turns and {rev} captions")
    return broken


def broken_requests(steps: Sequence[Step]) -> list[str]:
    """Requests whose frames are not those that the step speaks of, and sound that was left out inside a window."""
    broken = []
    for step in steps:
        frames = step.request.log_mel[0]
        if not torch.equal(frames, torch.arange(step.window_start_frame, step.edge_frame, dtype=frames.dtype)):
            broken.append(f"frames of {step.window_start_frame} to {step.edge_frame}: {frames[:1]} to {frames[-1:]}")
    for before, after in itertools.pairwise(steps):
        if after.window_id == before.window_id and after.window_start_frame > before.edge_frame:
            broken.append(f"not heard: frames {before.edge_frame} to {after.window_start_frame}")
    return broken
