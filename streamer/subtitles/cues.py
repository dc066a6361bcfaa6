"""
Final turns as files: plain text, SubRip (.srt), WebVTT (.vtt) and TTML.

By the rules of broadcasters a cue has at most two lines and seven seconds, ends with a sentence or else with a clause,
and stays long enough to be read if the next cue leaves room. `server/pages/subtitles.js` does the same in a browser;
both are tested with `tests/data/subtitles.json`. Pure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from msgspec import UNSET

from streamer.protocol.events import TurnEnd
from streamer.subtitles.line_breaking import (
    LINE,
    NARROW,
    cut,
    is_right_to_left,
    printable,
    width,
)
from streamer.text.punctuation import CLAUSE_ENDS, SENTENCE_ENDS

MAX_CUE_S = 7.0
"""Longest speech of one cue."""
MIN_CUE_S = 5 / 6
"""Shortest time on the screen, if the next cue leaves room."""
LETTERS_PER_S = 17
"""Reading speed of adults, in narrow characters."""
FULL_BREAK = LINE * 2 // 7
"""How much less even two lines may be, in units of `width`, if the first one ends a clause."""


class Cue(NamedTuple):
    """One subtitle: one or two lines, shown from `start_s` to `end_s`."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]


class _Piece(NamedTuple):
    """A word with the space before it, or a part of a word that is too long for a line."""

    space: str
    text: str
    start_s: float
    end_s: float


def to_txt(turns: Iterable[TurnEnd]) -> str:
    """One line per turn."""
    return "".join(f"{turn.text.strip()}\n" for turn in turns if turn.text.strip())


def to_srt(turns: Iterable[TurnEnd]) -> str:
    """SubRip: numbered cues with a comma before the milliseconds; control characters embed right-to-left lines."""
    return srt_of(to_cues(turns))


def srt_of(cues: Iterable[Cue]) -> str:
    """As `to_srt`, of cues that are made already."""
    return "".join(
        f"{number}\n{_time(cue.start_s, ',')} --> {_time(cue.end_s, ',')}\n{_embedded(cue)}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def to_vtt(turns: Iterable[TurnEnd]) -> str:
    """WebVTT: `&`, `<` and `>` are escaped, so no text contains `-->`."""
    return vtt_of(to_cues(turns))


def vtt_of(cues: Iterable[Cue]) -> str:
    """As `to_vtt`, of cues that are made already."""
    shown = "".join(
        f"{_time(cue.start_s, '.')} --> {_time(cue.end_s, '.')}\n{_escaped(_joined(cue))}\n\n" for cue in cues
    )
    return f"WEBVTT\n\n{shown}"


def to_ttml(turns: Iterable[TurnEnd], language: str = "") -> str:
    """TTML: a paragraph for each cue; `language` is a code, by default that of the first turn."""
    turns = list(turns)
    return ttml_of(to_cues(turns), language or next((turn.language for turn in turns), ""))


def ttml_of(cues: Iterable[Cue], language: str) -> str:
    """As `to_ttml`, of cues that are made already."""
    paragraphs = "".join(map(_paragraph, cues))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:tts="http://www.w3.org/ns/ttml#styling" '
        f"xml:lang={quoteattr(language)}>\n<body><div>\n{paragraphs}</div></body>\n</tt>\n"
    )


def _paragraph(cue: Cue) -> str:
    direction = ' tts:direction="rtl" tts:unicodeBidi="embed"' if is_right_to_left(_joined(cue)) else ""
    text = "<br/>".join(map(escape, cue.lines))
    return f'<p begin="{_time(cue.start_s, ".")}" end="{_time(cue.end_s, ".")}"{direction}>{text}</p>\n'


def to_cues(turns: Iterable[TurnEnd]) -> list[Cue]:
    """The cues of all turns in order; they do not overlap."""
    return in_order(cue for turn in turns for cue in cues_of(turn))


def cues_of(turn: TurnEnd) -> list[Cue]:
    """The cues of one turn, each as long as it takes to be read, so that they may overlap."""
    return [_readable(_cue(pieces)) for pieces in _groups(_pieces(turn))]


