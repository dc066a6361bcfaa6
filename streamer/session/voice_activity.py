"""Voice activity of one session: voice probabilities in, spans of speech out. Pure: time is counted in frames."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

from streamer.audio.pcm import SAMPLE_RATE
from streamer.audio.vad import FRAME_SAMPLES

Spans = tuple[tuple[float, float], ...]
"""Spans of voice in order, start and end in stream time, seconds."""
VOICE_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE
"""Length of one frame of the voice detector, seconds: 32 ms."""
PARTING_S = 0.3
"""Pause that parts two stretches of voice, seconds: another speaker may follow it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceOptions:
    """When a frame counts as voiced."""

    enter: float = 0.5
    """Probability from which on a frame after silence is voiced."""
    stay: float = 0.35
    """Probability from which on a frame after a voiced frame is voiced."""
    min_speech_s: float = 0.096
    """Voice from which on speech begins, seconds: a click or a keystroke is shorter."""


class VoiceTracker:
    """
    Tracks the voice of one session.

    `speaking` turns on after `min_speech_s` of voice and stays on until `stop` is called: the session decides how much
    silence ends a turn.

    Args:
        options: See `VoiceOptions`.
        start_s: Stream time of the first frame, seconds.
    """

    def __init__(self, options: VoiceOptions, start_s: float = 0.0) -> None:
        self._options = options
        self._origin_s = start_s
        self._n_frames = 0
        self._run = 0
        self._voiced: list[tuple[float, float]] = []  # in order
        self.speaking = False
        self.started_s = start_s
        """Start of the present or last speech, stream time."""
        self.last_voice_s = start_s
        """End of the newest voiced frame during speech, stream time."""

    @property
    def now_s(self) -> float:
        """End of the newest frame, stream time."""
        return self._origin_s + self._n_frames * VOICE_FRAME_S

    @property
    def silence_s(self) -> float:
        """Seconds since the last voice."""
        return self.now_s - self.last_voice_s

    def push(self, probability: float) -> bool:
        """Take the voice probability of the next frame; True where speech begins with it."""
        began_s = self.now_s
        self._n_frames += 1
        voiced = probability >= (self._options.stay if self._run else self._options.enter)
        if not voiced:
            self._run = 0
            return False
        self._run += 1
        self._extend(began_s)
        run_s = self._run * VOICE_FRAME_S
        begins = not self.speaking and self._begin(self.now_s - run_s, run_s)
        if self.speaking:
            self.last_voice_s = self.now_s
        return begins

    def stop(self) -> None:
        """End the speech; the next voice begins a new one."""
        self.speaking = False

    def resume(self, from_s: float) -> bool:
        """Begin speech at a stream time if there was enough voice since then; whether there was."""
        return self._begin(from_s, self.voiced_s(from_s, self.now_s))

    @property
    def n_spans(self) -> int:
        """Spans of voice that are held."""
        return len(self._voiced)

    def forget(self, before_s: float) -> None:
        """Drop spans that ended before `before_s`, stream time."""
        del self._voiced[: bisect_left(self._voiced, before_s, key=_end_s)]

    def trimmed(self, start_s: float, end_s: float) -> tuple[float, float]:
        """The span from the first to the last voice between two stream times; both unchanged if there is no voice."""
        return trimmed(self._between(start_s, end_s), start_s, end_s)

    def spans(self, start_s: float, end_s: float) -> Spans:
        """The spans of voice between two stream times."""
        return tuple(self._between(start_s, end_s))

    def voiced_s(self, start_s: float, end_s: float) -> float:
        """Seconds of voice between two stream times."""
        return sum(max(0.0, min(end, end_s) - max(begin, start_s)) for begin, end in self._between(start_s, end_s))

    def pause_s(self, at_s: float) -> float:
        """Seconds of silence around a stream time, up to the next voice or to the newest frame; 0 within voice."""
        n = bisect_right(self._voiced, at_s, key=_start_s)
        until_s = self._voiced[n][0] if n < len(self._voiced) else self.now_s
        return max(0.0, until_s - (self._voiced[n - 1][1] if n else self._origin_s))

    def stretches(self, start_s: float, end_s: float) -> list[float]:
        """Starts of the stretches of voice between two stream times that pauses of `PARTING_S` part."""
        spans = self._between(start_s, end_s)
        parted = [next_[0] for last, next_ in pairwise(spans) if next_[0] - last[1] >= PARTING_S]
        return [max(spans[0][0], start_s), *parted] if spans else []

    def _between(self, start_s: float, end_s: float) -> list[tuple[float, float]]:
        """Spans that overlap the time between two instants."""
        first = bisect_right(self._voiced, start_s, key=_end_s)
        return self._voiced[first : bisect_left(self._voiced, end_s, lo=first, key=_start_s)]

    def _begin(self, from_s: float, voiced_s: float) -> bool:
        """Begin speech at a stream time if so many seconds of voice suffice; whether they do."""
        if voiced_s < self._options.min_speech_s - 1e-9:
            return False
        self.speaking, self.started_s = True, from_s
        return True

    def _extend(self, began_s: float) -> None:
        if self._run > 1 and self._voiced:
            self._voiced[-1] = (self._voiced[-1][0], self.now_s)
        else:
            self._voiced.append((began_s, self.now_s))


def trimmed(spans: Sequence[tuple[float, float]], start_s: float, end_s: float) -> tuple[float, float]:
    """
    As `VoiceTracker.trimmed`, for spans that were taken earlier.

    Args:
        spans: Of voice.
        start_s: Stream time.
        end_s: Stream time.
    """
    within = [span for span in spans if span[1] > start_s and span[0] < end_s]
    if not within:
        return start_s, end_s
    return max(start_s, within[0][0]), min(end_s, within[-1][1])


_start_s, _end_s = itemgetter(0), itemgetter(1)  # of a span
