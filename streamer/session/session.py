"""
One stream of speech: what it has heard, what is certain, and when it wants the next step.

Pure: mel frames, voice probabilities and step results in, step requests and events out; stream time is the only
clock. A window reaches from the start of speech to the newest sound. Committed words are its forced prefix, so
stable text cannot change; when the window grows too long, its start rolls on to a committed word and the words
before it become the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from streamer.audio.mel import window_gain
from streamer.protocol.events import Ack, Bye, Event, Flushed, Speech, TurnEndReason
from streamer.protocol.options import SessionOptions, Update
from streamer.session.audio_window import CAPACITY_S, FRAME_S, SoundWindow, WindowOptions
from streamer.session.commit_policy import POLICIES, Agreement
from streamer.session.plausibility import n_believed, worth_showing
from streamer.session.transcript import Transcript
from streamer.session.turn_ends import Closing
from streamer.session.voice_activity import VoiceOptions, VoiceTracker
from streamer.session.window_text import WindowText
from streamer.session.words import SpokenWord, leading, spoken_words
from streamer.step import StepRequest, StepResult
from streamer.text.tokenizer import Tokenizer

MAX_PREFIX = 192
"""Committed tokens in a window, after which it rolls however short it is: the decoder's context is bounded."""
NOTICE_S = 0.2
"""Voice may have begun so long before it is noticed."""
EARLY_END_S = 1.2
"""Voice beyond the last word after which a text that ended is not believed."""
STRAYED_S = 3.0
"""Voice beyond the last word after which the words so far are thought to lead the decoder astray."""
MAX_ASKED_AGAIN = 3
"""Times that a text which ends too early is asked for again on the same sound."""
SETTLE_LANGUAGE_S = 4.0
"""Sound after which a detected language is kept for the session."""
SETTLED_TEXT_S = 1.5
"""What a word means to the words after it is settled so long after its end."""
UNFINISHED_S = 0.2
"""A word that reaches so near to where the sound is cut off may go on beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A request and what the session must know to use its result."""

    request: StepRequest
    window_start_frame: int
    edge_frame: int
    """One past the newest frame in the window."""
    window_id: int
    """Results for a window that has been left are dropped."""


