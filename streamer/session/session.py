"""
The state machine of one session: mel frames and step results in, step requests and events out.

Pure; stream time is the only clock. A window reaches from the start of speech to the newest audio. Committed words are
the decoder's forced prefix, so stable text cannot change. When the window grows too long, its start rolls on to a
committed word, and the words before that word are dropped from the prefix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from streamer.audio.mel import FRAME_S
from streamer.errors import OverloadError
from streamer.protocol.events import Ack, Bye, Event, Flushed, Speech, TurnEnd, TurnEndReason, TurnRevised
from streamer.protocol.options import PAUSE_MS, Update
from streamer.session.acks import Acks, Progress
from streamer.session.audio_window import AudioWindow
from streamer.session.commit_policy import POLICIES, Agreement
from streamer.session.early_ends import EarlyEnds, Hypothesis
from streamer.session.endpointing import ending_pause_ms
from streamer.session.language import TurnLanguage
from streamer.session.levels import raise_quiet
from streamer.session.plausibility import n_believed, worth_showing
from streamer.session.repeated_speech import without_unsaid_rounds
from streamer.session.second_pass import Cutter, Revision, SecondPass
from streamer.session.spec import SessionSpec
from streamer.session.transcript import Transcript
from streamer.session.turn_ends import PendingTurnEnds
from streamer.session.voice_activity import VoiceOptions, VoiceTracker
from streamer.session.window_text import WindowText
from streamer.session.words import SpokenWord, leading, of_whole_characters, said_until_s, spoken_words
from streamer.step import StepRequest, StepResult

MAX_PREFIX = 192
"""Committed tokens in a window from which on it rolls, however short it is: the decoder's context is bounded."""
LONGEST_PREFIX = 320
"""Committed tokens of a window, at most: where the part that is kept at a roll has more, a fresh window begins."""
ADVANCE_S = 0.5
"""Least distance of a fresh window from one that has no room for more text, seconds: no speech fills one so fast."""
MAX_FLUSHES = 256
"""Flushes that wait for the end of a turn: no client has a use for so many."""
LONGEST_HALF = 1 / 3
"""Part of a cut text, at most, that is left out as half a word: what is kept must raise the token budget of the step
that asks for the rest."""
STRAYED_S = 3.0
"""Voice after the last word from which on the prefix is thought to mislead the decoder, seconds."""
SETTLED_TEXT_S = 1.5
"""Age of a word's end from which on the decoder does not read the word again, seconds."""
OVERLONG = 1.5
"""Multiple of `max_turn_s` after which a turn ends even inside a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A request, and the state of the session that is needed to apply its result."""

    request: StepRequest
    window_start_frame: int
    edge_frame: int
    """One past the newest frame in the window."""
    window_id: int
    """The window asked about: a result for a window that the session has left is dropped."""


