"""Tests of sessions in languages whose scripts take many tokens: budgets cut rows, and no word is lost."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.engine.budget import MIN_ROOM, RATES, token_budget
from streamer.errors import EngineError
from streamer.protocol.options import Delay, SessionOptions
from streamer.session.audio_window import WindowOptions
from streamer.session.session import Step
from streamer.session.words import SpokenWord
from streamer.step import StepResult
from tests.helpers.dense import MULTILINGUAL, SENTENCES
from tests.helpers.sessions import model_of, new_session
from tests.helpers.talks import N_MELS, Hall, broken_promises, broken_requests
from tests.helpers.words import word

N_TEXT_CTX = 448
WINDOW = WindowOptions(max_window_s=15.0)
ISSUED = ["hi", "ta", "te", "my", "ka", "ml"]
CLOSED_S = 1.0
"""Silence after the talk."""
HEARD_S = 0.15
"""A token that began this long before the end of the audio is heard, seconds."""


class DenseHall(Hall):
    """
    A talk in tokens at a fixed rate, heard by a perfect network whose rows have the engine's bounds.

    Args:
        tokens: Of the talk, from 1 s on.
        rate: Tokens a second.
        language: Of the session.
        budget: Language that the budget expects; None: that of the session.
        options: Further options of the `Hall`, and `delay`.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        rate: float,
        language: str,
        *,
        budget: str | None = None,
        delay: Delay = "low",
        **options: object,
    ) -> None:
        self.tokens, self.rate = list(tokens), rate
        end_s = 1.0 + len(tokens) / rate
        wanted = SessionOptions(language=language, delay=delay, endpoint_ms=500)
        super().__init__([word(" x", 1.0, end_s)], WINDOW, wanted, **options)  # type: ignore[arg-type]
        self.session = new_session(options=wanted, window=WINDOW, model=model_of(MULTILINGUAL, N_MELS))
        self.n_cut, self._budget_language = 0, budget or language

    def token_s(self, i: int) -> float:
        """Start of a token, stream time."""
        return 1.0 + i / self.rate

    def audible(self, step: Step) -> list[SpokenWord]:
        """Not in words: `perfect` finds the tokens."""
        return []

    def perfect(self, step: Step, words: list[SpokenWord]) -> StepResult:
        """The tokens after the prefix that begin in the window, as many as a row may say."""
        asked, start_s = step.request, step.window_start_frame / 100
        first, last = (
            self._next(step),
            sum(self.token_s(i) < step.edge_frame / 100 - 0.02 for i in range(len(self.tokens))),
        )
        budget = self._budget(step)
        said = self.tokens[first : min(last, first + budget)]
        is_cut = last - first >= budget
        self.n_cut += is_cut
        starts = [max(asked.anchor_s, self.token_s(first + k) - start_s) for k in range(len(said))]
        edge_s = (step.edge_frame - step.window_start_frame) / 100
        end_s = edge_s if is_cut else min(edge_s, self.token_s(first + len(said)) - start_s)
        return StepResult(
            tokens=tuple(said),
            logprobs=(-0.1,) * len(said),
            starts_s=(*(min(at, end_s) for at in starts), end_s),
            n_verified=0,
            ended=not is_cut,
            no_speech_prob=0.0,
            language=self.session.options.language,
        )

    def _budget(self, step: Step) -> int:
        asked = step.request
        room = N_TEXT_CTX - 4 - len(asked.prefix)
        if room < MIN_ROOM:
            raise EngineError(f"{len(asked.prefix)} tokens of prefix")
        n_frames = step.edge_frame - step.window_start_frame
        return min(room, token_budget(n_frames, self._budget_language, len(asked.prefix), len(asked.draft)))

    def _next(self, step: Step) -> int:
        """Index of the token after the prefix: the prefix lies where the window begins."""
        start_s, prefix = step.window_start_frame / 100, list(step.request.prefix)
        n = len(prefix)
        begins = [i for i in range(len(self.tokens) - n + 1) if not n or self.tokens[i : i + n] == prefix]
        assert begins, f"{MULTILINGUAL.decode(prefix)!r} was not said"
        if n:
            return min(begins, key=lambda i: abs(self.token_s(i) - start_s)) + n
        # less of a word than a token is not recognised
        return next((i for i in range(len(self.tokens)) if self.token_s(i) >= start_s - 0.01), len(self.tokens))


def told(hall: DenseHall) -> str:
    """The letters of all turns: turns that end inside a sentence lose the spaces and marks between them."""
    return letters("".join(turn.text for turn in hall.turns))


def said(hall: DenseHall) -> str:
    """The letters of the talk, without one that its end cuts off."""
    return letters(MULTILINGUAL.decode(hall.tokens).removesuffix("\ufffd"))


def letters(text: str) -> str:
    """A text without spaces and punctuation."""
    return "".join(c for c in text if not c.isspace() and not unicodedata.category(c).startswith("P"))


def shown(hall: DenseHall) -> list[str]:
    """Every text that a client sees: stable and partial text, turns, and the words of both."""
    words = [event.words for event in (*hall.captions, *hall.turns) if event.words is not msgspec.UNSET]
    texts = [word.text for each in words for word in each]
    captions = [text for caption in hall.captions for text in (caption.stable, caption.partial)]
    return [*texts, *captions, *(turn.text for turn in hall.turns)]


