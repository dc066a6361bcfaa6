"""
The newest mel frames of a session, and the window of them that the next step sees. Pure.

Frames are numbered from the first of the session; this module converts stream time to frames and back.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from streamer.audio.mel import FRAME_S, FRAMES_PER_SECOND, MelWindow

CAPACITY_S = 30.0
"""Audio that is held, seconds."""
MAX_AUDIO_S = 3.0
"""Most audio that a session takes at a time, seconds."""
LONGEST_WINDOW_S = 18.0
"""
Largest `max_window_s`, seconds.

The window, the longest pause in a turn (5 s) and the longest pause between turns that a window survives
(`carry_s`, 3 s) must fit into `CAPACITY_S`, or the session would refuse the audio that it waits for.
"""
CATCH_UP_S = 4.0
"""Audio beyond `max_window_s` that one step of a late session may see, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOptions:
    """How much audio a step sees."""

    max_window_s: float
    """Length from which on a window rolls, seconds."""
    pre_roll_s: float = 0.4
    """Audio before the first voice, seconds."""
    post_roll_s: float = 0.3
    """Audio after the last voice, seconds; later silence is not decoded."""
    pause_s: float = 0.2
    """Silence after which a step is due at once, seconds: the last word is probably complete."""
    keep_s: float = 6.0
    """Audio kept at a roll, seconds."""
    carry_s: float = 3.0
    """Pause after a turn up to which speech continues in the same window, seconds."""
    alignment_lag_s: float = 0.0
    """Delay of the model's attention after the beginning of a word, seconds; negative where it is early."""
    max_turn_s: float = 30.0
    """Length from which on a turn without a pause ends with its sentence, and 1.5 times as long anywhere, seconds."""


class AudioWindow:
    """
    Mel frames of one session, and the start of its window.

    Args:
        n_mels: Mel bands.
        options: See `WindowOptions`.
        offset_s: Stream time of the first frame, seconds.
    """

    def __init__(self, n_mels: int, options: WindowOptions, offset_s: float) -> None:
        self._options, self._offset_s = options, offset_s
        self._mel = MelWindow(n_mels, int(CAPACITY_S * FRAMES_PER_SECOND))
        self.id = 0
        """Changes when the session leaves the window: results of steps on an older one are dropped."""
        self.start = 0
        """First frame of the window."""
        self.seen = 0
        """One past the newest frame that a step has seen."""

    # --- stream time

    def frame(self, stream_s: float) -> int:
        """The frame at a stream time; 0 before the first."""
        return max(0, round((stream_s - self._offset_s) * FRAMES_PER_SECOND))

    def stream_s(self, frame: int) -> float:
        """Stream time at which a frame begins, seconds."""
        return self._offset_s + frame * FRAME_S

    @property
    def end_s(self) -> float:
        """End of the newest frame, stream time."""
        return self.stream_s(self._mel.end)

    @property
    def oldest_s(self) -> float:
        """Start of the oldest frame held, stream time: no window will begin earlier."""
        return self.stream_s(self._mel.start)

    @property
    def start_s(self) -> float:
        """Start of the window, stream time."""
        return self.stream_s(self.start)

    @property
    def seen_s(self) -> float:
        """End of the newest frame that a step has seen, stream time."""
        return self.stream_s(self.seen)

    # --- frames

    def append(self, frames: Tensor) -> None:
        """Add new frames, (n, n_mels); n may be 0."""
        if frames.shape[0]:
            self._mel.append(frames)

    def log_mel(self, start: int, end: int) -> Tensor:
        """
        Log10 mel power of frames `start` to `end`, (n_mels, end - start).

        Raises:
            ValueError: The range is empty, or a frame of it is not held.
        """
        return self._mel.gather(start, end)

    @property
    def is_held(self) -> bool:
        """Whether the start of the window is still held."""
        return self._mel.start <= self.start

    @property
    def is_full(self) -> bool:
        """Whether `MAX_AUDIO_S` more audio would push out frames of the window."""
        return self._mel.end - self.start > int((CAPACITY_S - MAX_AUDIO_S) * FRAMES_PER_SECOND)

    def forget(self) -> None:
        """While nobody speaks, drop frames that no window will include."""
        self._mel.forget(self._mel.end - int((self._options.pre_roll_s + 1.0) * FRAMES_PER_SECOND))

    # --- where it ends

    def target(self, last_voice_s: float) -> int:
        """One past the newest frame to decode: the last voice and its post-roll, `last_voice_s` in stream time."""
        return min(self._mel.end, self.frame(last_voice_s + self._options.post_roll_s))

    def edge(self, target: int) -> int:
        """One past the last frame of the next step: `target`, or the longest window of a late session."""
        return min(target, self.start + int((self._options.max_window_s + CATCH_UP_S) * FRAMES_PER_SECOND))

    def has_seen_pause(self, last_voice_s: float) -> bool:
        """Whether a step has seen `pause_s` of silence after the last voice, `last_voice_s` in stream time."""
        return self.seen >= self.frame(last_voice_s + self._options.pause_s)

    # --- where it begins

    def open(self, from_s: float) -> None:
        """Begin a new window at a stream time, or at the oldest frame held."""
        self.start = self.seen = max(self.frame(from_s), self._mel.start)
        self.leave()

    def leave(self) -> None:
        """Invalidate the results of steps in flight."""
        self.id += 1

    @property
    def is_too_long(self) -> bool:
        """Whether the part of the window that a step has seen is so long that the window should roll."""
        return self.seen_s - self.start_s >= self._options.max_window_s

    def move(self, to_s: float) -> None:
        """Move the start of the window forward to a stream time; never back."""
        self.start = max(self.start, self.frame(to_s))
