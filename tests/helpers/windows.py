"""An open window of its own, with sound and voice but without a session around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from streamer.protocol.options import SessionOptions
from streamer.session.audio_window import AudioWindow, WindowOptions
from streamer.session.language import TurnLanguage
from streamer.session.spec import SessionSpec
from streamer.session.transcript import Transcript
from streamer.session.voice_activity import VOICE_FRAME_S, VoiceOptions, VoiceTracker
from streamer.session.window import Window
from streamer.session.words import SpokenWord
from streamer.step import StepRequest
from tests.helpers.sessions import MODEL
from tests.helpers.words import result

ENGLISH = SessionOptions(language="en", delay="minimal")


@dataclass
class Listener:
    """What a window is made from; its options may be changed."""

    audio: AudioWindow
    voice: VoiceTracker
    transcript: Transcript
    window: Window
    options: SessionOptions

    def hear(self, voice_s: float, silence_s: float = 0.0) -> None:
        """Sound, first with voice, then without."""
        for length_s, probability in ((voice_s, 0.9), (silence_s, 0.05)):
            self.audio.append(torch.zeros(round(length_s * 100), MODEL.n_mels))
            for _ in range(round(length_s / VOICE_FRAME_S)):
                self.voice.push(probability)

    def request(self, until_s: float | None = None) -> StepRequest:
        """What a step is asked that sees the window up to an instant; by default up to the newest sound."""
        edge = self.audio.frame(self.audio.end_s if until_s is None else until_s)
        return self.window.request(edge, self.options, may_end=False, final=False)

    def read(self, words: Sequence[SpokenWord], *, closes: bool = False, **answer: Any) -> bool:
        """A step that sees all sound and answers with these words; see `Window.read`."""
        request = self.request()
        self.audio.seen = self.audio.frame(self.audio.end_s)
        found = replace(result(words, self.audio.start_s), **answer)
        return self.window.read(request, found, closes=closes)


def listener(options: SessionOptions = ENGLISH, **fields: Any) -> Listener:
    """A window over sound that begins at 0, with these fields of its `SessionSpec`."""
    defaults = {"name": "s_1", "window": WindowOptions(max_window_s=15.0), "model": MODEL}
    spec = SessionSpec(options=options, **(defaults | fields))
    audio, voice = AudioWindow(spec.model.n_mels, spec.window, 0.0), VoiceTracker(VoiceOptions())
    language = TurnLanguage(options, is_multilingual=spec.model.tokenizer.multilingual)
    transcript = Transcript(words=False)
    return Listener(audio, voice, transcript, Window(spec, audio, voice, language, transcript), options)