def in_order(cues: Iterable[Cue]) -> list[Cue]:
    """Cues that each end where the following one begins, at the latest."""
    cues = list(cues)
    ends = (max(cue.start_s, min(cue.end_s, following.start_s)) for cue, following in itertools.pairwise(cues))
    return [cue._replace(end_s=end_s) for cue, end_s in zip(cues, ends, strict=False)] + cues[-1:]


def _readable(cue: Cue) -> Cue:
    """A cue that stays long enough to be read."""
    reading_s = min(sum(map(width, cue.lines)) / (NARROW * LETTERS_PER_S), MAX_CUE_S)
    return cue._replace(end_s=max(cue.end_s, cue.start_s + max(reading_s, MIN_CUE_S)))


def _pieces(turn: TurnEnd) -> Iterator[_Piece]:
    """The words of a turn, each with the space before it, which is empty in languages without spaces."""
    words = turn.words
    text = printable(turn.text)
    if words is UNSET or not words:
        yield from _split(_Piece("", text.strip(), turn.start_s, turn.end_s))
        return
    end = 0
    for word in words:
        spoken = printable(word.text)
        begin = text.find(spoken, end)
        space = text[end:begin] if begin >= 0 and not text[end:begin].strip() else " "
        end = begin + len(spoken) if begin >= 0 else end
        yield from _split(_Piece(space, spoken.strip(), word.start_s, word.end_s))


def _split(piece: _Piece) -> Iterator[_Piece]:
    """Cut a piece that is longer than a line; its time is divided by characters."""
    text, start_s = piece.text, piece.start_s
    seconds = (piece.end_s - piece.start_s) / max(len(text), 1)
    space = piece.space
    while width(text) > LINE:
        at = cut(text)
        end_s = start_s + at * seconds
        yield _Piece(space, text[:at], start_s, end_s)
        space = " " if text[at] == " " else ""
        text, start_s = text[at:].lstrip(), end_s
    if text:
        yield _Piece(space, text, start_s, piece.end_s)


def _groups(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Group pieces into cues."""
    group: list[_Piece] = []
    for piece in pieces:
        while group and not _is_cue([*group, piece]):
            at = _last_clause(group)
            yield group[:at]
            group = group[at:]
        group.append(piece)
        if piece.text.endswith(SENTENCE_ENDS) and width(_text(group)) > LINE // 2:
            yield group
            group = []
    if group:
        yield group


def _last_clause(group: Sequence[_Piece]) -> int:
    """Number of pieces of a full cue: up to the last end of a clause in its second half, else all."""
    half = width(_text(group)) / 2
    ends = [at for at in range(1, len(group)) if group[at - 1].text.endswith(CLAUSE_ENDS)]
    return max((at for at in ends if width(_text(group[:at])) >= half), default=len(group))


def _is_cue(pieces: Sequence[_Piece]) -> bool:
    return pieces[-1].end_s - pieces[0].start_s <= MAX_CUE_S and _lines(pieces) is not None


def _cue(pieces: Sequence[_Piece]) -> Cue:
    lines = _lines(pieces)
    # `_groups` tests this before it adds a piece, and one piece alone always fits
    assert lines is not None
    return Cue(pieces[0].start_s, pieces[-1].end_s, lines)


def _lines(pieces: Sequence[_Piece]) -> tuple[str, ...] | None:
    """One line if the text fits, else the best two; None if two lines are not enough."""
    whole = _text(pieces)
    if width(whole) <= LINE:
        return (whole,)
    pairs = [(_text(pieces[:at]), _text(pieces[at:])) for at in range(1, len(pieces))]
    fitting = [pair for pair in pairs if max(map(width, pair)) <= LINE]
    return min(fitting, key=_unevenness) if fitting else None


def _unevenness(lines: tuple[str, str]) -> int:
    """Lower is better: lines of equal width read best, and a first line that ends a clause allows some difference."""
    return abs(width(lines[0]) - width(lines[1])) - (FULL_BREAK if lines[0].endswith(CLAUSE_ENDS) else 0)


def _text(pieces: Sequence[_Piece]) -> str:
    return "".join(piece.space + piece.text for piece in pieces).strip()


def _joined(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _embedded(cue: Cue) -> str:
    # players lay out SubRip from left to right unless a line is embedded
    return "\n".join(f"\u202b{line}\u202c" if is_right_to_left(line) else line for line in cue.lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
