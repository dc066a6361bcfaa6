"""
The open window of one session: what each step is asked, what is believed of its result, and when the window moves.

Pure. A window reaches from the start of speech to the newest audio. Committed words are the decoder's forced prefix, so
stable text cannot change. When the window grows too long, its start rolls on to a committed word, and the words before
that word are dropped from the prefix.
"""

from __future__ import annotations

import math
from collections import deque

from streamer.protocol.options import PAUSE_MS, SessionOptions
from streamer.session.audio_window import AudioWindow
from streamer.session.commit_policy import POLICIES, Agreement
from streamer.session.early_ends import EarlyEnds, Hypothesis
from streamer.session.endpointing import ending_pause_ms
from streamer.session.language import TurnLanguage
from streamer.session.levels import levelled
from streamer.session.plausibility import n_believed, worth_showing
from streamer.session.repeated_speech import without_unsaid_rounds
from streamer.session.spec import SessionSpec
from streamer.session.transcript import Transcript
from streamer.session.voice_activity import VoiceTracker
from streamer.session.window_text import WindowText
from streamer.session.words import SpokenWord, leading, of_whole_characters, said_until_s, spoken_words
from streamer.step import StepRequest, StepResult

MAX_PREFIX = 192
"""Committed tokens in a window from which on it rolls, however short it is: the decoder's context is bounded."""
LONGEST_PREFIX = 320
"""Committed tokens of a window that a step is asked about, at most: where the part that is kept at a roll has more, or
a window that goes on over a pause, a fresh window begins."""
ADVANCE_S = 0.5
"""Least distance of a fresh window from one that has no room for more text, seconds: no speech fills one so fast."""
LONGEST_HALF = 1 / 3
"""Part of a cut text, at most, that is left out as half a word: what is kept must raise the token budget of the step
that asks for the rest."""
STRAYED_S = 3.0
"""Voice after the last word from which on the prefix is thought to mislead the decoder, seconds."""
USUAL_WORD_S = 0.3
"""Length of a word that no step has heard yet, seconds."""
SETTLED_TEXT_S = 1.5
"""Age of a word's end from which on the decoder does not read the word again, seconds."""
MAX_NEW = 1024
"""Stable words that are kept for statistics until they are taken; where nobody takes them, the oldest are dropped."""


