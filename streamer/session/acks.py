"""Acknowledgements of one session: which audio the client may forget, and which words end with the session. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamer.protocol.events import Ack
from streamer.session.words import SpokenWord

ACK_INTERVAL_S = 0.5
"""Received audio between two acks."""
NOTICE_S = 0.2
"""Longest delay between the first voice and its detection."""
UNFINISHED_S = 0.2
"""A word that ends less than this before a cut in the audio may continue beyond the cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a session has come, stream time in seconds."""

    received_s: float
    """End of the received audio."""
    final_s: float
    """End of the audio whose text is final."""
    speech_start_s: float | None
    """Start of the open turn; None while nobody speaks."""
    lag_s: float
    """Audio of the open turn that no step has seen, seconds."""


class Acks:
    """
    Acknowledges received audio, and remembers how much audio the session transcribes.

    Args:
        pre_roll_s: Audio before the first voice that a window includes, seconds.
        offset_s: Stream time of the first sample, seconds.
    """

    def __init__(self, pre_roll_s: float, offset_s: float) -> None:
        self._pre_roll_s = pre_roll_s
        self._acked_s = offset_s
        self._continues_elsewhere = False
        self.audio_s = offset_s
        """End of the audio that this session transcribes, stream time; valid after `end`."""

    def current(self, progress: Progress) -> Ack:
        """The ack for this progress: a client may forget audio before `stable_s`, even if the daemon is lost."""
        if progress.speech_start_s is not None:
            needed_from_s = progress.speech_start_s - self._pre_roll_s
        else:
            # the newest silence may turn out to be the beginning of a word
            needed_from_s = progress.received_s - self._pre_roll_s - NOTICE_S
        return Ack(
            received_s=round(progress.received_s, 3),
            stable_s=round(max(progress.final_s, needed_from_s), 3),
            lag_s=round(progress.lag_s, 3),
        )

    def due(self, progress: Progress) -> list[Ack]:
        """The current ack if `ACK_INTERVAL_S` of audio came since the last one, otherwise nothing."""
        if progress.received_s - self._acked_s < ACK_INTERVAL_S:
            return []
        self._acked_s = progress.received_s
        return [self.current(progress)]

    def end(self, audio_s: float, *, continues_elsewhere: bool) -> None:
        """
        Note where the audio ends.

        Args:
            audio_s: End of the client's audio, stream time in seconds: padding does not count.
            continues_elsewhere: Another session transcribes the speech from this session's last ack on.
        """
        self.audio_s, self._continues_elsewhere = audio_s, continues_elsewhere

    def leave_rest(self, progress: Progress) -> None:
        """Exclude audio that the client must keep for another session."""
        if self._continues_elsewhere:
            self.audio_s = min(self.audio_s, self.current(progress).stable_s)

    def n_finished(self, tail: Sequence[SpokenWord]) -> int:
        """Words of the tail that end with the turn: all, except a cut-off word that another session will hear whole."""
        if not self._continues_elsewhere:
            return len(tail)
        return sum(1 for word in tail if word.end_s <= self.audio_s - UNFINISHED_S)

    def last(self) -> Ack:
        """The ack before `Bye`."""
        audio_s = round(self.audio_s, 3)
        # padding after the audio may have been acknowledged already, and acks never go back
        return Ack(received_s=max(audio_s, round(self._acked_s, 3)), stable_s=audio_s, lag_s=0.0)