class Session:
    """
    Args:
        session_id: Names the session to the engine.
        options: What the client asked for.
        window: See `WindowOptions`.
        tokenizer: Of the model.
        n_mels: Mel bands of the model.
        offset_s: Stream time of the first sample: not 0 where a client resumes.
        context: Text before the first sample.
    """

    def __init__(
        self,
        session_id: str,
        options: SessionOptions,
        window: WindowOptions,
        tokenizer: Tokenizer,
        n_mels: int,
        *,
        offset_s: float = 0.0,
        context: str = "",
    ) -> None:
        self.id, self.options = session_id, options
        self._window, self._tokenizer = window, tokenizer
        self._sound = SoundWindow(n_mels, window, offset_s)
        self._voice = VoiceTracker(VoiceOptions(), offset_s)
        self._transcript = Transcript(words=options.words)
        self._agreement = Agreement(POLICIES[options.delay])
        self._prompt = self._tokenizer.encode(f" {options.prompt}".rstrip())
        self._context = self._tokenizer.encode(f" {context}".rstrip())
        self._language = None if options.language == "auto" else options.language
        self._in_flight = False
        self._goes_on = False
        """Whether the newest text ended too early, and another step is to ask for the rest."""
        self._n_asked_again, self._asked_again_at = 0, 0
        self._closing = Closing()
        self._flushes: list[int] = []
        self._ended, self._goes_on_elsewhere = False, False
        self._audio_s = offset_s
        self.n_steps = 0
        self._newly_stable: list[SpokenWord] = []
        self._acked_s = offset_s
        self._spoken_language = ""
        self._voice_before_s = offset_s
        self._open_window(offset_s)

    # --- input

    def hear(self, frames: Tensor, probabilities: Sequence[float]) -> list[Event]:
        """Take new mel frames (n, n_mels) and the voice probabilities that became known with them."""
        self._sound.hear(frames)
        events: list[Event] = []
        for probability in probabilities:
            if self._voice.push(probability):
                events += self._begin_speech()
            elif self._voice.speaking and self._voice.silence_s * 1000 >= self.options.endpoint_ms:
                events += self._close("silence")
        if not self._voice.speaking:
            self._idle()
        if self.received_s - self._acked_s >= 0.5:
            self._acked_s = self.received_s
            events.append(self.ack())
        return events

    def flush(self, flush_id: int) -> list[Event]:
        """Make everything heard so far final, then answer with `Flushed`."""
        self._flushes.append(flush_id)
        return self._close("flush")

    def end(self, audio_s: float | None = None, *, goes_on: bool = False) -> list[Event]:
        """
        No more audio comes: make everything final, then say `Bye`.

        Args:
            audio_s: How much of what was heard was real; None: all.
            goes_on: The speaker does, and another session will hear it from this one's last ack on. A word that was
                cut off is left to that one: the first half here and the second half there would be two.
        """
        self._ended, self._goes_on_elsewhere = True, goes_on
        self._audio_s = self.received_s if audio_s is None else audio_s
        return self._close("end")

    def update(self, update: Update) -> None:
        """Change options from now on."""
        self.options = update.over(self.options)
        if update.language is not None:
            self._language = None if update.language == "auto" else update.language

    # --- steps

    @property
    def received_s(self) -> float:
        """Stream time heard so far."""
        return self._sound.heard_s

    @property
    def lag_s(self) -> float:
        """Sound of the open turn that no step has seen yet, seconds."""
        return max(0, self._target_frame() - self._sound.seen) * FRAME_S if self._voice.speaking else 0.0

    @property
    def is_speaking(self) -> bool:
        """Whether a turn is open."""
        return self._voice.speaking

    @property
    def is_full(self) -> bool:
        """Whether more sound, `MAX_HEARD_S` at a time, would push out what no step has seen: it must wait."""
        return self._voice.speaking and self._sound.is_full

    @property
    def n_turns(self) -> int:
        """Turns ended."""
        return self._transcript.n_turns

    @property
    def is_over(self) -> bool:
        """Whether `Bye` was said."""
        return self._ended and not self._closing.is_asked and not self._voice.speaking

    @property
    def wants_final(self) -> bool:
        """Whether the next step ends a turn."""
        return self._closing.is_asked

    def is_due(self, interval_s: float) -> bool:
        """Whether a step is wanted now, given the present interval between partial steps."""
        if self._in_flight or not self._voice.speaking:
            return False
        edge = self._edge_frame()
        if edge <= self._sound.start:
            return False
        if self._closing.is_asked or self._goes_on:
            return True
        if edge < self._target_frame():
            return True  # late: a step does not reach the newest sound, and waiting brings nothing new into it
        fresh_s = (edge - self._sound.seen) * FRAME_S
        paused = self._voice.silence_s >= self._window.pause_s and not self._has_seen_pause()
        return fresh_s > 0 and (paused or fresh_s >= interval_s)

    def next_step(self) -> Step:
        """The request for what is heard now; one at a time, to be answered by `apply` or `failed`."""
        edge = self._edge_frame()
        self._in_flight = True
        text, sound = self._text, self._sound
        log_mel = sound.log_mel(edge)
        gain = window_gain(float(log_mel.max()))
        request = StepRequest(
            session=self.id,
            log_mel=log_mel + gain if gain else log_mel,
            gain=gain,
            window_start=sound.start,
            prompt=(*self._prompt, *self._context),
            prefix=text.prefix,
            settled_tokens=text.n_tokens_until(sound.stream_s(edge) - SETTLED_TEXT_S),
            draft=text.draft,
            no_eot_at=text.no_eot_at,
            anchor_tokens=text.anchor.n_tokens if text.anchor else 0,
            anchor_s=max(0.0, text.anchor.start_s - sound.start_s) if text.anchor else 0.0,
            language=self._language,
            task=self.options.task,
            keyterms=self.options.keyterms,
            final=self.wants_final,
        )
        return Step(request=request, window_start_frame=sound.start, edge_frame=edge, window_id=sound.id)

    def failed(self) -> None:
        """The step in flight came to nothing; the same sound will be asked for again."""
        self._in_flight = False

    def apply(self, step: Step, result: StepResult) -> list[Event]:
        """Take the result of the step in flight."""
        self._in_flight = False
        self.n_steps += 1
        if step.window_id != self._sound.id:
            return []
        self._sound.seen = step.edge_frame
        self._settle_language(result, step)
        edge_s = self._sound.seen_s
        words = self._accepted_words(step, result)
        self._text.hear(words)
        self._goes_on = self._ends_early(step, result, words) and self._may_go_on(step)
        self._commit(self._agreement.certain(words, edge_s))
        if self._has_strayed(edge_s):
            self._open_window(self._text.committed_end_s)  # without those words, what follows is heard for itself
            return []
        if self._closing.is_asked and self._is_heard_out() and not self._goes_on:
            return self._finish_turn()
        events = self._limit_turn()
        self._roll(edge_s)
        return [*events, *self._transcript.show(worth_showing(self._text.tail, edge_s))]

    def take_newly_stable(self) -> list[SpokenWord]:
        """Words that became stable since the last call, for statistics."""
        words, self._newly_stable = self._newly_stable, []
        return words

    def ack(self) -> Ack:
        """How far this session is: a client may forget sound before `stable_s`, even if the daemon is lost."""
        if self._voice.speaking:
            begun_s = self._voice.started_s - self._window.pre_roll_s
        else:
            # what is silence so far may turn out to be the beginning of a word
            begun_s = self.received_s - self._window.pre_roll_s - NOTICE_S
        stable_s = max(self._transcript.stable_until_s, self._voice_before_s, begun_s)
        return Ack(received_s=round(self.received_s, 3), stable_s=round(stable_s, 3), lag_s=round(self.lag_s, 3))

    # --- turns

    def _begin_speech(self) -> list[Event]:
        resumes = self._voice.started_s - self._voice_before_s <= self._window.carry_s
        if not (self._text.has_committed and resumes and self._sound.is_held):
            self._open_window(max(self._voice.started_s - self._window.pre_roll_s, self._voice_before_s))
        return [Speech(state="started", at_s=round(max(self._voice.started_s, self._voice_before_s), 3))]

    def _close(self, reason: TurnEndReason) -> list[Event]:
        """End the open turn: at once if the last step has heard all of it, else with the next result."""
        if not self._voice.speaking:
            self._leave_rest()
            return self._after_turn()
        self._closing.ask(reason, self._target_frame())
        if self._in_flight or self._goes_on or not self._is_heard_out():
            return []
        return self._finish_turn()

    def _finish_turn(self) -> list[Event]:
        self._commit(self._n_finished())
        reason = self._closing.done()
        if not self._closing.is_asked:
            self._leave_rest()
        events: list[Event] = [*self._transcript.end_turn(self._spoken_language, reason)]
        self._voice.stop()
        # sound that came after the last step's edge belongs to the next turn
        self._voice_before_s = min(self._voice.last_voice_s, self._sound.seen_s)
        self._agreement.reset()
        self._sound.leave()
        events.append(Speech(state="stopped", at_s=round(self._voice_before_s, 3)))
        return [*events, *self._go_on()]

    def _go_on(self) -> list[Event]:
        """What follows a turn: an answer to who waits for it, unless that is to close the next one too."""
        if not self._closing.is_asked:
            return [*self._after_turn(), *(() if self._ended else self._speak_on())]
        events = self._speak_on()
        if self._voice.speaking and self._sound.start < self._closing.frame:
            return events
        self._closing.withdraw()
        self._leave_rest()
        return [*events, *self._after_turn()]

    def _n_finished(self) -> int:
        """Words of the tail that end with the turn: all, unless the last is left to another session."""
        tail = self._text.tail
        limit_s = self._audio_s - UNFINISHED_S
        n_cut_off = sum(1 for word in tail if word.end_s > limit_s) if self._goes_on_elsewhere else 0
        return len(tail) - n_cut_off

    def _leave_rest(self) -> None:
        """Sound that the client must keep for another session does not count as heard."""
        if self._goes_on_elsewhere:
            self._audio_s = min(self._audio_s, self.ack().stable_s)

    def _speak_on(self) -> list[Event]:
        """Voice that came while the last step of a turn ran begins the next turn, even if it has ceased since."""
        unseen_s = self._voice.voiced_s(self._voice_before_s, self._voice.now_s)
        return self._begin_speech() if self._voice.resume(self._voice_before_s, unseen_s) else []

    def _after_turn(self) -> list[Event]:
        events: list[Event] = [Flushed(id=flush_id) for flush_id in self._flushes]
        self._flushes = []
        if self._ended:
            audio_s = round(self._audio_s, 3)
            # silence that was put behind the audio may have been acknowledged already: acks never go back
            received_s = max(audio_s, round(self._acked_s, 3))
            events.append(Ack(received_s=received_s, stable_s=audio_s, lag_s=0.0))
            events.append(Bye(reason="end", audio_s=audio_s, turns=self._transcript.n_turns))
        return events

    def _limit_turn(self) -> list[Event]:
        """End a turn that has no pause where a sentence ends; its window goes on."""
        if not self._text.has_committed or not self._transcript.is_open:
            return []
        length_s = self._transcript.stable_until_s - self._transcript.started_s
        limit_s = self._window.max_turn_s
        if length_s < limit_s or not (self._transcript.ends_sentence or length_s > 1.5 * limit_s):
            return []
        return [*self._transcript.end_turn(self._spoken_language, "limit")]

    # --- text

    def _accepted_words(self, step: Step, result: StepResult) -> list[SpokenWord]:
        """The words of a result that are believed."""
        lag_s = self._window.alignment_lag_s
        words = spoken_words(result, self._tokenizer, self._sound.start_s, self._voice.trimmed, lag_s)
        n, circles = n_believed(result, step.request.no_eot_at)
        if circles:
            self._prompt, self._context = [], []  # what led into the circles must not do so again
        return leading(words, n)

    def _settle_language(self, result: StepResult, step: Step) -> None:
        """Detection goes on until a window has some seconds of sound; then the session keeps its language."""
        self._spoken_language = result.language
        asked = step.request.language is None and self._language is None
        if asked and (step.edge_frame - step.window_start_frame) * FRAME_S >= SETTLE_LANGUAGE_S:
            self._language = result.language

    def _ends_early(self, step: Step, result: StepResult, words: Sequence[SpokenWord]) -> bool:
        """Whether voice was heard in the step well beyond the last word of a text that the decoder ended."""
        if result.tokens and not words:
            return False  # it was no speech
        until_s = words[-1].end_s if words else self._sound.start_s + step.request.anchor_s
        return result.ended and self._voice.voiced_s(until_s, self._sound.seen_s) >= EARLY_END_S

    def _has_strayed(self, edge_s: float) -> bool:
        """Whether the decoder finds no words for seconds of voice behind those that it is made to go on from."""
        return self._text.has_committed and self._voice.voiced_s(self._text.end_s, edge_s) >= STRAYED_S

    def _may_go_on(self, step: Step) -> bool:
        """Ask again, with the end shut out where it was put; on the same sound only so often."""
        self._n_asked_again = self._n_asked_again + 1 if step.edge_frame == self._asked_again_at else 0
        self._asked_again_at = step.edge_frame
        return self._n_asked_again < MAX_ASKED_AGAIN and self._text.go_on()

    def _commit(self, n: int) -> None:
        """Move the first `n` words of the tail into the stable text."""
        certain = self._text.commit(n, closes=self._closing.is_asked)
        self._transcript.commit(certain)
        self._agreement.committed(certain)
        self._newly_stable += certain

    # --- window

    def _open_window(self, from_s: float) -> None:
        """Begin afresh."""
        if self.n_steps:
            self._context = []  # it stood before the first window
        self._sound.open(from_s)
        self._text = WindowText(self._tokenizer)
        self._goes_on = False
        self._agreement.reset()

    def _roll(self, edge_s: float) -> None:
        """Move the start of a window that grew too long to a committed word."""
        if not self._sound.is_too_long(edge_s) and len(self._text.prefix) < MAX_PREFIX:
            return
        keep_from_s = edge_s - self._window.keep_s
        if not self._text.has_committed_from(keep_from_s):
            # nothing certain in what is kept: certain is what lies before it
            tail = self._text.tail
            self._commit(next((i for i, word in enumerate(tail) if word.start_s >= keep_from_s), len(tail)))
        # at a word, never inside the one before it: half a word would be heard again
        self._sound.move(self._text.cut(keep_from_s))

    def _idle(self) -> None:
        """Nobody speaks: forget sound that no window will want."""
        if not self._text.has_committed or self.received_s - self._voice_before_s > self._window.carry_s:
            self._sound.forget()
            self._voice.forget(self.received_s - CAPACITY_S)

    def _target_frame(self) -> int:
        """One past the newest frame worth looking at."""
        return self._sound.target(self._voice.last_voice_s)

    def _edge_frame(self) -> int:
        """One past the last frame of the next step: the target, unless it is far away or a turn is to close."""
        # what was said since belongs to the next turn: its newest word may be half heard
        return self._sound.edge(self._closing.frame if self._closing.is_asked else self._target_frame())

    def _is_heard_out(self) -> bool:
        """Whether the last step heard the turn to where it was asked to close."""
        return self._sound.seen >= self._closing.frame or self._has_seen_pause()

    def _has_seen_pause(self) -> bool:
        return self._sound.has_seen_pause(self._voice.last_voice_s)
