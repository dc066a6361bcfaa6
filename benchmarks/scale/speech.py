"""What streams say: words and voice by the clock, and a front end and an engine that know them without any sound."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from streamer.audio.frontend import Features, FeatureState
from streamer.audio.mel import HOP_LENGTH
from streamer.audio.pcm import SAMPLE_RATE
from streamer.session.spec import ModelFacts
from streamer.step import StepRequest, StepResult
from streamer.text.tokenizer import Tokenizer

WORD_S = 0.38
"""From the beginning of a word to that of the next."""
SPOKEN_S = 0.30
"""Of this, the word."""
N_WORDS = 997
"""Different words."""
LEVEL = 0.0
"""Every mel value: as loud as ordinary speech, so windows get no gain."""
TOKENIZER = Tokenizer([*(bytes([byte]) for byte in range(256)), *(f" w{n}".encode() for n in range(N_WORDS))], 1)
MODEL = ModelFacts(name="simulated", tokenizer=TOKENIZER, n_mels=1)
"""One mel band: the others are counted, not computed."""
FIRST_TOKEN = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How streams talk: mean lengths, each drawn from an exponential distribution."""

    talk_s: float = 6.0
    pause_s: float = 2.0

    @property
    def voiced(self) -> float:
        """Part of the time that is speech."""
        return self.talk_s / (self.talk_s + self.pause_s)


class Speech:
    """
    The words of one stream.

    Args:
        manner: See `Manner`.
        duration_s: Seconds.
        seed: Of the lengths.
    """

    def __init__(self, manner: Manner, duration_s: float, seed: int) -> None:
        lengths, at_s = random.Random(seed), 0.0
        self.starts_s: list[float] = []
        """Of each word, stream time."""
        at_s = lengths.uniform(0, manner.pause_s)
        while at_s < duration_s:
            for _ in range(max(1, round(lengths.expovariate(1 / manner.talk_s) / WORD_S))):
                self.starts_s.append(at_s)
                at_s += WORD_S
            at_s += lengths.expovariate(1 / manner.pause_s)

    def is_voice(self, at_s: float) -> bool:
        """Whether a word is spoken at this time, or only a breath is between two."""
        n = bisect_left(self.starts_s, at_s)
        return n > 0 and at_s < self.starts_s[n - 1] + WORD_S

    def tokens(self, from_s: float, until_s: float) -> list[tuple[int, float]]:
        """Token and beginning of each word that lies between two times."""
        first, end = bisect_left(self.starts_s, from_s - 0.02), bisect_left(self.starts_s, until_s - SPOKEN_S)
        return [(FIRST_TOKEN + n % N_WORDS, self.starts_s[n]) for n in range(first, end)]


@dataclass(slots=True)
class _Heard:
    """How far a session's sound was taken, samples."""

    speech: Speech
    offset_s: float
    n: int = 0


@dataclass(slots=True)
class Talkers:
    """The streams of a run, by the name of their session; front ends and engines ask here what was said."""

    heard: dict[FeatureState, _Heard] = field(default_factory=dict)
    said: dict[str, tuple[Speech, float]] = field(default_factory=dict)

    def add(self, session: str, state: FeatureState, speech: Speech, offset_s: float) -> None:
        """A session has begun at `offset_s`, stream time."""
        self.heard[state] = _Heard(speech, offset_s)
        self.said[session] = speech, offset_s


class WordFrontEnd:
    """Frames of one band, and voice where a word is."""

    def __init__(self, talkers: Talkers) -> None:
        self._talkers = talkers

    def extract(self, states: Sequence[FeatureState], samples: Sequence[Tensor]) -> list[Features]:
        """As `FrontEnd.extract`."""
        heard = self._talkers.heard
        return [self._features(heard[state], len(block)) for state, block in zip(states, samples, strict=True)]

    def _features(self, heard: _Heard, n: int) -> Features:
        before, heard.n = heard.n, heard.n + n
        frames = torch.full((heard.n // HOP_LENGTH - before // HOP_LENGTH, 1), LEVEL)
        voice = [
            float(heard.speech.is_voice(heard.offset_s + (i + 0.5) * 512 / SAMPLE_RATE))
            for i in range(before // 512, heard.n // 512)
        ]
        return Features(frames, voice)


class WordEngine:
    """Says the words of a window, and counts what the step would have cost."""

    def __init__(self, talkers: Talkers) -> None:
        self._talkers = talkers
        self.cache_bytes = (0, 0)
        self.known: dict[str, object] = {}
        """Window of each session that has been seen: one that has not is cold."""
        self.n_cold = 0
        """Cold windows since this was last set to 0."""

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """As `Engine.step`."""
        for request in batch:
            self.n_cold += request.session not in self.known
            self.known[request.session] = request.window
        return [self._result(request) for request in batch]

    def forget(self, session: str) -> None:
        """The session is over."""
        self.known.pop(session, None)

    def _result(self, request: StepRequest) -> StepResult:
        speech, offset_s = self._talkers.said.get(request.session, (None, 0.0))
        start_s = offset_s + (request.window_start or 0) / 100
        end_s = start_s + request.log_mel.shape[1] / 100
        words = speech.tokens(start_s, end_s)[len(request.prefix) :] if speech else []
        last_s = words[-1][1] + SPOKEN_S if words else end_s
        return StepResult(
            tokens=tuple(token for token, _ in words),
            logprobs=(-0.05,) * len(words),
            starts_s=tuple(round(max(0.0, at_s - start_s), 3) for at_s in (*(at_s for _, at_s in words), last_s)),
            n_verified=0,
            ended=True,
            no_speech_prob=0.0,
            language="en",
        )
