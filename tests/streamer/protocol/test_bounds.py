"""Tests of streamer/protocol/bounds.py: the numbers and key terms that clients may send, in every protocol."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

from streamer.dialects import vosk, wyoming
from streamer.dialects.deepgram import protocol as deepgram
from streamer.dialects.openai import client_events, http, keys, session
from streamer.protocol import bounds, messages, options
from streamer.protocol.bounds import (
    MAX_KEYTERM_CHARS,
    MAX_KEYTERMS,
    MAX_KEYTERMS_BYTES,
    fitting_keyterms,
    keyterms_bytes,
    keyterms_problem,
)
from streamer.protocol.messages import Start
from streamer.protocol.options import SessionOptions, Update

EDGES = (messages, options, vosk, wyoming, deepgram, client_events, http, keys, session)
"""Modules with structs that are decoded from what a client sends."""
SERVER_ONLY = {"ServerMessage", "Limits", "Hello", "Started", "Draining", "RoomState", "Error", "Asked"}
"""Structs among them that only the server makes."""


def client_structs() -> list[type[msgspec.Struct]]:
    """Every struct of the edges that a client may fill."""
    found = {
        value
        for module in EDGES
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__module__ == module.__name__
    }
    return sorted((struct for struct in found if struct.__name__ not in SERVER_ONLY), key=lambda s: s.__qualname__)


def numbers(type_: inspect.Type, path: str) -> Iterator[tuple[str, inspect.IntType | inspect.FloatType]]:
    """The integer and float types within a type, each with its path."""
    if isinstance(type_, inspect.IntType | inspect.FloatType):
        yield path, type_
    for inner in (*getattr(type_, "types", ()), getattr(type_, "item_type", None), getattr(type_, "value_type", None)):
        if inner is not None:
            yield from numbers(inner, path)


def test_every_struct_of_a_client_is_looked_at() -> None:
    """The walk finds the structs of each protocol, so that the next test means something."""
    names = {struct.__name__ for struct in client_structs()}
    assert {"Start", "Update", "Flush", "Resume", "_Control", "_Header", "_Sound", "ServerVad", "ExpiresAfter"} <= names


@pytest.mark.parametrize("struct", client_structs(), ids=lambda struct: struct.__qualname__)
def test_every_number_of_a_client_has_a_range(struct: type[msgspec.Struct]) -> None:
    """Whatever protocol it comes in: a number without a range overflows further in."""
    for field in msgspec.structs.fields(struct):
        for path, number in numbers(inspect.type_info(field.type), f"{struct.__qualname__}.{field.name}"):
            assert number.ge is not None or number.gt is not None, path
            assert number.le is not None or number.lt is not None, path


@pytest.mark.parametrize("text", ["1e305", "1e8001", "-1", "100000000.1", "NaN", "Infinity", "-1e-300", "9" * 400])
def test_stream_times_out_of_this_world_are_refused(text: str) -> None:
    """Not a single one reaches a session, where its sample count would overflow."""
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(f'{{"session":"s","token":"t","stable_s":{text}}}', type=messages.Resume)


@pytest.mark.parametrize("text", [str(2**63), str(-(2**63) - 1), "9" * 30, "9" * 5000, "1e300", "1.5"])
def test_integers_that_cannot_be_answered_are_refused(text: str) -> None:
    """The id of a flush is repeated in the answer, so it has to fit into JSON."""
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(f'{{"type":"flush","id":{text}}}', type=messages.Flush)


def any_terms(random_: random.Random) -> tuple[str, ...]:
    """Key terms of any length, number and script, often at a bound."""
    letters = random_.choice(["a", "é", "語", "😀", "\ud800", " "])
    n_chars = random_.choice([0, 1, 31, 32, 33, MAX_KEYTERM_CHARS, MAX_KEYTERM_CHARS + 1, 5000])
    n_terms = random_.choice([0, 1, 2, 63, 64, 65, MAX_KEYTERMS, MAX_KEYTERMS + 1, 2000])
    return tuple(letters * max(0, n_chars - random_.randrange(2)) for _ in range(n_terms))


@pytest.mark.parametrize("seed", range(60))
def test_terms_that_fit_are_within_the_bounds(seed: int) -> None:
    """What is taken of any list has no problem, and a list without a problem is taken whole."""
    terms = any_terms(random.Random(seed))

    fitting = fitting_keyterms(terms)

    assert keyterms_problem(fitting) is None
    assert keyterms_bytes(fitting) <= MAX_KEYTERMS_BYTES
    if keyterms_problem(terms) is None:
        assert fitting == terms


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("kind", [Start, Update, SessionOptions, session.Transcription])
def test_no_message_holds_terms_beyond_the_bounds(kind: type[msgspec.Struct], seed: int) -> None:
    """Neither when it is made nor when it is copied: there is no path around the check."""
    terms = any_terms(random.Random(seed))
    name = "keywords" if kind is session.Transcription else "keyterms"
    if keyterms_problem(terms) is None:
        assert getattr(kind(**{name: terms}), name) == terms
        return

    with pytest.raises(ValueError, match="key term"):
        kind(**{name: terms})
    with pytest.raises(ValueError, match="key term"):
        msgspec.structs.replace(kind(), **{name: terms})


def test_the_largest_integer_is_that_of_json_libraries() -> None:
    """64 bits with a sign."""
    assert bounds.MAX_INTEGER == 9223372036854775807
