"""What OpenAI's own client library says of an event: its types are the published shape."""

from __future__ import annotations

from typing import Any

from openai.types import realtime
from pydantic import BaseModel, ValidationError

_TYPES: dict[str, type[BaseModel]] = {
    "error": realtime.RealtimeErrorEvent,
    "conversation.item.added": realtime.ConversationItemAdded,
    "conversation.item.done": realtime.ConversationItemDone,
    "conversation.item.created": realtime.ConversationItemCreatedEvent,
    "conversation.item.input_audio_transcription.delta": realtime.ConversationItemInputAudioTranscriptionDeltaEvent,
    "conversation.item.input_audio_transcription.completed": (
        realtime.ConversationItemInputAudioTranscriptionCompletedEvent
    ),
    "conversation.item.input_audio_transcription.failed": realtime.ConversationItemInputAudioTranscriptionFailedEvent,
    "input_audio_buffer.cleared": realtime.InputAudioBufferClearedEvent,
    "input_audio_buffer.committed": realtime.InputAudioBufferCommittedEvent,
    "input_audio_buffer.speech_started": realtime.InputAudioBufferSpeechStartedEvent,
    "input_audio_buffer.speech_stopped": realtime.InputAudioBufferSpeechStoppedEvent,
    "session.created": realtime.SessionCreatedEvent,
    "session.updated": realtime.SessionUpdatedEvent,
}
EXTENSIONS = frozenset({"conversation.item.input_audio_transcription.partial"})
"""Event types of this project; OpenAI's clients read over what they do not know."""
BETA = frozenset({"transcription_session.created", "transcription_session.updated"})
"""Given up upstream; the library has no types for them any more."""


def problems(event: dict[str, Any]) -> list[str]:
    """What in an event is not as published; a rate for PCM other than 24 kHz is one of our extensions."""
    type_ = event["type"]
    if type_ in EXTENSIONS | BETA:
        return [] if isinstance(event["event_id"], str) else [f"{type_}: no event_id"]
    if type_ not in _TYPES:
        return [f"{type_}: no such event"]
    try:
        _TYPES[type_].model_validate(_at_published_rate(event))
    except ValidationError as error:
        return [f"{type_}: {e['loc']}: {e['msg']}" for e in error.errors()]
    return []


def _at_published_rate(event: dict[str, Any]) -> dict[str, Any]:
    session = event.get("session")
    if session is None or session["audio"]["input"]["format"]["type"] != "audio/pcm":
        return event
    given = {**session["audio"]["input"], "format": {"type": "audio/pcm", "rate": 24000}}
    return {**event, "session": {**session, "audio": {"input": given}}}
