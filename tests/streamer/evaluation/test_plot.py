"""Tests of streamer/evaluation/plot.py: a picture that is well-formed and puts points where they belong."""

from __future__ import annotations

from xml.etree import ElementTree

from streamer.evaluation.plot import HEIGHT, LEFT, WIDTH, DelayPoint, delay_curve

SVG = "{http://www.w3.org/2000/svg}"


def point(name: str, p50_s: float, rate: float) -> DelayPoint:
    """A setting with some spread."""
    return DelayPoint(name=name, commit_p50_s=p50_s, commit_p95_s=2 * p50_s, rate=rate, low=0.9 * rate, high=1.1 * rate)


def dots(picture: str) -> list[tuple[float, float]]:
    """Places of the points."""
    circles = ElementTree.fromstring(picture).iter(f"{SVG}circle")
    return [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in circles]


def test_later_is_right_and_worse_is_up() -> None:
    """Inside the frame, in the order of their figures."""
    (x1, y1), (x2, y2) = dots(delay_curve("tiny.en", [point("low", 0.5, 0.06), point("high", 1.0, 0.05)]))

    assert LEFT < x1 < x2 < WIDTH
    assert 0 < y1 < y2 < HEIGHT


def test_names_are_escaped() -> None:
    """A model's path may hold anything."""
    assert "a&lt;b&amp;c" in delay_curve("a<b&c", [point("low", 0.5, 0.06)], one_shot=0.05)


def test_perfect_and_immediate() -> None:
    """No errors and no delay are a picture too."""
    zero = DelayPoint(name="low", commit_p50_s=0.0, commit_p95_s=0.0, rate=0.0, low=0.0, high=0.0)

    assert len(dots(delay_curve("m", [zero], one_shot=0.0))) == 1
