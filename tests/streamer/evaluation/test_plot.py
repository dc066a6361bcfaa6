"""Tests of streamer/evaluation/plot.py: a picture that is well-formed and puts points where they belong."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
import pytest

from streamer.errors import ConfigError
from streamer.evaluation.figures import DelayFigures, Figures
from streamer.evaluation.percentiles import Percentiles
from streamer.evaluation.plot import delay_plot
from streamer.evaluation.report import report
from streamer.evaluation.svg import HEIGHT, LEFT, WIDTH
from streamer.protocol.options import Delay
from tests.helpers.judged import judged

SVG = "{http://www.w3.org/2000/svg}"


def setting(p50_s: float, rate: float | None) -> DelayFigures:
    """A setting with some spread."""
    return DelayFigures(
        wer=rate,
        wer_interval=None if rate is None else (0.9 * rate, 1.1 * rate),
        commit_latency_s=Percentiles(p50=p50_s, p95=2 * p50_s),
        first_partial_latency_s=None,
        partial_churn=None,
    )


def figures(model: str = "tiny.en", **delays: DelayFigures) -> Figures:
    """Of an evaluation with these settings."""
    measured: dict[Delay, DelayFigures] = dict(delays)  # type: ignore[arg-type]
    return msgspec.structs.replace(report(model, [judged("red", "red", "red")], [], 1.0), delays=measured)


def dots(picture: str) -> list[tuple[float, float]]:
    """Places of the points."""
    circles = ElementTree.fromstring(picture).iter(f"{SVG}circle")
    return [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in circles]


def test_later_is_right_and_worse_is_up() -> None:
    """Inside the frame, in the order of their figures."""
    (x1, y1), (x2, y2) = dots(delay_plot(figures(low=setting(0.5, 0.06), high=setting(1.0, 0.05))))

    assert LEFT < x1 < x2 < WIDTH
    assert 0 < y1 < y2 < HEIGHT


def test_names_are_escaped() -> None:
    """The name of a model is a path where users give one, with any characters."""
    assert "a&lt;b&amp;c" in delay_plot(figures("a<b&c", low=setting(0.5, 0.06)))


def test_a_perfect_and_immediate_setting_has_a_point() -> None:
    """No errors and no delay are a picture too."""
    assert len(dots(delay_plot(figures(low=setting(0.0, 0.0))))) == 1


def test_settings_without_words_have_no_point() -> None:
    """They are left out; where no setting has words there is no picture."""
    assert len(dots(delay_plot(figures(low=setting(0.5, 0.06), high=setting(0.5, None))))) == 1
    with pytest.raises(ConfigError, match="no word in these recordings"):
        delay_plot(figures(high=setting(0.5, None)))
