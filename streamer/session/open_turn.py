"""
The open turn of one session: how far it reaches, how much of it steps have seen, and whether its pause ends it. Pure.

Where the client names no endpoint, a pause ends the turn or not by the text before it, which the last step has read.
"""

from __future__ import annotations

from streamer.audio.mel import FRAME_S
from streamer.protocol.options import PAUSE_MS
from streamer.session.audio_window import AudioWindow, WindowOptions
from streamer.session.turn_ends import PendingTurnEnds
from streamer.session.voice_activity import VoiceTracker
from streamer.session.window import Window


class OpenTurn:
    """
    Decides when the open turn wants a step, and where it ends; valid only while somebody speaks.

    Args:
        options: How much audio a step sees.
        audio: Mel frames of the session.
        voice: Voice activity of the session.
        window: The open window.
        endpoint_ms: See the attribute.
    """

    def __init__(
        self,
        options: WindowOptions,
        audio: AudioWindow,
        voice: VoiceTracker,
        window: Window,
        *,
        endpoint_ms: int | None,
    ) -> None:
        self._options, self._audio, self._voice, self._window = options, audio, voice, window
        self.ends = PendingTurnEnds()
        """Where it was asked to end."""
        self.endpoint_ms = endpoint_ms
        """Silence that ends it, in milliseconds; None: its text decides. The client may change it."""

    # --- steps

    @property
    def target(self) -> int:
        """One past the newest frame with voice or its post-roll."""
        return self._audio.target(self._voice.last_voice_s)

    @property
    def edge(self) -> int:
        """One past the last frame of the next step: the target or the pending end, unless it is far away."""
        # audio after a turn end belongs to the next turn: its newest word may be incomplete
        return self._audio.edge(self.ends.frame if self.ends else self.target)

    def wants_step(self, interval_s: float) -> bool:
        """Whether a step is wanted now, given the present interval between partial steps, seconds."""
        edge = self.edge
        if edge <= self._audio.start:
            return False
        if self.ends or self._window.awaits_rest:
            return True
        if edge < self.target:
            return True  # late: a step does not reach the newest audio, so waiting adds nothing to the step
        fresh_s = (edge - self._audio.seen) * FRAME_S
        return fresh_s > 0 and ((self._is_pause and not self.has_seen_pause) or fresh_s >= interval_s)

    @property
    def may_end(self) -> bool:
        """Whether the next step may be the last one of the turn."""
        return bool(self.ends) or self._is_pause

    @property
    def lag_s(self) -> float:
        """Audio of the turn that no step has seen yet, seconds."""
        return max(0, self.target - self._audio.seen) * FRAME_S

    @property
    def waiting_s(self) -> float:
        """How long something that was said has waited to be stable, seconds; `lag_s` at least."""
        from_s = self._window.waits_from_s
        return self.lag_s if from_s is None else max(self.lag_s, self._audio.end_s - from_s)

    @property
    def has_seen_pause(self) -> bool:
        """Whether the last step saw enough silence after the last voice."""
        return self._audio.has_seen_pause(self._voice.last_voice_s)

    @property
    def is_complete(self) -> bool:
        """Whether the last step said all up to the pending end, or up to the pause before it; False without an end."""
        if not self.ends or self._window.awaits_rest:
            return False
        spare_s = self._options.post_roll_s - self._options.pause_s if self._may_go_on else 0.0
        return self._audio.seen >= self.ends.frame - round(spare_s / FRAME_S) or self.has_seen_pause

    @property
    def _is_pause(self) -> bool:
        return self._voice.silence_s >= self._options.pause_s

    # --- pauses

    @property
    def is_at_endpoint(self) -> bool:
        """Whether the silence is long enough to end the turn, or to ask a step whether it ends the turn."""
        silence_ms = self._voice.silence_s * 1000
        if self.endpoint_ms is not None:
            return silence_ms >= self.endpoint_ms
        return silence_ms >= PAUSE_MS and not (self.has_seen_pause and self._goes_on_after(silence_ms))

    @property
    def is_in_inner_pause(self) -> bool:
        """Whether a pause that the last step has seen goes on, where the client names no endpoint."""
        return self._is_pause and self.has_seen_pause and self.endpoint_ms is None

    @property
    def goes_on(self) -> bool:
        """Whether the pending end is a pause that turns out to be inside a sentence."""
        if not self._may_go_on:
            return False
        return self._goes_on_after(self._voice.pause_s(self._audio.stream_s(self.ends.frame)) * 1000)

    @property
    def closes(self) -> bool:
        """Whether the text of the last step is followed by the end of the turn, as far as that is decided."""
        return bool(self.ends) and not self._may_go_on

    @property
    def _may_go_on(self) -> bool:
        """Whether the pending end is a pause, after which the text may say that the turn goes on."""
        return self.ends.is_pause and self.endpoint_ms is None

    def _goes_on_after(self, pause_ms: float) -> bool:
        """Whether the turn goes on after a pause by the text of the last step, where the client names no endpoint."""
        return pause_ms < self._window.ending_pause_ms
