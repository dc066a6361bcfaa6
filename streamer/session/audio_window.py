"""
The newest sound of a session, and the window of it that the next step looks at. Pure.

Frames of sound are numbered from the first; here stream time becomes frames and back.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from streamer.audio.mel import FRAMES_PER_SECOND, MelWindow

FRAME_S = 1 / FRAMES_PER_SECOND
CAPACITY_S = 30.0
"""Sound that is held."""
MAX_HEARD_S = 3.0
"""Most sound given to a session at a time."""
LONGEST_WINDOW_S = 18.0
"""Most that `max_window_s` may be: the window, the longest pause in a turn (5 s) and the longest after it that a window
goes on over (3 s) must fit in what is held, or the session would refuse the sound that it waits for."""
CATCH_UP_S = 4.0
"""Sound beyond `max_window_s` that one step of a late session may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOptions:
    """How much sound a step sees."""

    pre_roll_s: float = 0.4
    """Sound before the first voice."""
    post_roll_s: float = 0.3
    """Sound after the last voice: later silence is not looked at."""
    pause_s: float = 0.2
    """Silence after which a step is due at once: what was said is probably whole."""
    max_window_s: float = 15.0
    """Longest window; then it rolls."""
    keep_s: float = 6.0
    """Sound kept at a roll."""
    carry_s: float = 3.0
    """Speech that resumes within this long after a turn goes on in the same window."""
    alignment_lag_s: float = 0.0
    """How much later than a word begins the model's attention arrives at it; negative where it is early."""
    max_turn_s: float = 30.0
    """A turn without pause ends at the next end of a sentence after this long, or after 1.5 times as long."""


class SoundWindow:
    """
    Args:
        n_mels: Mel bands.
        options: See `WindowOptions`.
        offset_s: Stream time of the first frame.
    """

    def __init__(self, n_mels: int, options: WindowOptions, offset_s: float) -> None:
        self._options, self._offset_s = options, offset_s
        self._mel = MelWindow(n_mels, int(CAPACITY_S * FRAMES_PER_SECOND))
        self.id = 0
        """Changes when the window is left: what a step heard in another one is of no use."""
        self.start = 0
        """Its first frame."""
        self.seen = 0
        """One past the newest frame that a step has seen."""

    # --- stream time

    def frame(self, stream_s: float) -> int:
        """The frame at a stream time; 0 before the first."""
        return max(0, round((stream_s - self._offset_s) * FRAMES_PER_SECOND))

    def stream_s(self, frame: int) -> float:
        """Where a frame begins."""
        return self._offset_s + frame * FRAME_S

    @property
    def heard_s(self) -> float:
        """End of the newest sound."""
        return self.stream_s(self._mel.end)

    @property
    def start_s(self) -> float:
        """Where the window begins."""
        return self.stream_s(self.start)

    @property
    def seen_s(self) -> float:
        """How far a step has seen."""
        return self.stream_s(self.seen)

    # --- sound

    def hear(self, frames: Tensor) -> None:
        """Take new frames, (n, n_mels)."""
        if frames.shape[0]:
            self._mel.append(frames)

    def log_mel(self, edge: int) -> Tensor:
        """From the start of the window to frame `edge`, (n_mels, n_frames)."""
        return self._mel.gather(self.start, edge)

    @property
    def is_held(self) -> bool:
        """Whether its start is not forgotten yet."""
        return self._mel.start <= self.start

    @property
    def is_full(self) -> bool:
        """Whether more sound, `MAX_HEARD_S` at a time, would push out what the window holds."""
        return self._mel.end - self.start > int((CAPACITY_S - MAX_HEARD_S) * FRAMES_PER_SECOND)

    def forget(self) -> None:
        """Let go of sound that no window will want while nobody speaks."""
        self._mel.forget(self._mel.end - int((self._options.pre_roll_s + 1.0) * FRAMES_PER_SECOND))

    # --- where it ends

    def target(self, last_voice_s: float) -> int:
        """One past the newest frame worth looking at."""
        return min(self._mel.end, self.frame(last_voice_s + self._options.post_roll_s))

    def edge(self, target: int) -> int:
        """One past the last frame of the next step: the target, unless it is far away."""
        return min(target, self.start + int((self._options.max_window_s + CATCH_UP_S) * FRAMES_PER_SECOND))

    def has_seen_pause(self, last_voice_s: float) -> bool:
        """Whether a step has seen that the last voice was followed by silence."""
        return self.seen >= self.frame(last_voice_s + self._options.pause_s)

    # --- where it begins

    def open(self, from_s: float) -> None:
        """Begin afresh."""
        self.start = self.seen = max(self.frame(from_s), self._mel.start)
        self.leave()

    def leave(self) -> None:
        """Make results of steps in flight worthless."""
        self.id += 1

    def is_too_long(self, edge_s: float) -> bool:
        """Whether a window up to there should roll."""
        return edge_s - self.start_s >= self._options.max_window_s

    def move(self, to_s: float) -> None:
        """Begin later; what is left out is done with."""
        self.start = max(self.start, self.frame(to_s))
