"""Tests of streamer/server/rooms/room.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamer.client.resumption import EventMerger
from streamer.protocol.events import Ack, Caption, TurnEnd, TurnRevised, Word
from streamer.protocol.messages import PastTurn, Resume
from streamer.server.rooms.base_room import HISTORY, MAX_PENDING, WAKE_AT_ONCE, Viewer
from streamer.server.rooms.room import Past, Room, past_of


def caption(turn: int, stable: str) -> Caption:
    """The open turn."""
    return Caption(turn=turn, rev=0, stable=stable, partial="", start_s=0.0, end_s=1.0)


def turn_end(turn: int, text: str = "a", language: str = "en") -> TurnEnd:
    """A message that may not be lost."""
    word = Word(text=text, start_s=0.0, end_s=1.0, confidence=0.9)
    return TurnEnd(turn=turn, text=text, start_s=0.0, end_s=1.0, language=language, reason="silence", words=(word,))


def turn_revised(turn: int, text: str) -> TurnRevised:
    """Another text of a turn that has ended."""
    word = Word(text=text, start_s=0.0, end_s=1.0, confidence=0.9)
    return TurnRevised(turn=turn, text=text, language="en", reason="text", model="base", words=(word,))


async def shown(viewer: Viewer, n_messages: int) -> list[dict[str, Any]]:
    """The next messages of a viewer."""
    messages: list[dict[str, Any]] = []
    async for message in viewer:
        messages.append(json.loads(message.text))
        if len(messages) == n_messages:
            break
    return messages


async def test_a_caption_replaces_the_one_that_waits() -> None:
    """A slow viewer skips captions of the same turn, and nothing else."""
    room = Room()
    viewer = room.join()
    for event in (caption(0, "a"), caption(0, "a b"), turn_end(0), caption(1, "c"), caption(1, "c d")):
        room.publish(event)

    _, *messages = await shown(viewer, 4)

    assert [message.get("stable") for message in messages] == ["a b", None, "c d"]


async def test_viewers_get_text_without_words() -> None:
    """Words and acknowledgements are for the speaker: a thousand viewers would pay for them."""
    room = Room()
    viewer = room.join()
    room.publish(Ack(received_s=1.0, stable_s=1.0, lag_s=0.0))
    room.publish(turn_end(0))

    _, message = await shown(viewer, 2)

    assert (message["type"], message["text"], "words" in message) == ("turn_end", "a", False)


async def test_a_late_viewer_sees_the_last_turns_and_the_open_one() -> None:
    """As many turns as are kept, and the words being spoken."""
    room = Room()
    for turn in range(HISTORY + 5):
        room.publish(turn_end(turn))
    room.publish(caption(HISTORY + 5, "now"))

    state, *turns, now = await shown(room.join(), HISTORY + 2)

    assert state == {"type": "room", "room": "microphone", "speaker": 0, "live": False, "turns": HISTORY}
    assert [message["turn"] for message in turns] == list(range(5, HISTORY + 5))
    assert now["stable"] == "now"


async def test_a_late_viewer_of_a_long_talk_gets_all_of_it_and_goes_on() -> None:
    """Past turns count as no delay of the viewer: it is cut for what came after, read or not."""
    room = Room()
    for turn in range(HISTORY):
        room.publish(turn_end(turn))
    slow, quick = room.join(), room.join()
    assert len(await shown(quick, 1 + HISTORY)) == 1 + HISTORY
    for turn in range(HISTORY, HISTORY + MAX_PENDING):
        room.publish(turn_end(turn))

    assert (slow.is_cut, quick.is_cut) == (False, False)
    assert len(await shown(slow, HISTORY // 2)) == HISTORY // 2
    room.publish(turn_end(HISTORY + MAX_PENDING))
    assert (slow.is_cut, quick.is_cut) == (True, True)


async def test_a_speaker_brings_back_what_was_said() -> None:
    """After a restart: viewers get it once, as past turns, and the turns of the new session follow."""
    room = Room()
    waiting = room.join()
    past = Past([turn_end(3, "first"), turn_end(4, "second")], 5)
    with room.speaking("s_2", past):
        room.publish(turn_end(0, "third"))
        with room.speaking("s_2", Past([turn_end(9, "ignored")], 10)):
            room.publish(turn_end(0, "third"))
            room.publish(turn_end(1, "fourth"))
        late = room.join()

    said = [(3, "first"), (4, "second"), (5, "third"), (6, "fourth")]
    for viewer, n_states in ((waiting, 3), (late, 2)):
        messages = await shown(viewer, 4 + n_states)
        assert messages[0] | {"live": True} == messages[0] | {
            "type": "room",
            "speaker": 1,
            "turns": messages[0]["turns"],
        }
        assert [(one["turn"], one["text"]) for one in messages if one["type"] == "turn_end"] == said


async def test_a_long_talk_that_comes_back_cuts_nobody() -> None:
    """It does not count as unread, for hundreds of viewers neither, and no more is kept than ever."""
    room = Room()
    viewers = [room.join() for _ in range(3 * WAKE_AT_ONCE)]
    with room.speaking("s_2", Past([turn_end(turn) for turn in range(HISTORY + 3)], HISTORY + 3)):
        assert not any(viewer.is_cut for viewer in viewers)
        for viewer in (viewers[0], viewers[-1]):
            messages = await shown(viewer, HISTORY + 1)
            assert messages[0]["turns"] == HISTORY
            assert messages[-1]["turn"] == HISTORY + 2


def test_past_turns_of_a_translation_are_in_english() -> None:
    """The client tells the language of their sound."""
    resume = Resume(session="s_1", token="r", turns=(PastTurn(turn=0, text="Good day.", language="de"),))

    assert [turn.language for turn in past_of(resume, "s_2").turns] == ["de"]
    assert [turn.language for turn in past_of(resume, "s_2", "translate").turns] == ["en"]


async def turns_of(room: Room) -> dict[int, str]:
    """What a late viewer gets at once; a turn that comes twice is a fault."""
    viewer = room.join()
    [state] = await shown(viewer, 1)
    turns = await shown(viewer, state["turns"]) if state["turns"] else []
    assert len({one["turn"] for one in turns}) == len(turns)
    return {one["turn"]: one["text"] for one in turns}


@given(st.lists(st.sampled_from(["turn", "caption", "killed", "expired", "lost", "empty"]), max_size=60))
def test_whatever_happens_viewers_have_what_the_speaker_has(happenings: list[str]) -> None:
    """
    A late viewer misses and doubles nothing, when daemons are killed, sessions expire, connections are lost, and rooms
    are left by everybody meanwhile.
    """
    client, room, n, turn, n_sessions = EventMerger(keeps_turns=True), Room(), 0, 0, 1
    told: dict[int, str] = {}

    def say(event: TurnEnd | Caption) -> None:
        room.publish(event)
        told.update({done.turn: done.text for done in client.merge(event) if isinstance(done, TurnEnd)})

    client.begin("s_1", "r")
    with contextlib.ExitStack() as speaking:
        speaking.enter_context(room.speaking("s_1"))
        for happening in happenings:
            n += 1
            if happening == "turn":
                say(turn_end(turn, f"said {n}"))
                turn += 1
            elif happening == "caption":
                say(caption(turn, f"open {n}"))
            else:
                resume = client.resume(0.0, 1_000_000)
                assert resume is not None
                if happening in ("killed", "expired"):
                    n_sessions, turn = n_sessions + 1, 0
                if happening in ("killed", "empty"):
                    room = Room()
                session = f"s_{n_sessions}"
                told.update({done.turn: done.text for done in client.begin(session, "r") if isinstance(done, TurnEnd)})
                speaking.close()
                speaking.enter_context(room.speaking(session, past_of(resume, session)))
    assert asyncio.run(turns_of(room)) == told


async def test_a_returning_viewer_sees_only_new_messages() -> None:
    """Messages up to the last one seen are left out."""
    room = Room()
    first = room.join()
    for turn in range(3):
        room.publish(turn_end(turn))
    await shown(first, 3)
    last_seen = (await anext(aiter(first))).number
    room.publish(turn_end(3))

    _, message = await shown(room.join(last_seen), 2)

    assert message["turn"] == 3


async def test_another_speaker_begins_a_new_transcript() -> None:
    """The turns of the speaker before are not shown as those of the new one; the same speaker goes on."""
    room = Room()
    with room.speaking("s_1"):
        room.publish(turn_end(0, "one"))
    with room.speaking("s_1"):
        room.publish(turn_end(1, "two"))
        assert [m.get("text") for m in await shown(room.join(), 3)] == [None, "one", "two"]
    with room.speaking("s_2"), room.speaking("s_2"):
        assert room.is_live
        room.publish(turn_end(0, "other"))
    viewer = room.join()
    room.publish(turn_end(1))

    state, *messages = await shown(viewer, 3)

    assert (state["speaker"], state["live"]) == (2, False)
    assert [message["text"] for message in messages] == ["other", "a"]


async def test_a_viewer_too_far_behind_is_cut() -> None:
    """Memory is bounded, and the others miss nothing."""
    room = Room()
    slow, quick = room.join(), room.join()
    for turn in range(MAX_PENDING + 1):
        room.publish(turn_end(turn))
        if turn == 0:
            await shown(quick, 2)

    assert slow.is_cut
    assert await shown(slow, 1) == []
    assert not quick.is_cut


async def test_every_viewer_of_a_full_room_is_woken() -> None:
    """Also with more viewers than are woken at once."""
    room = Room()
    viewers = [room.join() for _ in range(200)]
    for viewer in viewers:
        await shown(viewer, 1)
    room.publish(turn_end(0))

    assert [len(await shown(viewer, 1)) for viewer in viewers] == [1] * 200


async def test_a_viewer_that_has_left_gets_nothing() -> None:
    """The room forgets it."""
    room = Room()
    viewer = room.join()
    room.leave(viewer)
    for turn in range(MAX_PENDING + 1):
        room.publish(turn_end(turn))

    assert not viewer.is_cut


async def test_viewers_get_revisions_and_late_viewers_too() -> None:
    """In the order in which they came, without words; the open turn stays open."""
    room = Room()
    early = room.join()
    for event in (turn_end(0, "a"), caption(1, "b"), turn_revised(0, "A."), turn_end(1, "b")):
        room.publish(event)

    _, *live = await shown(early, 5)
    state, *past = await shown(room.join(), 4)

    assert [(message["type"], message["turn"]) for message in live] == [
        ("turn_end", 0),
        ("caption", 1),
        ("turn_revised", 0),
        ("turn_end", 1),
    ]
    assert state["turns"] == 3
    assert [(message["turn"], message["text"]) for message in past] == [(0, "a"), (0, "A."), (1, "b")]
    assert not any("words" in message for message in [*live, *past])
