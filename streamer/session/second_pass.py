"""
The second pass of one session: which sound of a turn is decoded once more, and what becomes of the result. Pure.

A turn is decoded as a whole, with nothing settled and its live text as draft: in one window where it fits, otherwise in
parts that are cut in a pause between words. `Cutter` takes the sound of each part while the session still holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import UNSET
from torch import Tensor

from streamer.protocol.events import TurnEnd, TurnRevised
from streamer.protocol.options import SessionOptions, Task
from streamer.session.audio_window import AudioWindow, WindowOptions
from streamer.session.levels import levelled
from streamer.session.plausibility import n_believed
from streamer.session.repeated_speech import LONGEST_ROUND
from streamer.session.spec import ModelFacts
from streamer.session.transcript import append_word, beginning_at_a_word, text_of, told_words
from streamer.session.voice_activity import Spans, VoiceTracker, trimmed
from streamer.session.words import SpokenWord, key_of, of_whole_characters, spoken_words
from streamer.step import StepRequest, StepResult
from streamer.text.repetition import repeats

PART_S = 25.0
"""Sound after which a turn that goes on is cut, seconds: the session holds 30 s, and cuts at stable words alone."""
MAX_OUTSTANDING = 4
"""Turns of a recording that may wait for their second pass; at this number no more of its audio is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Sound of a turn that fits into one window, and what was said in it."""

    log_mel: Tensor
    """Log10 mel power plus gains, (n_mels, n_frames)."""
    gains: tuple[float, ...]
    """Of its stretches of speech, as in a `StepRequest`."""
    start_s: float
    """Stream time of the first frame."""
    voiced: Spans
    """Spans of voice in the part, stream time."""
    text: str
    """The live text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A turn that waits for its second pass."""

    turn: TurnEnd
    parts: tuple[Part, ...]
    model: str
    """Name of the model that was asked for; empty: the daemon's choice."""
    prompt: str
    keyterms: tuple[str, ...]
    task: Task
    has_words: bool
    """Whether the client asked for words."""
    begins_sentence: bool
    """Whether the turn before was finished."""

    def requests(self, model: ModelFacts, session: str) -> list[StepRequest]:
        """
        A step for each part; none where the model does not know the language of the turn, or the turn repeats itself.

        A window is seen once, so no cached text or audio has a part in it. Live text, which hears a phrase round
        by round, knows better how often it was said.

        Args:
            model: Decodes the parts.
            session: Key of the engine's cache.
        """
        keys = [key_of(word) for word in self.turn.text.split()]
        if self.turn.language not in model.tokenizer.languages or repeats(keys, LONGEST_ROUND):
            return []
        return [
            self._request(part, model, session, begins_sentence=self.begins_sentence and i == 0)
            for i, part in enumerate(self.parts)
        ]

    def _request(self, part: Part, model: ModelFacts, session: str, *, begins_sentence: bool) -> StepRequest:
        return StepRequest(
            session=session,
            log_mel=part.log_mel,
            gains=part.gains,
            prompt=tuple(model.tokenizer.encode(f" {self.prompt}".rstrip())),
            draft=tuple(model.tokenizer.encode(part.text)),
            begins_sentence=begins_sentence,
            language=self.turn.language,
            task=self.task,
            keyterms=self.keyterms,
        )

    def apply(self, results: Sequence[StepResult], model: ModelFacts) -> TurnRevised | None:
        """
        The revised turn; None where its text stays.

        The live text also stays where a result is not to be believed: no speech, a repetition loop, a text that was
        cut, or none.

        Args:
            results: One for each request.
            model: Decoded them.
        """
        if not results or not all(map(_is_whole, results)):
            return None
        words: list[SpokenWord] = []
        for part, result in zip(self.parts, results, strict=True):
            for word in _words(part, result, model):
                append_word(words, word)
        words = beginning_at_a_word(words)
        text = text_of(words).strip()
        if not text or text == self.turn.text:
            return None
        return TurnRevised(
            turn=self.turn.turn,
            text=text,
            language=self.turn.language,
            reason="text",
            model=model.name,
            words=told_words(words, len(words)) if self.has_words else UNSET,
        )


def _is_whole(result: StepResult) -> bool:
    return result.ended and bool(result.tokens) and n_believed(result, None) == (len(result.tokens), False)


def _words(part: Part, result: StepResult, model: ModelFacts) -> list[SpokenWord]:
    def within_voice(start_s: float, end_s: float) -> tuple[float, float]:
        return trimmed(part.voiced, start_s, end_s)

    whole = of_whole_characters(result, model.tokenizer)
    return spoken_words(whole, model.tokenizer, part.start_s, within_voice, model.alignment_lag_s)


@dataclass(slots=True)
class _CutTurn:
    """The open turn, and what is cut off it already."""

    from_s: float
    """Where the sound begins that no part holds, stream time."""
    n_words: int = 0
    """Words in the parts."""
    parts: list[Part] = field(default_factory=list)
    is_lost: bool = False
    """Whether sound of the turn was forgotten before it was cut."""


