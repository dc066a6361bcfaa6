"""
The state machine of one session: mel frames and step results in, step requests and events out.

Pure; stream time is the only clock. `Window` knows what was read so far, `OpenTurn` when a step is wanted and where the
turn ends; here is what follows from them: which turns begin and end, and which events are said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from streamer.errors import OverloadError
from streamer.protocol.events import Ack, Bye, Caption, Event, Flushed, Speech, TurnEnd, TurnEndReason, TurnRevised
from streamer.protocol.options import Update
from streamer.session.acks import Acks, Progress
from streamer.session.audio_window import AudioWindow
from streamer.session.language import TurnLanguage
from streamer.session.open_turn import OpenTurn
from streamer.session.second_pass import Cutter, Revision, SecondPass
from streamer.session.spec import SessionSpec
from streamer.session.transcript import Transcript
from streamer.session.voice_activity import VoiceOptions, VoiceTracker
from streamer.session.window import Window
from streamer.session.words import SpokenWord
from streamer.step import StepRequest, StepResult

MAX_FLUSHES = 256
"""Flushes that wait for the end of a turn: no client has a use for so many."""


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
        self.revises_all = spec.revises_all
        """See `SessionSpec`."""
        self._window_options = spec.window
        self._audio = AudioWindow(spec.model.n_mels, spec.window, offset_s)
        self._voice = VoiceTracker(VoiceOptions(), offset_s)
        self._language = TurnLanguage(options, is_multilingual=spec.model.tokenizer.multilingual)
        begins_sentence = not spec.context.strip()
        self._transcript = Transcript(words=options.words, begins_sentence=begins_sentence, offset_s=offset_s)
        self._window = Window(spec, self._audio, self._voice, self._language, self._transcript)
        self._turn = OpenTurn(spec.window, self._audio, self._voice, self._window, endpoint_ms=options.endpoint_ms)
        self._second_pass = SecondPass(Cutter(self._audio, self._voice, spec.window), is_patient=spec.revises_all)
        self._acks = Acks(spec.window.pre_roll_s, offset_s)
        self._flushes: list[int] = []
        self._in_flight, self._ended = False, False
        self.n_steps = 0
        self._voice_before_s = offset_s
        """Where the voice of the last turn ended, stream time."""

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
            elif self._voice.speaking and self._turn.is_at_endpoint:
                events += self._request_turn_end("silence")
            elif self._voice.speaking and self._turn.is_in_inner_pause and not self._in_flight:
                events += self._show() if self._window.commit_as_silence_lasts() else []
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
        self._turn.endpoint_ms = self.options.endpoint_ms

    # --- state

    @property
    def received_s(self) -> float:
        """End of the received audio, stream time."""
        return self._audio.end_s

    @property
    def lag_s(self) -> float:
        """Audio of the open turn that no step has seen yet, seconds."""
        return self._turn.lag_s if self._voice.speaking else 0.0

    @property
    def waiting_s(self) -> float:
        """How long the open turn has waited for stable words, or for any step, seconds of audio."""
        return self._turn.waiting_s if self._voice.speaking else 0.0

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
        return self._ended and not self._turn.ends and not self._voice.speaking

    def ack(self) -> Ack:
        """How far this session is: a client may forget audio before `stable_s`, even if the daemon is lost."""
        return self._acks.current(self._progress())

    def take_newly_stable(self) -> list[SpokenWord]:
        """Words that became stable since the last call, for statistics."""
        return self._window.take_newly_stable()

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
        return bool(self._turn.ends)

    def is_due(self, interval_s: float) -> bool:
        """Whether a step is wanted now, given the present interval between partial steps, seconds."""
        return self._voice.speaking and not self._in_flight and self._turn.wants_step(interval_s)

    def next_step(self) -> Step:
        """Begin a step on the present window; one at a time, to be ended by `apply` or `cancel_step`."""
        edge = self._turn.edge
        self._in_flight = True
        request = self._window.request(edge, self.options, may_end=self._turn.may_end, final=self.wants_final)
        return Step(request=request, window_start_frame=self._audio.start, edge_frame=edge, window_id=self._audio.id)

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
        if not self._window.read(step.request, result, closes=self._turn.closes):
            return [*self._show()]  # words that it committed must not be acknowledged before they are said
        if self._turn.is_complete:
            if not self._turn.goes_on:
                return self._end_turn()
            self._turn.ends.pop()
            self._window.commit_spoken()  # the step ended in the pause: all words precede it
        return self._go_on()

    def _go_on(self) -> list[Event]:
        """Show the text of a step, and bound the turn and the window."""
        events = self._limit_turn()
        if self.options.revise:
            self._second_pass.follow(self._transcript.stable)
        self._window.roll(closes=self._turn.closes)
        return [*events, *self._show()]

    # --- turns

    def _begin_speech(self) -> list[Event]:
        resumes = self._voice.started_s - self._voice_before_s <= self._window_options.carry_s
        if not (self._window.text.has_committed and resumes and self._audio.is_held) or self._language.may_change:
            self._window.open(max(self._voice.started_s - self._window_options.pre_roll_s, self._voice_before_s))
        self._window.leave_room()
        return [Speech(state="started", at_s=round(max(self._voice.started_s, self._voice_before_s), 3))]

    def _request_turn_end(self, reason: TurnEndReason) -> list[Event]:
        """End the open turn: at once if the last step has seen all of it, otherwise with the next result."""
        if not self._voice.speaking:
            self._acks.leave_rest(self._progress())
            return self._answer_requests()
        self._turn.ends.request(reason, self._turn.target)
        return self._end_turn() if self._turn.is_complete and not self._in_flight else []

    def _end_turn(self) -> list[Event]:
        self._window.commit(self._acks.n_finished(self._window.text.tail), closes=True)
        reason = self._turn.ends.pop()
        if not self._turn.ends:
            self._acks.leave_rest(self._progress())
        events: list[Event] = [*self._close_turn(reason, self._audio.seen_s)]
        self._voice.stop()
        self._language.end_turn()
        # audio after the last step's edge belongs to the next turn
        self._voice_before_s = min(self._voice.last_voice_s, self._audio.seen_s)
        self._window.leave()
        events.append(Speech(state="stopped", at_s=round(self._voice_before_s, 3)))
        return [*events, *self._after_turn()]

    def _after_turn(self) -> list[Event]:
        """Answer pending requests, or begin the next turn if another end is queued behind the one just reached."""
        if not self._turn.ends:
            return [*self._answer_requests(), *(() if self._ended else self._resume_speech())]
        events = self._resume_speech()
        if self._voice.speaking and self._audio.start < self._turn.ends.frame:
            return events
        self._turn.ends.clear()
        self._acks.leave_rest(self._progress())
        return [*events, *self._answer_requests()]

    def _resume_speech(self) -> list[Event]:
        """Begin the next turn with voice that came during a turn's last step, even if that voice has ceased."""
        return self._begin_speech() if self._voice.resume(self._voice_before_s) else []

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
        if not self._window.text.has_committed or not self._transcript.is_overlong(self._window_options.max_turn_s):
            return []
        self._window.commit(self._window.text.n_leading_marks, closes=True)  # they belong to the turn's last word
        return [*self._close_turn("limit", self._transcript.stable_until_s)]

    def _close_turn(self, reason: TurnEndReason, until_s: float) -> list[TurnEnd]:
        """
        End the turn with its stable text, and ask for its second pass.

        Args:
            reason: Why it ends.
            until_s: End of its sound, stream time.
        """
        words, begins_sentence = list(self._transcript.stable), self._transcript.begins_sentence
        turns = self._transcript.end_turn(self._language.spoken, reason)
        self._second_pass.end_turn(turns, words, until_s, self.options, begins_sentence=begins_sentence)
        return turns

    def _show(self) -> list[Caption]:
        """The text so far, if it has changed since it was shown."""
        return self._transcript.show(self._window.visible_tail)

    def _progress(self) -> Progress:
        return Progress(
            received_s=self.received_s,
            final_s=max(self._transcript.stable_until_s, self._voice_before_s),
            speech_start_s=self._voice.started_s if self._voice.speaking else None,
            lag_s=self.lag_s,
        )

    def _forget_old_audio(self) -> None:
        """While nobody speaks, forget audio that no window will need."""
        silence_s = self.received_s - self._voice_before_s
        if not self._window.text.has_committed or silence_s > self._window_options.carry_s:
            self._audio.forget()
