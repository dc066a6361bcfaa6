"""When somebody speaks: probabilities of voice in, stretches of speech out. Pure: time is counted in frames heard."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streamer.audio.vad import FRAME_SAMPLES

FRAME_S = FRAME_SAMPLES / 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceOptions:
    """When a frame counts as voiced."""

    enter: float = 0.5
    """Probability that begins speech."""
    stay: float = 0.35
    """Probability that keeps it going."""
    min_speech_s: float = 0.096
    """Voice shorter than this does not begin speech: a click, a key."""


class VoiceTracker:
    """
    Follows the voice of one session.

    `speaking` turns on after `min_speech_s` of voice and stays on until `stop` is called: how much silence ends
    a turn is the session's decision.
    """

    def __init__(self, options: VoiceOptions, start_s: float = 0.0) -> None:
        self._options = options
        self._origin_s = start_s
        self._n_frames = 0
        self._run = 0
        self._voiced: deque[tuple[float, float]] = deque()
        self.speaking = False
        self.started_s = start_s
        """Where the present or last speech began, stream seconds."""
        self.last_voice_s = start_s
        """End of the newest voiced frame, stream seconds."""

    @property
    def now_s(self) -> float:
        """End of the newest frame judged, stream seconds."""
        return self._origin_s + self._n_frames * FRAME_S

    @property
    def silence_s(self) -> float:
        """Seconds since the last voice."""
        return self.now_s - self.last_voice_s

    def push(self, probability: float) -> bool:
        """Judge one more frame; True where speech begins with it."""
        began_s = self.now_s
        self._n_frames += 1
        voiced = probability >= (self._options.stay if self._run else self._options.enter)
        if not voiced:
            self._run = 0
            return False
        self._run += 1
        self._extend(began_s)
        if self.speaking:
            self.last_voice_s = self.now_s
            return False
        if self._run * FRAME_S < self._options.min_speech_s - 1e-9:
            return False
        self.speaking = True
        self.started_s = self.now_s - self._run * FRAME_S
        self.last_voice_s = self.now_s
        return True

    def stop(self) -> None:
        """The turn is over; the next voice begins a new one."""
        self.speaking = False

    def resume(self, from_s: float, voiced_s: float) -> bool:
        """Begin speech at an instant that has passed, if `voiced_s` of voice since is enough; whether it is."""
        if voiced_s < self._options.min_speech_s - 1e-9:
            return False
        self.speaking, self.started_s = True, from_s
        return True

    def forget(self, before_s: float) -> None:
        """Let go of stretches that ended before `before_s`."""
        while self._voiced and self._voiced[0][1] < before_s:
            self._voiced.popleft()

    def trimmed(self, start_s: float, end_s: float) -> tuple[float, float]:
        """From the first voice between two instants to the end of the last; as they are where none is known there."""
        within = [(begin, end) for begin, end in self._voiced if begin < end_s and end > start_s]
        if not within:
            return start_s, end_s
        return max(start_s, within[0][0]), min(end_s, within[-1][1])

    def voiced_s(self, start_s: float, end_s: float) -> float:
        """Seconds of voice between two instants."""
        return sum(max(0.0, min(end, end_s) - max(begin, start_s)) for begin, end in self._voiced)

    def _extend(self, began_s: float) -> None:
        if self._run > 1 and self._voiced:
            self._voiced[-1] = (self._voiced[-1][0], self.now_s)
        else:
            self._voiced.append((began_s, self.now_s))