class Cutter:
    """
    Cuts the sound of turns into parts that fit into one window.

    Args:
        audio: Mel frames of the session.
        voice: Voice activity of the session.
        window: How much sound around the voice belongs to a part.
    """

    def __init__(self, audio: AudioWindow, voice: VoiceTracker, window: WindowOptions) -> None:
        self._audio, self._voice, self._window = audio, voice, window
        self._open = _CutTurn(voice.started_s)

    def follow(self, words: Sequence[SpokenWord]) -> None:
        """Cut a part off an open turn that has grown long; `words`: its stable words."""
        new = words[self._open.n_words :]
        if len(new) < 2:
            return
        start_s, _ = self._voice.trimmed(self._open.from_s, new[-1].end_s)
        if new[-1].end_s - start_s < PART_S:
            return
        at = _longest_pause(new, start_s + PART_S / 2, start_s + PART_S)
        self._cut(new[:at], (new[at - 1].end_s + new[at].start_s) / 2)

    def end_turn(self, words: Sequence[SpokenWord], until_s: float) -> tuple[Part, ...]:
        """
        All parts of the turn that ends; none where its sound was not held to its end.

        Args:
            words: All words of the turn.
            until_s: End of its sound, stream time; the next turn begins there.
        """
        self._cut(words[self._open.n_words :], until_s)
        ended, self._open = self._open, _CutTurn(until_s)
        return () if ended.is_lost else tuple(ended.parts)

    def skip(self, until_s: float) -> None:
        """Take no part of the sound up to a stream time."""
        self._open = _CutTurn(until_s)

    def _cut(self, words: Sequence[SpokenWord], until_s: float) -> None:
        """Make a part of the sound up to a stream time, without the silence around its voice."""
        turn, options = self._open, self._window
        first_s, last_s = self._voice.trimmed(turn.from_s, until_s)
        start = self._audio.frame(max(turn.from_s, first_s - options.pre_roll_s))
        end = min(self._audio.frame(min(until_s, last_s + options.post_roll_s)), self._audio.frame(self._audio.end_s))
        if words and start < end:
            # spans of voice are forgotten with their sound, words are not
            begins = min(start, self._audio.frame(words[0].start_s))
            turn.is_lost = turn.is_lost or begins < self._audio.frame(self._audio.oldest_s)
            if not turn.is_lost:
                turn.parts.append(self._part(words, start, end))
        turn.from_s, turn.n_words = until_s, turn.n_words + len(words)

    def _part(self, words: Sequence[SpokenWord], start: int, end: int) -> Part:
        start_s, end_s = self._audio.stream_s(start), self._audio.stream_s(end)
        log_mel, gains = levelled(self._audio, self._voice, start, end)
        return Part(
            log_mel=log_mel,
            gains=gains,
            start_s=start_s,
            voiced=self._voice.spans(start_s, end_s),
            text=text_of(words),
        )


def _longest_pause(words: Sequence[SpokenWord], from_s: float, to_s: float) -> int:
    """Index of the word, not the first, before which the pause is longest: between two stream times, or anywhere."""
    within = [i for i in range(1, len(words)) if from_s <= words[i].start_s <= to_s]
    return max(within or range(1, len(words)), key=lambda i: words[i].start_s - words[i - 1].end_s)


class SecondPass:
    """
    The turns of one session that wait for their second pass.

    Args:
        cutter: Cuts the sound of the turns.
        is_patient: Whether no turn may miss its second pass: the audio waits for it.
    """

    def __init__(self, cutter: Cutter, *, is_patient: bool) -> None:
        self._cutter, self._is_patient = cutter, is_patient
        self._new: list[Revision] = []
        self._outstanding: set[int] = set()

    @property
    def is_outstanding(self) -> bool:
        """Whether a turn waits."""
        return bool(self._outstanding)

    @property
    def is_full(self) -> bool:
        """Whether no more audio is to be taken before a turn has had its second pass."""
        return self._is_patient and len(self._outstanding) >= MAX_OUTSTANDING

    def follow(self, words: Sequence[SpokenWord]) -> None:
        """See the stable words of the open turn."""
        self._cutter.follow(words)

    def end_turn(
        self,
        turns: Sequence[TurnEnd],
        words: Sequence[SpokenWord],
        until_s: float,
        options: SessionOptions,
        *,
        begins_sentence: bool,
    ) -> None:
        """
        Ask for the second pass of a turn that has ended, unless it has no text or its sound is lost.

        Args:
            turns: The turn; none where nothing was shown.
            words: Its words.
            until_s: End of its sound, stream time.
            options: Of the session.
            begins_sentence: Whether the turn before was finished.
        """
        if not (turns and options.revise):
            self._cutter.skip(until_s)
            return
        parts = self._cutter.end_turn(words, until_s)
        for turn in turns:
            if parts:
                self._outstanding.add(turn.turn)
                self._new.append(_revision(turn, parts, options, begins_sentence=begins_sentence))

    def take(self) -> list[Revision]:
        """The turns that ask for their second pass since the last call."""
        new, self._new = self._new, []
        return new

    def settle(self, turn: int) -> bool:
        """A turn has had its second pass, or will have none; whether it was waited for."""
        was_outstanding = turn in self._outstanding
        self._outstanding.discard(turn)
        return was_outstanding


def _revision(turn: TurnEnd, parts: tuple[Part, ...], options: SessionOptions, *, begins_sentence: bool) -> Revision:
    return Revision(
        turn=turn,
        parts=parts,
        model=options.revise if isinstance(options.revise, str) else "",
        prompt=options.prompt,
        keyterms=options.keyterms,
        task=options.task,
        has_words=options.words,
        begins_sentence=begins_sentence,
    )
