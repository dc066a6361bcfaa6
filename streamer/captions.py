"""
Final turns as subtitle files: plain text, SubRip (.srt) and WebVTT (.vtt).

A cue holds at most two lines of 42 characters and seven seconds, ends with a sentence where one ends in it,
and is shown for at least five sixths of a second where the next cue leaves room: what broadcasters ask for.
Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec import UNSET

from streamer.events import TurnEnd

MAX_LINE = 42
"""Characters of a line."""
MAX_CUE_S = 7.0
MIN_CUE_S = 5 / 6
SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001 - as written in Chinese and Japanese
CLAUSE_ENDS = (*SENTENCE_ENDS, ",", ";", ":", "、", "，")  # noqa: RUF001


class Cue(NamedTuple):
    """One subtitle: one or two lines, shown from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]


class _Piece(NamedTuple):
    """A word, or a part of one too long for a line, with what stands before it in the text."""

    space: str
    text: str
    start_s: float
    end_s: float


def to_txt(turns: Iterable[TurnEnd]) -> str:
    """One line per turn."""
    return "".join(f"{turn.text.strip()}\n" for turn in turns if turn.text.strip())


def to_srt(turns: Iterable[TurnEnd]) -> str:
    """SubRip: numbered cues, comma before the milliseconds."""
    return "".join(
        f"{number}\n{_time(cue.start_s, ',')} --> {_time(cue.end_s, ',')}\n{_joined(cue)}\n\n"
        for number, cue in enumerate(to_cues(turns), start=1)
    )


def to_vtt(turns: Iterable[TurnEnd]) -> str:
    """WebVTT: `&`, `<` and `>` escaped, and so no `-->` within a text."""
    cues = "".join(
        f"{_time(cue.start_s, '.')} --> {_time(cue.end_s, '.')}\n{_escaped(_joined(cue))}\n\n" for cue in to_cues(turns)
    )
    return f"WEBVTT\n\n{cues}"


def to_cues(turns: Iterable[TurnEnd]) -> list[Cue]:
    """The cues of all turns, in order, none beginning before the one ahead of it ends."""
    cues = [_cue(pieces) for turn in turns for pieces in _groups(_pieces(turn))]
    return [_timed(cue, following) for cue, following in itertools.zip_longest(cues, cues[1:])]


def _timed(cue: Cue, following: Cue | None) -> Cue:
    """Long enough to be read, as far as the cue after it allows."""
    end_s = max(cue.end_s, cue.start_s + MIN_CUE_S)
    return cue._replace(end_s=end_s if following is None else max(cue.start_s, min(end_s, following.start_s)))


def _pieces(turn: TurnEnd) -> Iterator[_Piece]:
    """The words of a turn with the space before each, which languages without spaces have none of."""
    words = turn.words
    if words is UNSET or not words:
        yield from _split(_Piece("", turn.text.strip(), turn.start_s, turn.end_s))
        return
    end = 0
    for word in words:
        begin = turn.text.find(word.text, end)
        space = turn.text[end:begin] if begin >= 0 and not turn.text[end:begin].strip() else " "
        end = begin + len(word.text) if begin >= 0 else end
        yield from _split(_Piece(space, word.text.strip(), word.start_s, word.end_s))


def _split(piece: _Piece) -> Iterator[_Piece]:
    """Cut what is longer than a line, at spaces where there are any; time goes by characters."""
    text, start_s = piece.text, piece.start_s
    seconds = (piece.end_s - piece.start_s) / max(len(text), 1)
    space = piece.space
    while len(text) > MAX_LINE:
        cut = text.rfind(" ", 1, MAX_LINE + 1)
        at = cut if cut > 0 else MAX_LINE
        end_s = start_s + at * seconds
        yield _Piece(space, text[:at], start_s, end_s)
        space = " " if cut > 0 else ""
        text, start_s = text[at:].lstrip(), end_s
    if text:
        yield _Piece(space, text, start_s, piece.end_s)


def _groups(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces by cue."""
    group: list[_Piece] = []
    for piece in pieces:
        if group and not _is_cue([*group, piece]):
            yield group
            group = []
        group.append(piece)
        if piece.text.endswith(SENTENCE_ENDS) and len(_text(group)) > MAX_LINE // 2:
            yield group
            group = []
    if group:
        yield group


def _is_cue(pieces: Sequence[_Piece]) -> bool:
    return pieces[-1].end_s - pieces[0].start_s <= MAX_CUE_S and _lines(pieces) is not None


def _cue(pieces: Sequence[_Piece]) -> Cue:
    lines = _lines(pieces)
    # `_groups` made it so, and one piece alone always fits
    assert lines is not None
    return Cue(pieces[0].start_s, pieces[-1].end_s, lines)


def _lines(pieces: Sequence[_Piece]) -> tuple[str, ...] | None:
    """One line if it fits, else the two best; None if two are not enough."""
    whole = _text(pieces)
    if len(whole) <= MAX_LINE:
        return (whole,)
    pairs = [(_text(pieces[:at]), _text(pieces[at:])) for at in range(1, len(pieces))]
    fitting = [pair for pair in pairs if max(map(len, pair)) <= MAX_LINE]
    return min(fitting, key=_unevenness) if fitting else None


def _unevenness(lines: tuple[str, str]) -> int:
    """Even lines read best, a break after a comma or full stop better still."""
    return abs(len(lines[0]) - len(lines[1])) - (12 if lines[0].endswith(CLAUSE_ENDS) else 0)


def _text(pieces: Sequence[_Piece]) -> str:
    return "".join(piece.space + piece.text for piece in pieces).strip()


def _joined(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
