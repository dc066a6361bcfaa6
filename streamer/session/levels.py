"""
Gains of the stretches of speech in a window: quiet speech is raised to the level of ordinary speech. Pure.

The network's input has one floor for the whole window, 80 dB below its maximum. A quiet voice in the window of a loud
one (a second speaker far from the microphone) would lie near that floor: its words come out wrong or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from streamer.audio.mel import GAIN_STEP, window_gain
from streamer.session.audio_window import AudioWindow
from streamer.session.voice_activity import VoiceTracker

QUIETER = 2 * GAIN_STEP
"""Gain above that of the loudest stretch from which on a stretch has a gain of its own, log10 of power."""
LEAD_FRAMES = 10
"""Frames before the first voice of a stretch that share its gain: 0.1 s, the onset that the detector notices late."""


def levelled(audio: AudioWindow, voice: VoiceTracker, start: int, end: int) -> tuple[Tensor, tuple[float, ...]]:
    """
    Frames of a session with quiet speech raised, (n_mels, end - start), and the gains: see `raise_quiet`.

    Args:
        audio: Mel frames of the session.
        voice: Voice activity of the session.
        start: First frame.
        end: One past the last frame.
    """
    stretches = voice.stretches(audio.stream_s(start), audio.stream_s(end))
    return raise_quiet(audio.log_mel(start, end), [audio.frame(at_s) - start for at_s in stretches])


def raise_quiet(log_mel: Tensor, first_voices: Sequence[int]) -> tuple[Tensor, tuple[float, ...]]:
    """
    Add to each stretch of speech of a window its gain.

    Args:
        log_mel: Unclamped log10 mel power of the window, (n_mels, n_frames).
        first_voices: Frame at which each stretch begins, ascending; a stretch lasts until the next one.

    Returns:
        The window with the gains added, of the same shape, and the gain of each stretch, log10 of power; the window
        itself and no gains where all of them are 0.
    """
    n_frames = log_mel.shape[1]
    inner = [frame for frame in first_voices[1:] if 2 * LEAD_FRAMES < frame < n_frames]
    bounds = [0, *(frame - LEAD_FRAMES for frame in inner), n_frames]
    voices = zip([0, *inner], bounds[1:], strict=True)
    gains = _gains([window_gain(float(log_mel[:, first:end].max())) for first, end in voices])
    if not any(gains):
        return log_mel, ()
    lengths = torch.tensor([end - begin for begin, end in pairwise(bounds)])
    return log_mel + torch.tensor(gains).repeat_interleave(lengths), tuple(gains)


def _gains(own: list[float]) -> list[float]:
    """The gain of the loudest stretch for all that are not much quieter."""
    common = min(own)
    return [gain if gain - common >= QUIETER else common for gain in own]