class Session:
    """
    One stream of speech, from its frames to its turns.

    Args:
        spec: See `SessionSpec`.
    """

    def __init__(self, spec: SessionSpec) -> None:
        options, offset_s = spec.options, spec.offset_s
        self.id, self.options = spec.name, options
        self._window, self._tokenizer = spec.window, spec.model.tokenizer
        self._audio = AudioWindow(spec.model.n_mels, spec.window, offset_s)
        self._voice = VoiceTracker(VoiceOptions(), offset_s)
        self._transcript = Transcript(words=options.words)
        self._agreement = Agreement(POLICIES[options.delay])
        self._early_ends = EarlyEnds()
        self._turn_ends = PendingTurnEnds()
        self._acks = Acks(spec.window.pre_roll_s, offset_s)
        cutter = Cutter(self._audio, self._voice, spec.window)
        self.revises_all = spec.revises_all
        """See `SessionSpec`."""
        self._second_pass = SecondPass(cutter, is_patient=spec.revises_all)
        self._prompt = self._tokenizer.encode(f" {options.prompt}".rstrip())
        self._context = self._tokenizer.encode(f" {spec.context}".rstrip())
        self._language = TurnLanguage(options, is_multilingual=self._tokenizer.multilingual)
        self._flushes: list[int] = []
        self._in_flight, self._ended = False, False
        self.n_steps = 0
        self._begins_sentence = not self._context
        """Whether the next turn begins a sentence: the one before was finished."""
        self._last_probability = 0.0
        """Probability of the last token of the newest text."""
        self._newly_stable: list[SpokenWord] = []
        self._voice_before_s = offset_s
        """Where the voice of the last turn ended, stream time."""
        self._open_window(offset_s)

    # --- input

    def push_frames(self, frames: Tensor, probabilities: Sequence[float]) -> list[Event]:
        """
        Take new audio, at most `MAX_AUDIO_S` seconds.

        Args:
            frames: Mel frames, (n, n_mels).
            probabilities: Voice probabilities of the detector's frames that became complete with them.
        """
        self._audio.append(frames)
        events: list[Event] = []
        for probability in probabilities:
            if self._voice.push(probability):
                events += self._begin_speech()
            elif self._voice.speaking and self._is_at_endpoint():
                events += self._request_turn_end("silence")
            elif self._voice.speaking and self._is_in_inner_pause():
                events += self._commit_in_pause()
        self._voice.forget(self._audio.oldest_s)
        if not self._voice.speaking:
            self._forget_old_audio()
        return [*events, *self._acks.due(self._progress())]

    def flush(self, flush_id: int) -> list[Event]:
        """
        Make the text of everything received so far final, then answer with `Flushed`.

        Raises:
            OverloadError: `MAX_FLUSHES` flushes wait for an answer already.
        """
        if len(self._flushes) >= MAX_FLUSHES:
            raise OverloadError(f"{MAX_FLUSHES} flushes wait for their answer: send fewer", retry_after_s=1.0)
        self._flushes.append(flush_id)
        return self._request_turn_end("flush")

    def end(self, audio_s: float | None = None, *, continues_elsewhere: bool = False) -> list[Event]:
        """
        No more audio comes: make all text final, then say `Bye`.

        Args:
            audio_s: End of the client's audio, stream time in seconds; None: everything received.
            continues_elsewhere: The speech goes on in another session, which starts at this session's last ack. A word
                that the end cuts off is left to that session; two sessions would make two halves of it.
        """
        self._ended = True
        end_s = self.received_s if audio_s is None else audio_s
        self._acks.end(end_s, continues_elsewhere=continues_elsewhere)
        return self._request_turn_end("end")

    def update(self, update: Update) -> None:
        """Change options from now on."""
        self.options = update.over(self.options)
        self._language.ask(self.options)

    # --- state

    @property
    def received_s(self) -> float:
        """End of the received audio, stream time."""
        return self._audio.end_s

    @property
    def lag_s(self) -> float:
        """Audio of the open turn that no step has seen yet, seconds."""
        return max(0, self._target_frame() - self._audio.seen) * FRAME_S if self._voice.speaking else 0.0

    @property
    def is_speaking(self) -> bool:
        """Whether a turn is open."""
        return self._voice.speaking

    @property
    def is_full(self) -> bool:
        """Whether new audio must wait: it would push out audio that no step has seen, or turns wait to be revised."""
        return (self._voice.speaking and self._audio.is_full) or self._second_pass.is_full

    @property
    def n_turns(self) -> int:
        """Turns ended."""
        return self._transcript.n_turns

    @property
    def takes_no_more(self) -> bool:
        """Whether the audio has ended."""
        return self._ended

    @property
    def is_over(self) -> bool:
        """Whether `Bye` was said."""
        return self._has_said_all and not self._second_pass.is_outstanding

    @property
    def _has_said_all(self) -> bool:
        """Whether all audio is transcribed and no more will come."""
        return self._ended and not self._turn_ends and not self._voice.speaking

    def ack(self) -> Ack:
        """How far this session is: a client may forget audio before `stable_s`, even if the daemon is lost."""
        return self._acks.current(self._progress())

    def take_newly_stable(self) -> list[SpokenWord]:
        """Words that became stable since the last call, for statistics."""
        words, self._newly_stable = self._newly_stable, []
        return words

    # --- second pass

    def take_revisions(self) -> list[Revision]:
        """Turns that ask for their second pass since the last call; `revised` answers for each of them."""
        return self._second_pass.take()

    def revised(self, turn: int, event: TurnRevised | None) -> list[Event]:
        """
        A turn has had its second pass; the last one that is waited for after the end lets the session say `Bye`.

        Args:
            turn: Its number. A turn that is not waited for any more changes nothing.
            event: Its new text; None where the text stays, or where there was no second pass.
        """
        if not self._second_pass.settle(turn):
            return []
        events: list[Event] = [event] if event is not None else []
        return [*events, *self._say_bye()] if self._has_said_all else events

    # --- steps

    @property
    def wants_final(self) -> bool:
        """Whether the next step ends a turn."""
        return bool(self._turn_ends)

    def is_due(self, interval_s: float) -> bool:
        """Whether a step is wanted now, given the present interval between partial steps, seconds."""
        if self._in_flight or not self._voice.speaking:
            return False
        edge = self._edge_frame()
        if edge <= self._audio.start:
            return False
        if self._turn_ends or self._early_ends.awaits_rest:
            return True
        if edge < self._target_frame():
            return True  # late: a step does not reach the newest audio, so waiting adds nothing to the step
        fresh_s = (edge - self._audio.seen) * FRAME_S
        paused = self._voice.silence_s >= self._window.pause_s and not self._has_seen_pause()
        return fresh_s > 0 and (paused or fresh_s >= interval_s)

    def next_step(self) -> Step:
        """Begin a step on the present window; one at a time, to be ended by `apply` or `cancel_step`."""
        edge = self._edge_frame()
        self._in_flight = True
        text, audio = self._text, self._audio
        voiced_s = self._voiced_s(audio.stream_s(edge))
        first_voices = self._voice.stretches(audio.start_s, audio.stream_s(edge))
        # (n_mels, n_frames)
        log_mel, gains = raise_quiet(audio.log_mel(edge), [audio.frame(s) - audio.start for s in first_voices])
        request = StepRequest(
            session=self.id,
            log_mel=log_mel,
            gains=gains,
            window_start=audio.start,
            prompt=(*self._prompt, *self._context),
            prefix=text.prefix,
            settled_tokens=text.n_tokens_until(audio.stream_s(edge) - SETTLED_TEXT_S),
            begins_sentence=self._begins_sentence and not self._transcript.has_stable,
            draft=text.draft,
            no_eot_at=text.no_eot_at,
            rests_at=text.rests_at(first_voices[1:]),
            anchor_tokens=text.anchor.n_tokens if text.anchor else 0,
            anchor_s=max(0.0, text.anchor.start_s - audio.start_s) if text.anchor else 0.0,
            language=self._language.of_step(voiced_s, may_end=self._may_end()),
            languages=self._language.languages,
            language_before=self._language.before(voiced_s),
            task=self.options.task,
            keyterms=self.options.keyterms,
            final=self.wants_final,
        )
        return Step(request=request, window_start_frame=audio.start, edge_frame=edge, window_id=audio.id)

    def cancel_step(self) -> None:
        """The step in flight failed; the same audio is asked for again."""
        self._in_flight = False

    def apply(self, step: Step, result: StepResult) -> list[Event]:
        """Take the result of the step in flight."""
        self._in_flight = False
        self.n_steps += 1
        if step.window_id != self._audio.id:
            return []
        self._audio.seen = step.edge_frame
        self._language.apply(step.request, result, self._voiced_s(self._audio.seen_s))
        self._take_words(step, result)
        edge_s = self._audio.seen_s
        if self._early_ends.is_stuck:
            self._make_room()
        elif self._has_strayed(edge_s):
            self._open_window(self._text.committed_end_s)  # a fresh window decodes what follows without those words
            return []
        if self._turn_ends and self._has_seen_turn() and not self._early_ends.awaits_rest:
            if not self._is_inner_pause():
                return self._end_turn()
            self._turn_ends.pop()
            if self._language.is_sure:
                self._commit(self._text.n_spoken, closes=False)  # the step ended in the pause: all words precede it
        events = self._limit_turn()
        if self.options.revise:
            self._second_pass.follow(self._transcript.stable)
        self._roll(edge_s)
        # text in a language that is not sure may be a translation
        tail = worth_showing(self._text.tail, edge_s) if self._language.may_show else []
        return [*events, *self._transcript.show(tail)]

    # --- turns

    def _begin_speech(self) -> list[Event]:
        resumes = self._voice.started_s - self._voice_before_s <= self._window.carry_s
        if not (self._text.has_committed and resumes and self._audio.is_held) or self._language.may_change:
            self._open_window(max(self._voice.started_s - self._window.pre_roll_s, self._voice_before_s))
        return [Speech(state="started", at_s=round(max(self._voice.started_s, self._voice_before_s), 3))]

    def _request_turn_end(self, reason: TurnEndReason) -> list[Event]:
        """End the open turn: at once if the last step has seen all of it, otherwise with the next result."""
        if not self._voice.speaking:
            self._acks.leave_rest(self._progress())
            return self._answer_requests()
        self._turn_ends.request(reason, self._target_frame())
        if self._in_flight or self._early_ends.awaits_rest or not self._has_seen_turn():
            return []
        return self._end_turn()

    def _is_at_endpoint(self) -> bool:
        """Whether the silence is long enough to end the turn, or to ask a step whether it ends the turn."""
        silence_ms = self._voice.silence_s * 1000
        if self.options.endpoint_ms is not None:
            return silence_ms >= self.options.endpoint_ms
        return silence_ms >= PAUSE_MS and not (self._has_seen_pause() and self._goes_on_after(silence_ms))

    def _is_in_inner_pause(self) -> bool:
        """Whether a pause that the last step has seen goes on, where the client names no endpoint."""
        is_pause = self._voice.silence_s >= self._window.pause_s and self._has_seen_pause()
        return is_pause and self.options.endpoint_ms is None and not self._in_flight

    def _commit_in_pause(self) -> list[Event]:
        """Commit the words that are certain by the silence behind them, in the end all: no step comes in a pause."""
        if self._voice.silence_s * 1000 >= PAUSE_MS and not self._early_ends.awaits_rest:
            n = self._text.n_spoken
        else:
            n = self._agreement.certain_at(self._text.tail, self._voice.now_s)
        if not n or not self._language.is_sure:
            return []
        self._commit(n, closes=False)
        return [*self._transcript.show(worth_showing(self._text.tail, self._audio.seen_s))]

    def _goes_on_after(self, pause_ms: float) -> bool:
        """Whether the turn goes on after a pause by the text of the last step, where the client names no endpoint."""
        return pause_ms < ending_pause_ms(self._transcript.text_with(self._text.tail), self._last_probability)

    def _is_inner_pause(self) -> bool:
        """Whether the pending end is a pause that turns out to be inside a sentence."""
        if not self._may_go_on:
            return False
        return self._goes_on_after(self._voice.pause_s(self._audio.stream_s(self._turn_ends.frame)) * 1000)

    def _end_turn(self) -> list[Event]:
        self._commit(self._acks.n_finished(self._text.tail), closes=True)
        reason = self._turn_ends.pop()
        if not self._turn_ends:
            self._acks.leave_rest(self._progress())
        events: list[Event] = [*self._close_turn(reason, self._audio.seen_s)]
        self._voice.stop()
        self._language.end_turn()
        # audio after the last step's edge belongs to the next turn
        self._voice_before_s = min(self._voice.last_voice_s, self._audio.seen_s)
        self._agreement.reset()
        self._audio.leave()
        events.append(Speech(state="stopped", at_s=round(self._voice_before_s, 3)))
        return [*events, *self._after_turn()]

    def _after_turn(self) -> list[Event]:
        """Answer pending requests, or begin the next turn if another end is queued behind the one just reached."""
        if not self._turn_ends:
            return [*self._answer_requests(), *(() if self._ended else self._resume_speech())]
        events = self._resume_speech()
        if self._voice.speaking and self._audio.start < self._turn_ends.frame:
            return events
        self._turn_ends.clear()
        self._acks.leave_rest(self._progress())
        return [*events, *self._answer_requests()]

    def _resume_speech(self) -> list[Event]:
        """Begin the next turn with voice that came during a turn's last step, even if that voice has ceased."""
        unseen_s = self._voice.voiced_s(self._voice_before_s, self._voice.now_s)
        return self._begin_speech() if self._voice.resume(self._voice_before_s, unseen_s) else []

    def _answer_requests(self) -> list[Event]:
        """`Flushed` for each flush, and the last ack with `Bye` after the end."""
        events: list[Event] = [Flushed(id=flush_id) for flush_id in self._flushes]
        self._flushes = []
        return [*events, *self._say_bye()] if self._ended else events

    def _say_bye(self) -> list[Event]:
        """The last ack with `Bye`, unless a turn waits for its second pass."""
        if self._second_pass.is_outstanding:
            return []
        last = self._acks.last()
        return [last, Bye(reason="end", audio_s=last.stable_s, turns=self._transcript.n_turns)]

    def _limit_turn(self) -> list[Event]:
        """End a turn that has no pause where a sentence ends; its window goes on."""
        if not self._text.has_committed or not self._transcript.is_open:
            return []
        length_s = self._transcript.stable_until_s - self._transcript.started_s
        limit_s = self._window.max_turn_s
        if length_s < limit_s or not (self._transcript.ends_sentence or length_s > OVERLONG * limit_s):
            return []
        # marks that follow the last word belong to its turn
        self._commit(next((i for i, word in enumerate(self._text.tail) if word.key), len(self._text.tail)), closes=True)
        return [*self._close_turn("limit", self._transcript.stable_until_s)]

    def _close_turn(self, reason: TurnEndReason, until_s: float) -> list[TurnEnd]:
        """
        End the turn with its stable text, ask for its second pass, and note whether the next words begin a sentence.

        Args:
            reason: Why it ends.
            until_s: End of its sound, stream time.
        """
        words, begins_sentence = list(self._transcript.stable), self._begins_sentence
        self._begins_sentence = self._transcript.ends_sentence or not self._transcript.is_open
        turns = self._transcript.end_turn(self._language.spoken, reason)
        self._second_pass.end_turn(turns, words, until_s, self.options, begins_sentence=begins_sentence)
        return turns

    def _progress(self) -> Progress:
        return Progress(
            received_s=self.received_s,
            final_s=max(self._transcript.stable_until_s, self._voice_before_s),
            speech_start_s=self._voice.started_s if self._voice.speaking else None,
            lag_s=self.lag_s,
        )

    # --- text

    def _take_words(self, step: Step, result: StepResult) -> None:
        """Make the accepted words of a result the tail of the window, and commit the certain ones."""
        result = of_whole_characters(result, self._tokenizer)
        hypothesis = self._hypothesis(step, result)
        words = hypothesis.words
        self._text.set_tail(words)
        last_s = said_until_s(words, self._audio.start_s + step.request.anchor_s)
        self._early_ends.judge(result, hypothesis, self._text, self._voice.voiced_s(last_s, self._audio.seen_s))
        self._last_probability = hypothesis.last_probability
        n_certain = self._agreement.certain(words, self._audio.seen_s) if self._language.is_sure else 0
        self._commit(n_certain, closes=self._closes)

    def _hypothesis(self, step: Step, result: StepResult) -> Hypothesis:
        """What is believed of a result; the last word of a cut text is left out, for it may be half, if it is short."""
        lag_s = self._window.alignment_lag_s
        words = spoken_words(result, self._tokenizer, self._audio.start_s, self._voice.trimmed, lag_s)
        n, is_loop = n_believed(result, step.request.no_eot_at)
        if is_loop:
            self._prompt, self._context = [], []  # the text that led into a repetition loop must not do so again
        is_cut = not result.ended and not is_loop and n == len(result.tokens)
        believed = leading(words, n)
        if is_cut and believed and len(believed[-1].tokens) <= LONGEST_HALF * len(result.tokens):
            believed.pop()
        believed = without_unsaid_rounds(self._text.committed, believed)
        last_probability = math.exp(result.logprobs[n - 1]) if n else 0.0
        return Hypothesis(words=believed, is_cut=is_cut, edge_frame=step.edge_frame, last_probability=last_probability)

    def _voiced_s(self, until_s: float) -> float:
        """Voice of the present speech up to a stream time, seconds."""
        return self._voice.voiced_s(self._voice.started_s, until_s)

    def _may_end(self) -> bool:
        """Whether the next step may be the last one of its turn."""
        return self.wants_final or self._voice.silence_s >= self._window.pause_s

    def _has_strayed(self, edge_s: float) -> bool:
        """Whether `STRAYED_S` of voice follow the words of the window, the prefix included, without any new word."""
        if self._early_ends.is_cut or not self._text.has_committed:
            return False
        return self._voice.voiced_s(self._text.said_until_s, edge_s) >= STRAYED_S

    @property
    def _closes(self) -> bool:
        """Whether the text of the last step is followed by the end of its turn, as far as that is decided."""
        return bool(self._turn_ends) and not self._may_go_on

    @property
    def _may_go_on(self) -> bool:
        """Whether the pending end is a pause, after which the text may say that the turn goes on."""
        return self._turn_ends.is_pause and self.options.endpoint_ms is None

    def _commit(self, n: int, *, closes: bool) -> None:
        """Move the first `n` words of the tail into the stable text; `closes`: with the marks at their end."""
        certain = self._text.commit(n, closes=closes)
        self._transcript.commit(certain)
        self._agreement.committed(certain)
        self._newly_stable += certain

    # --- window

    def _open_window(self, from_s: float) -> None:
        """Begin a window without text at a stream time."""
        if self.n_steps:
            self._context = []  # the context precedes the first window only
        self._audio.open(from_s)
        self._text = WindowText(self._tokenizer)
        self._early_ends.reset()
        self._agreement.reset()

    def _make_room(self) -> None:
        """Commit a text that fills the decoder's context, and decode what follows in a fresh window."""
        edge_s, text = self._audio.seen_s, self._text
        self._commit(len(text.tail), closes=self._closes)
        follows_s = text.committed_end_s if text.has_committed else self._audio.start_s
        self._open_window(min(edge_s, max(follows_s, self._audio.start_s + ADVANCE_S)))

    def _move_window(self, from_s: float) -> None:
        """Begin the window at the first committed word that begins at `from_s`, stream time, or later."""
        start = self._audio.start
        # start at a word, never inside the word before: half a word would be decoded again
        self._audio.move(self._text.drop_before(from_s))
        if self._audio.start > start:
            self._early_ends.moved()

    def _roll(self, edge_s: float) -> None:
        """Move the start of a window that grew too long, or that repeats itself, to a committed word."""
        round_s = self._text.newest_round_s()
        if round_s is not None:
            self._move_window(round_s)  # behind several rounds the decoder loses count
        if not self._audio.is_too_long(edge_s) and len(self._text.prefix) < MAX_PREFIX:
            return
        keep_from_s = edge_s - self._window.keep_s
        if not self._text.has_committed_from(keep_from_s):
            # no committed word in the part that is kept: commit the words before it, they leave the window
            tail = self._text.tail
            n = next((i for i, word in enumerate(tail) if word.start_s >= keep_from_s), len(tail))
            self._commit(n, closes=self._closes)
        if self._early_ends.is_cut and self._text.has_committed:
            keep_from_s = min(keep_from_s, self._text.end_s)  # what follows a cut text is still to be decoded
        self._move_window(keep_from_s)
        if len(self._text.prefix) > LONGEST_PREFIX:
            self._open_window(min(edge_s, self._text.committed_end_s))

    def _forget_old_audio(self) -> None:
        """While nobody speaks, forget audio that no window will need."""
        if not self._text.has_committed or self.received_s - self._voice_before_s > self._window.carry_s:
            self._audio.forget()

    def _target_frame(self) -> int:
        """One past the newest frame with voice or its post-roll."""
        return self._audio.target(self._voice.last_voice_s)

    def _edge_frame(self) -> int:
        """One past the last frame of the next step: the target or the pending turn end, unless it is far away."""
        # audio after a turn end belongs to the next turn: its newest word may be incomplete
        return self._audio.edge(self._turn_ends.frame if self._turn_ends else self._target_frame())

    def _has_seen_turn(self) -> bool:
        """Whether the last step saw the turn up to its pending end, or enough of the pause before it."""
        spare_s = self._window.post_roll_s - self._window.pause_s if self._may_go_on else 0.0
        return self._audio.seen >= self._turn_ends.frame - round(spare_s / FRAME_S) or self._has_seen_pause()

    def _has_seen_pause(self) -> bool:
        return self._audio.has_seen_pause(self._voice.last_voice_s)
