"""
State machine of OpenAI's Realtime API for transcription sessions, translated to `captions.v1` in both directions.

Client events become messages of `captions.v1` (start, audio, update, flush, end) and answers. Session events become
server events.

An item is one utterance: with turn detection the audio between the start and the stop of speech, without it the audio
between two commits, however many turns that holds. Deltas append, so they carry stable words only. Partial text has an
event type of its own, which other clients ignore:

    {"type": "conversation.item.input_audio_transcription.partial", "item_id": …, "partial": " tail"}

An `error` event makes most clients give up, so an empty commit is answered with an empty transcript instead of OpenAI's
error. A change of settings that a running native session cannot take ends it and starts another one at the same stream
time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from streamer.dialects.actions import HangUp
from streamer.dialects.append_only import AppendOnlyText
from streamer.dialects.openai.client_events import (
    AudioAppendEvent,
    SessionUpdateEvent,
    read_audio,
    read_envelope,
    read_event,
)
from streamer.dialects.openai.errors import error_detail
from streamer.dialects.openai.logprobs import DeltaLogProbs, logprobs_of
from streamer.dialects.openai.session import (
    SessionUpdate,
    Settings,
    decode,
    included,
    prefix_padding_s,
    to_beta_json,
    to_json,
    updated,
)
from streamer.errors import ProtocolError, StreamerError
from streamer.protocol.events import Bye, Caption, Event, Flushed, Speech, TurnEnd, words_of
from streamer.protocol.messages import End, Flush, Start
from streamer.protocol.options import PAUSE_MS, SessionOptions, Update
from streamer.text.joining import joined

MAX_ERRORS = 50
"""Wrong events in a row after which the connection is closed."""

_TRANSCRIPTION = "conversation.item.input_audio_transcription"

ServerEvent: TypeAlias = dict[str, object]


Output: TypeAlias = ServerEvent | Start | Update | Flush | End | bytes | HangUp
"""Results of a client event, in order: server events to send, messages to the native session, or a close."""


@dataclass(slots=True)
class _Item:
    """An utterance, from its first audio to its transcript."""

    id: str
    start_s: float
    end_s: float = 0.0
    is_spoken: bool = False
    """Whether `speech_started` was sent for it."""
    turns: list[TurnEnd] = field(default_factory=list)
    """Ended turns with text."""
    language: str = ""
    growth: AppendOnlyText = field(default_factory=AppendOnlyText)
    logprobs: DeltaLogProbs = field(default_factory=DeltaLogProbs)
    partial: str = ""


@dataclass(frozen=True, slots=True)
class _Committed:
    """An item whose audio is complete, waiting for its text."""

    item: _Item
    flush_id: int | None
    """The flush that completes the item; None: `bye` of the native session completes it."""
    is_discarded: bool = False


class RealtimeProtocol:
    """
    One connection, on the server.

    Args:
        session: Id of the session.
        model: Name of the model.
        languages: Language codes of the model.
        settings: Settings before the first update of the client.
        defaults: Options that `null` in an update restores.
        is_beta: Whether the client announced the beta form; a beta event switches to it too.
        max_frame_bytes: Longest accepted message, in characters.
    """

    def __init__(
        self,
        session: str,
        model: str,
        languages: tuple[str, ...],
        settings: Settings,
        defaults: SessionOptions,
        *,
        is_beta: bool = False,
        max_frame_bytes: int = 1 << 20,
    ) -> None:
        self.settings = settings
        self._session, self._model, self._languages, self._defaults = session, model, languages, defaults
        self._is_beta, self._max_frame_bytes = is_beta, max_frame_bytes
        self._n_events = self._n_items = self._n_flushes = self._n_errors = 0
        self._has_native = False
        """Whether a native session is open; if not, the next audio opens one."""
        self._awaits_bye = False
        """Whether a native session has been ended and its `bye` is still to come."""
        self._received_s = 0.0
        self._committed_s = 0.0
        self._last_item: str | None = None
        self._item: _Item | None = None
        """The item whose audio is arriving."""
        self._committed: deque[_Committed] = deque()

    # --- from the client

    def open(self) -> list[Output]:
        """Return the first event of a connection."""
        return [self._session_event("created")]

    def receive(self, frame: str | bytes) -> list[Output]:
        """Return the outputs for one message. Never raises: a wrong message is answered with `error`."""
        event_id: str | None = None
        try:
            envelope = read_envelope(frame, self._max_frame_bytes)
            event_id = envelope.event_id
            outputs = self._handle(envelope.type, frame)
        except ProtocolError as error:
            return self._refuse(error, event_id)
        self._n_errors = 0
        return outputs

    def rest(self) -> list[Output]:
        """Return the outputs for an idle client: its native session ends, and its next audio opens another one."""
        return self._end_native() if self._has_native else []

    def _handle(self, type_: str, frame: str | bytes) -> list[Output]:
        event = read_event(type_, frame)
        match event:
            case SessionUpdateEvent(session=raw):
                return self._update(raw, is_beta=type_ == "transcription_session.update")
            case AudioAppendEvent(audio=audio):
                return self._append(audio)
        return self._commit() if type_ == "input_audio_buffer.commit" else self._clear()

    def _refuse(self, error: ProtocolError, event_id: str | None) -> list[Output]:
        self._n_errors += 1
        refusal = self.error(error, event_id)
        return [refusal] if self._n_errors < MAX_ERRORS else [refusal, HangUp(1008)]

    def _update(self, raw: msgspec.Raw, *, is_beta: bool) -> list[Output]:
        self._is_beta = self._is_beta or is_beta
        asked = decode(raw, SessionUpdate, "session")
        before = self.settings
        changed = updated(before, asked.input(), self._defaults, self._languages, asked.transcription_path)
        self.settings = included(changed, asked.include)
        return [*self._native_changes(before), self._session_event("updated")]

    def _native_changes(self, before: Settings) -> list[Output]:
        if not self._has_native or before == self.settings:
            return []
        old, new = before.options, self.settings.options
        if (before.audio, old.prompt, old.delay) != (self.settings.audio, new.prompt, new.delay):
            return self._end_native()
        return [
            Update(
                language=new.language,
                languages=new.languages,
                keyterms=new.keyterms,
                endpoint_ms=new.endpoint_ms,
            )
        ]

    def _end_native(self) -> list[Output]:
        self._has_native, self._awaits_bye = False, True
        return [End()]

    def _append(self, audio: str) -> list[Output]:
        data, duration_s = read_audio(audio, self.settings.audio.encoding, self.settings.audio.rate)
        if not data:
            return []
        self._received_s += duration_s
        started: list[Output] = [] if self._has_native else [self.settings.start()]
        self._has_native = True
        return [*started, data]

    def _commit(self) -> list[Output]:
        item = self._complete_item()
        outputs: list[Output] = [*self._stopped(item, self._received_s), *self._committed_events(item)]
        return [*outputs, *self._await_text(item)]

    def _clear(self) -> list[Output]:
        item = self._complete_item()
        outputs: list[Output] = [*self._stopped(item, self._received_s), self._event("input_audio_buffer.cleared")]
        return [*outputs, *self._await_text(item, is_discarded=True)]

    def _complete_item(self) -> _Item:
        """End the item whose audio is arriving, or a new empty one, and return it."""
        item = self._item or self._new_item(self._committed_s)
        self._item = None
        item.end_s = self._committed_s = self._received_s
        return item

    def _await_text(self, item: _Item, *, is_discarded: bool = False) -> list[Output]:
        """Complete the item when its text is final, which it is at once without a native session."""
        if self._has_native:
            self._n_flushes += 1
            self._committed.append(_Committed(item, self._n_flushes, is_discarded))
            return [Flush(id=self._n_flushes)]
        if self._awaits_bye:
            self._committed.append(_Committed(item, None, is_discarded))
            return []
        return [] if is_discarded else [self._completed(item)]

    # --- from the native session

    def project(self, event: Event) -> list[ServerEvent]:
        """Return the server events for one session event."""
        match event:
            case Speech(state="started", at_s=at_s):
                return self._speech_started(at_s)
            case Speech(at_s=at_s):
                return self._speech_stopped(at_s)
            case Caption():
                return self._caption(event)
            case TurnEnd():
                return self._turn_end(event)
            case Flushed(id=id_):
                return self._flushed(id_)
            case Bye():
                return self._bye()
        return []

    def error(self, error: StreamerError, event_id: str | None = None) -> ServerEvent:
        """Build an `error` event; `event_id` names the client event that caused it."""
        detail = msgspec.structs.replace(error_detail(error), event_id=event_id)
        return self._event("error", error=msgspec.to_builtins(detail))

    def fail(self, error: StreamerError) -> list[ServerEvent]:
        """Return the events after a failed or refused native session: every item without transcript fails."""
        detail = msgspec.to_builtins(error_detail(error))
        items = [committed.item for committed in self._committed if not committed.is_discarded]
        items += [self._item] if self._item is not None else []
        self._committed.clear()
        self._item = None
        failures = [self._event(f"{_TRANSCRIPTION}.failed", item_id=i.id, content_index=0, error=detail) for i in items]
        return [*failures, self.error(error)]

    def _speech_started(self, at_s: float) -> list[ServerEvent]:
        if self._committed or self._item is not None or self.settings.turn_detection is None:
            return []
        return self._heard_item(at_s - prefix_padding_s(self.settings))[1]

    def _speech_stopped(self, at_s: float) -> list[ServerEvent]:
        if self._committed or self._item is None or self.settings.turn_detection is None:
            return []
        return self._close_item(at_s + (self.settings.options.endpoint_ms or PAUSE_MS) / 1000)

    def _close_item(self, end_s: float) -> list[ServerEvent]:
        item = self._complete_item()
        item.end_s = max(item.start_s, min(end_s, self._received_s))
        return [*self._stopped(item, item.end_s), *self._committed_events(item), self._completed(item)]

    def _caption(self, caption: Caption) -> list[ServerEvent]:
        item, events = self._text_item(caption.start_s)
        if item is None:
            return []
        events += self._delta(item, item.growth.grow(caption.stable), caption)
        return [*events, *self._partial(item, caption.partial)]

    def _turn_end(self, turn: TurnEnd) -> list[ServerEvent]:
        item, events = self._text_item(turn.start_s)
        if item is not None:
            events += [*self._delta(item, item.growth.end_turn(turn.text), turn), *self._partial(item, "")]
            item.turns += [turn] if turn.text else []
            item.language = turn.language
        if turn.reason == "limit" and not self._committed and self.settings.turn_detection is not None:
            events += self._close_item(turn.end_s)
        return events

    def _text_item(self, start_s: float) -> tuple[_Item | None, list[ServerEvent]]:
        """Return the item that text of the native session belongs to, None if the client has discarded it."""
        if self._committed:
            oldest = self._committed[0]
            return (None if oldest.is_discarded else oldest.item), []
        return self._heard_item(start_s)

    def _heard_item(self, start_s: float) -> tuple[_Item, list[ServerEvent]]:
        """Return the item whose audio is arriving, and the events that begin it if it is new."""
        if self._item is not None:
            return self._item, []
        if self.settings.turn_detection is None:
            self._item = self._new_item(self._committed_s)
            return self._item, []
        self._item = item = self._new_item(max(0.0, start_s))
        item.is_spoken = True
        started = self._event("input_audio_buffer.speech_started", audio_start_ms=_ms(item.start_s), item_id=item.id)
        return item, [started]

    def _delta(self, item: _Item, delta: str, event: Caption | TurnEnd) -> list[ServerEvent]:
        tokens = item.logprobs.of(delta, event)
        if not delta:
            return []
        told = {"logprobs": tokens} if self.settings.has_logprobs else {}
        return [self._event(f"{_TRANSCRIPTION}.delta", item_id=item.id, content_index=0, delta=delta, **told)]

    def _partial(self, item: _Item, partial: str) -> list[ServerEvent]:
        if partial == item.partial:
            return []
        item.partial = partial
        return [self._event(f"{_TRANSCRIPTION}.partial", item_id=item.id, content_index=0, partial=partial)]

    def _flushed(self, flush_id: int) -> list[ServerEvent]:
        if not self._committed or self._committed[0].flush_id != flush_id:
            return []
        return self._complete_oldest()

    def _bye(self) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        while self._committed:
            events += self._complete_oldest()
        if self._awaits_bye:
            self._awaits_bye = False
        elif self._item is not None:
            events += self._close_item(self._received_s)
        return events

    def _complete_oldest(self) -> list[ServerEvent]:
        committed = self._committed.popleft()
        return [] if committed.is_discarded else [self._completed(committed.item)]

    # --- server events

    def _event(self, type_: str, **fields: object) -> ServerEvent:
        self._n_events += 1
        return {"type": type_, "event_id": f"event_{self._session}_{self._n_events}", **fields}

    def _new_item(self, start_s: float) -> _Item:
        self._n_items += 1
        return _Item(f"item_{self._session}_{self._n_items}", start_s)

    def _session_event(self, verb: str) -> ServerEvent:
        if self._is_beta:
            session = to_beta_json(self.settings, self._session, self._model)
            return self._event(f"transcription_session.{verb}", session=session)
        return self._event(f"session.{verb}", session=to_json(self.settings, self._session, self._model))

    def _stopped(self, item: _Item, end_s: float) -> list[ServerEvent]:
        if not item.is_spoken:
            return []
        return [self._event("input_audio_buffer.speech_stopped", audio_end_ms=_ms(end_s), item_id=item.id)]

    def _committed_events(self, item: _Item) -> list[ServerEvent]:
        previous, self._last_item = self._last_item, item.id
        content = [{"type": "input_audio", "transcript": None}]
        shown = {
            "id": item.id,
            "object": "realtime.item",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": content,
        }
        names = ("created",) if self._is_beta else ("added", "done")
        return [
            self._event("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous),
            *(self._event(f"conversation.item.{name}", previous_item_id=previous, item=shown) for name in names),
        ]

    def _completed(self, item: _Item) -> ServerEvent:
        return self._event(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.id,
            content_index=0,
            transcript=joined(turn.text for turn in item.turns),
            usage={"type": "duration", "seconds": round(max(0.0, item.end_s - item.start_s), 3)},
            languages=[{"code": item.language}] if item.language else [],
            logprobs=logprobs_of(item.turns) if self.settings.has_logprobs else None,
            # not in OpenAI's API; seconds of stream time
            words=[
                {"word": w.text, "start": w.start_s, "end": w.end_s, "confidence": w.confidence}
                for turn in item.turns
                for w in words_of(turn)
            ],
        )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
