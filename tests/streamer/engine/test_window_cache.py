"""Tests of streamer.engine.window_cache."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model import EncodedAudio
from streamer.engine.window_cache import BLOCK, AudioKV, KVSpan, TextKV, WindowCache


def pair(n: int, value: float = 0.0) -> Tensor:
    """Keys and values of `n` positions: two layers, three heads."""
    return torch.stack([torch.full((2, 3, n, 4), value), torch.full((2, 3, n, 4), -value)])


def settled(n: int) -> AudioKV:
    """A window with `n` settled positions, and no buffer for more."""
    return AudioKV(KVSpan(pair(n), n), KVSpan(pair(n), n), n_whole=n)


def test_a_window_is_found_under_its_session_and_beginning() -> None:
    """Another beginning is another window, and a window seen once has none."""
    windows = WindowCache(settled(0), n_sessions=2, most_bytes=2**30)

    windows.keep("a", 100, settled(5))

    assert windows.of("a", 100).n == 5
    assert windows.of("a", 200).n == 0
    assert windows.of("a", None).n == 0
    assert windows.of("b", 100).n == 0


def test_the_least_recently_kept_window_goes_first() -> None:
    """Memory is bounded by the number of sessions."""
    windows = WindowCache(settled(0), n_sessions=2, most_bytes=2**30)
    windows.keep("a", 0, settled(1))
    windows.keep("b", 0, settled(2))
    windows.keep("a", 0, settled(3))

    windows.keep("c", 0, settled(4))

    assert [windows.of(session, 0).n for session in "abc"] == [3, 0, 4]


def test_memory_is_given_back() -> None:
    """Bytes of keys and values of both networks, until the session is over."""
    windows = WindowCache(settled(0), n_sessions=2, most_bytes=2**30)
    windows.keep("a", 0, settled(5))
    assert windows.n_bytes == 4 * (2 * 3 * 5 * 4) * 4

    windows.release("a")
    windows.release("stranger")

    assert windows.n_bytes == 0


def test_a_window_grows_by_leading_positions_of_a_pass() -> None:
    """What stands later in the pass is not settled yet."""
    encoded = EncodedAudio(torch.zeros(6, 12), pair(6, 1.0))

    window = settled(2).followed_by(encoded, pair(6, 2.0), 3)

    assert (window.n, window.n_whole) == (5, 2)
    assert window.encoder.keys_values[0, 0, 0, :, 0].tolist() == [0, 0, 1, 1, 1]
    assert window.audio.keys_values[1, 0, 0, :, 0].tolist() == [0, 0, -2, -2, -2]


def test_text_is_shared_up_to_the_first_difference() -> None:
    """Tokens read under another beginning, or beyond the shorter text, are not the same."""
    read = TextKV((1, 2, 3, 4), pair(4))

    assert [read.n_shared(tokens) for tokens in ((1, 2, 9, 4), (1, 2), (1, 2, 3, 4, 5), (9,), ())] == [2, 2, 4, 0, 0]
    assert read.n_bytes == 2 * (2 * 3 * 4 * 4) * 4


def test_memory_is_bounded_in_bytes() -> None:
    """Whoever was kept least recently goes until the rest fits; the newest stays, however long it is."""
    of_one = settled(1).n_bytes
    windows = WindowCache(settled(0), n_sessions=9, most_bytes=6 * of_one)
    for session in "abc":
        windows.keep(session, 0, settled(2))
    assert windows.n_bytes == 6 * of_one

    windows.keep("b", 0, settled(3))
    assert [windows.of(session, 0).n for session in "abc"] == [0, 3, 2]

    windows.keep("d", 0, settled(9))
    assert [windows.of(session, 0).n for session in "abcd"] == [0, 0, 0, 9]
    assert windows.n_bytes == 9 * of_one


def test_a_wrong_count_of_bytes_is_found() -> None:
    """Whatever was added or given back without being counted."""
    windows = WindowCache(TextKV((), pair(0)), n_sessions=2, most_bytes=2**30)
    text = TextKV((1, 2), pair(2))
    windows.keep("a", 0, text)
    windows.check_integrity()
    object.__setattr__(text, "keys_values", pair(3))

    with pytest.raises(RuntimeError, match=rf"{pair(2).nbytes} bytes counted, {pair(3).nbytes} held by 1 windows"):
        windows.check_integrity()


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (TextKV((1, 2), pair(3)), "2 tokens, keys and values of 3"),
        (AudioKV(KVSpan(pair(4), 4), KVSpan(pair(4), 3), 4), "4 encoder positions, 3 cross-attention positions"),
        (AudioKV(KVSpan(pair(4), 5), KVSpan(pair(5), 5), 5), "span counts 5 positions, its buffer holds 4"),
    ],
)
def test_a_window_whose_counts_disagree_is_found(window: TextKV | AudioKV, message: str) -> None:
    """Positions and tokens are counted in several places."""
    windows = WindowCache[TextKV | AudioKV](TextKV((), pair(0)), n_sessions=2, most_bytes=2**30)
    windows.keep("a", 0, window)

    with pytest.raises(RuntimeError, match=message):
        windows.check_integrity()


def test_a_window_grows_in_place_as_long_as_there_is_room() -> None:
    """The longer window shares the shorter one's memory, which stays what it was; then both are moved on."""
    first = KVSpan(pair(0), 0).followed_by(pair(5, 1.0))
    second = first.followed_by(pair(BLOCK - 5, 2.0))
    third = second.followed_by(pair(1, 3.0))

    assert [stretch.buffer.shape[3] for stretch in (first, second, third)] == [BLOCK, BLOCK, 2 * BLOCK]
    assert second.buffer is first.buffer
    assert torch.equal(first.keys_values, pair(5, 1.0))
    assert third.keys_values[0, 0, 0, :, 0].tolist() == [1.0] * 5 + [2.0] * (BLOCK - 5) + [3.0]