def play(hall: DenseHall) -> None:
    """The whole talk, to its end."""
    hall.play(1.0 + len(hall.tokens) / hall.rate + CLOSED_S)
    hall.end()
    assert not any("\ufffd" in text for text in shown(hall))
    # a turn of a script without spaces may go on inside what `plain` takes for a word
    assert [broken for broken in broken_promises(hall.events) if "does not begin" not in broken] == []
    assert broken_requests(hall.steps) == []


def talk_of(language: str, n_tokens: int = 600) -> list[int]:
    """The sentences of a language, again and again, numbered so that no place is like another."""
    tokens: list[int] = []
    for n in range(1000):
        for sentence in SENTENCES[language]:
            tokens += MULTILINGUAL.encode(f" {n * 7919 % 100_000} {sentence}")
            if len(tokens) >= n_tokens:
                return tokens
    raise AssertionError("sentences are empty")


@pytest.mark.parametrize("rate", [10.0, 17.0, 25.0, 39.0])
@pytest.mark.parametrize("language", ISSUED)
def test_every_word_of_a_dense_script_is_told(language: str, rate: float) -> None:
    """At every density that such a language has; the budget of the script cuts no row."""
    hall = DenseHall(talk_of(language), rate, language)
    play(hall)
    assert told(hall) == said(hall)
    if rate <= RATES[language]:
        assert hall.n_cut == 0


@example(language="te", rate=20.0, n_tokens=265, delay="minimal", latency=10, interval_s=1.0)
@example(language="ka", rate=10.0, n_tokens=224, delay="high", latency=0, interval_s=1.0)
@settings(max_examples=40)
@given(
    language=st.sampled_from([*ISSUED, "en", "th", "am", "el"]),
    rate=st.floats(8.0, 42.0),
    n_tokens=st.integers(20, 500),
    delay=st.sampled_from(["minimal", "low", "medium", "high"]),
    latency=st.integers(0, 12),
    interval_s=st.sampled_from([0.3, 1.0]),
)
def test_rows_that_their_budget_cuts_lose_no_word(
    language: str, rate: float, n_tokens: int, delay: Delay, latency: int, interval_s: float
) -> None:
    """Whatever the budget expected of the language: the rest of a row is asked for before its turn closes."""
    hall = DenseHall(
        talk_of(language, n_tokens), rate, language, budget="en", delay=delay, latency=latency, interval_s=interval_s
    )
    play(hall)
    assert told(hall) == said(hall)


# a sentence without spaces is one word, and most of a cut row
@example(
    language="km",
    rate=31.2,
    delay="high",
    latency=0,
    interval_s=4.0,
    flushes_s=[4.9, 8.05, 10.2],
    end_s=11.5,
)
@settings(max_examples=40)
@given(
    language=st.sampled_from([*ISSUED, "th", "am", "bn", "km", "zh", "ja", "ko", "he"]),
    rate=st.floats(8.0, 42.0),
    delay=st.sampled_from(["minimal", "high"]),
    latency=st.integers(0, 6),
    interval_s=st.sampled_from([0.3, 1.0, 4.0]),
    flushes_s=st.lists(st.floats(1.2, 12.0), max_size=4),
    end_s=st.floats(1.5, 14.0),
)
def test_turns_that_end_inside_a_character_leave_it_to_the_next_turn(
    language: str,
    rate: float,
    delay: Delay,
    latency: int,
    interval_s: float,
    flushes_s: list[float],
    end_s: float,
) -> None:
    """A flush comes anywhere in a talk without pauses: no part of a character is shown, and nothing is lost."""
    hall = DenseHall(
        talk_of(language), rate, language, budget="en", delay=delay, latency=latency, interval_s=interval_s
    )
    for at_s in sorted(flushes_s):
        if at_s < end_s:
            hall.play(at_s)
            hall.flush()
    hall.play(end_s)
    hall.end()

    assert not any("\ufffd" in text for text in shown(hall))
    assert said(hall).startswith(told(hall))
    heard = [token for i, token in enumerate(hall.tokens) if hall.token_s(i) < hall.now_s - HEARD_S]
    assert told(hall).startswith(letters(MULTILINGUAL.decode(heard).removesuffix("\ufffd")))


def test_a_row_that_is_cut_is_asked_for_its_rest_and_its_half_word_is_not_shown() -> None:
    """Two seconds of Malayalam in one step, with the budget of English."""
    hall = DenseHall(talk_of("ml", 78)[:78], 39.0, "ml", budget="en", interval_s=30.0)
    play(hall)
    assert hall.n_cut >= 1
    assert told(hall) == said(hall)


def test_a_text_that_fills_the_context_goes_on_in_a_fresh_window() -> None:
    """Twelve seconds at 60 tokens a second, heard in one step, are more than a decoder's context holds."""
    hall = DenseHall(talk_of("my", 700)[:700], 60.0, "my", interval_s=30.0)
    play(hall)
    assert hall.n_cut >= 1
    assert told(hall) == said(hall)


def test_a_turn_that_fills_the_context_is_left_by_the_next_one() -> None:
    """Seven seconds at 60 tokens a second that a flush makes final: behind them no step could say a word."""
    hall = DenseHall(talk_of("my", 700)[:700], 60.0, "my", interval_s=30.0)
    hall.play(8.35)
    hall.flush()
    play(hall)
    assert told(hall) == said(hall)