class Window:
    """
    The audio and the text of the open window.

    Args:
        spec: See `SessionSpec`.
        audio: Mel frames of the session.
        voice: Voice activity of the session.
        language: Language of its turns.
        transcript: Takes the words that are committed.
    """

    def __init__(
        self,
        spec: SessionSpec,
        audio: AudioWindow,
        voice: VoiceTracker,
        language: TurnLanguage,
        transcript: Transcript,
    ) -> None:
        self._session, self._options, self._tokenizer = spec.name, spec.window, spec.model.tokenizer
        self._audio, self._voice, self._language, self._transcript = audio, voice, language, transcript
        self._policy = POLICIES[spec.options.delay]
        self._agreement = Agreement(self._policy)
        self._early_ends = EarlyEnds()
        self._prompt = self._tokenizer.encode(f" {spec.options.prompt}".rstrip())
        self._context = self._tokenizer.encode(f" {spec.context}".rstrip())
        self._has_read = False
        """Whether any step of the session was read."""
        self._last_probability = 0.0
        """Probability of the last token of the newest text."""
        self._newly_stable: deque[SpokenWord] = deque(maxlen=MAX_NEW)
        self.open(spec.offset_s)

    def open(self, from_s: float) -> None:
        """Begin a window without text at a stream time."""
        if self._has_read:
            self._context = []  # the context precedes the first window only
        self._audio.open(from_s)
        self.text = WindowText(self._tokenizer)
        """Its words."""
        self._early_ends.reset()
        self._agreement.reset()

    def leave(self) -> None:
        """A turn has ended: the results of steps in flight and earlier hypotheses do not apply to the next one."""
        self._agreement.reset()
        self._audio.leave()

    # --- steps

    @property
    def awaits_rest(self) -> bool:
        """Whether the newest text stops too early, so that another step is due to ask for the rest."""
        return self._early_ends.awaits_rest

    def request(self, edge: int, options: SessionOptions, *, may_end: bool, final: bool) -> StepRequest:
        """
        What the next step is asked.

        Args:
            edge: One past the last frame that it sees.
            options: Of the session, as they are now.
            may_end: Whether the turn may end without another step.
            final: Whether the step ends the turn.
        """
        text, audio, edge_s = self.text, self._audio, self._audio.stream_s(edge)
        voiced_s = self._voiced_s(edge_s)
        log_mel, gains = levelled(audio, self._voice, audio.start, edge)
        anchor = text.anchor
        return StepRequest(
            session=self._session,
            log_mel=log_mel,
            gains=gains,
            window_start=audio.start,
            prompt=(*self._prompt, *self._context),
            prefix=text.prefix,
            settled_tokens=text.n_tokens_until(edge_s - SETTLED_TEXT_S),
            begins_sentence=self._transcript.begins_sentence and not self._transcript.stable,
            draft=text.draft,
            no_eot_at=text.no_eot_at,
            rests_at=text.rests_at(self._voice.stretches(audio.start_s, edge_s)[1:]),
            anchor_tokens=len(anchor.tokens) if anchor else 0,
            anchor_s=max(0.0, anchor.start_s - audio.start_s) if anchor else 0.0,
            language=self._language.of_step(voiced_s, may_end=may_end),
            languages=self._language.languages,
            language_before=self._language.before(voiced_s),
            task=options.task,
            keyterms=options.keyterms,
            final=final,
        )

    def read(self, request: StepRequest, result: StepResult, *, closes: bool) -> bool:
        """
        Take the result of a step that saw the window up to `AudioWindow.seen`, and commit the words that are certain.

        Args:
            request: Of the step.
            result: Of the step.
            closes: Whether the end of the turn follows its text, as far as that is decided.

        Returns:
            Whether the words are to be believed; if not, a fresh window decodes what follows the committed ones.
        """
        self._has_read = True
        self._language.apply(request, result, self._voiced_s(self._audio.seen_s))
        self._take_words(request, of_whole_characters(result, self._tokenizer), closes=closes)
        if self._early_ends.is_stuck:
            self._make_room(closes=closes)
        elif self._has_strayed():
            # the attention of the last word may lie in what was not found
            self.open(said_until_s(self.text.committed, self.text.committed_end_s))
            return False
        return True

    def _voiced_s(self, until_s: float) -> float:
        """Voice of the present speech up to a stream time, seconds."""
        return self._voice.voiced_s(self._voice.started_s, until_s)

    # --- words

    @property
    def ending_pause_ms(self) -> int:
        """Silence that ends the open turn, by its text, where the client names no endpoint, in milliseconds."""
        return ending_pause_ms(self._transcript.text_with(self.text.tail), self._last_probability)

    @property
    def waits_from_s(self) -> float | None:
        """
        Stream time since which something that was said waits to be stable; None without it, and where words have time.

        The end of the first word that is not stable, or of what may be a word in the voice behind the stable ones.
        """
        if self._policy.is_patient or not self.text.has_words:
            return None
        if (end_s := self.text.unstable_from_s) is not None:
            return end_s
        voices_s = self._voice.stretches(self.text.said_until_s, self._audio.end_s)
        return voices_s[0] + USUAL_WORD_S if voices_s else None

    @property
    def visible_tail(self) -> list[SpokenWord]:
        """The words of the tail that are shown."""
        # text in a language that is not sure may be a translation
        return worth_showing(self.text.tail, self._audio.seen_s) if self._language.may_show else []

    def take_newly_stable(self) -> list[SpokenWord]:
        """Words that became stable since the last call, for statistics."""
        words = list(self._newly_stable)
        self._newly_stable.clear()
        return words

    def commit(self, n: int, *, closes: bool) -> None:
        """
        Move the first words of the tail into the stable text.

        Args:
            n: How many.
            closes: Whether the marks at their end are committed with them.
        """
        certain = self.text.commit(n, closes=closes)
        self._transcript.commit(certain)
        self._agreement.committed(certain)
        self._newly_stable += certain

    def commit_spoken(self) -> bool:
        """Commit all spoken words, before a pause inside a turn; whether there were any."""
        return self._commit_in_pause(self.text.n_spoken)

    def commit_as_silence_lasts(self) -> bool:
        """Commit the words that are certain by the silence behind them, in the end all: no step comes in a pause."""
        if self._voice.silence_s * 1000 >= PAUSE_MS and not self.awaits_rest:
            return self.commit_spoken()
        return self._commit_in_pause(self._agreement.certain_at(self.text.tail, self._voice.now_s))

    def _commit_in_pause(self, n: int) -> bool:
        if not n or not self._language.is_sure:
            return False
        self.commit(n, closes=False)
        self.leave_room()
        return True

    def _take_words(self, request: StepRequest, result: StepResult, *, closes: bool) -> None:
        """Make the believed words of a result the tail of the window, and commit the certain ones."""
        hypothesis = self._hypothesis(request, result)
        words = hypothesis.words
        self.text.set_tail(words)
        last_s = said_until_s(words, self._audio.start_s + request.anchor_s)
        self._early_ends.judge(result, hypothesis, self.text, self._voice.voiced_s(last_s, self._audio.seen_s))
        self._last_probability = hypothesis.last_probability
        n_certain = self._agreement.certain(words, self._audio.seen_s) if self._language.is_sure else 0
        self.commit(n_certain, closes=closes)

    def _hypothesis(self, request: StepRequest, result: StepResult) -> Hypothesis:
        """What is believed of a result; a short last word of a cut text is left out, since it may be half a word."""
        lag_s = self._options.alignment_lag_s
        words = spoken_words(result, self._tokenizer, self._audio.start_s, self._voice.trimmed, lag_s)
        n, is_loop = n_believed(result, request.no_eot_at)
        if is_loop:
            self._prompt, self._context = [], []  # the text that led into a repetition loop must not do so again
        is_cut = not result.ended and not is_loop and n == len(result.tokens)
        believed = leading(words, n)
        if is_cut and believed and len(believed[-1].tokens) <= LONGEST_HALF * len(result.tokens):
            believed.pop()
        return Hypothesis(
            words=without_unsaid_rounds(self.text.committed, believed),
            is_cut=is_cut,
            edge_frame=self._audio.seen,
            last_probability=math.exp(result.logprobs[n - 1]) if n else 0.0,
        )

    # --- where it begins

    def roll(self, *, closes: bool) -> None:
        """Move the start of a window that is too long or repeats itself to a committed word; `closes` as for `read`."""
        round_s = self.text.newest_round_s()
        if round_s is not None:
            self._move(round_s)  # behind several rounds the decoder loses count
        if not self._audio.is_too_long and len(self.text.prefix) < MAX_PREFIX:
            return
        self._move(self._kept_from_s(closes=closes))
        self.leave_room()

    def leave_room(self) -> None:
        """Begin a fresh window behind committed words that leave no room for more."""
        if len(self.text.prefix) > LONGEST_PREFIX:
            self.open(min(self._audio.seen_s, self.text.committed_end_s))

    def _kept_from_s(self, *, closes: bool) -> float:
        """Start of the part that is kept at a roll, stream time; words before it are committed if none in it is."""
        from_s = self._audio.seen_s - self._options.keep_s
        if not self.text.has_committed_from(from_s):
            self.commit(self.text.n_before(from_s), closes=closes)
        if self._early_ends.is_cut and self.text.has_committed:
            return min(from_s, self.text.end_s)  # what follows a cut text is still to be decoded
        return from_s

    def _move(self, from_s: float) -> None:
        """Begin the window at the first committed word that begins at `from_s`, stream time, or later."""
        start = self._audio.start
        # start at a word, never inside the word before: half a word would be decoded again
        self._audio.move(self.text.drop_before(from_s))
        if self._audio.start > start:
            self._early_ends.moved()

    def _make_room(self, *, closes: bool) -> None:
        """Commit a text that fills the decoder's context, and decode what follows in a fresh window."""
        self.commit(len(self.text.tail), closes=closes)
        follows_s = self.text.committed_end_s if self.text.has_committed else self._audio.start_s
        self.open(min(self._audio.seen_s, max(follows_s, self._audio.start_s + ADVANCE_S)))

    def _has_strayed(self) -> bool:
        """Whether `STRAYED_S` of voice follow the words of the window, the prefix included, without any new word."""
        if self._early_ends.is_cut or not self.text.has_committed:
            return False
        return self._voice.voiced_s(self.text.said_until_s, self._audio.seen_s) >= STRAYED_S
