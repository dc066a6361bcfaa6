"""Tests of streamer.evaluation.bench: the search, what is played, and what is reported."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamer.audio.pcm import SAMPLE_RATE
from streamer.build.service import Service
from streamer.config import Config, ModelConfig, SchedulerConfig
from streamer.errors import ConfigError
from streamer.evaluation import bench
from streamer.evaluation.bench import BenchOptions, Clip, StreamsFigures, largest, looped, read_clips
from streamer.evaluation.percentiles import Percentiles
from streamer.gateway import build_service
from streamer.scheduling.scheduler import Scheduler
from tests.helpers.recordings import Recording

GAP = round(bench.GAP_S * SAMPLE_RATE)
ONE_THREAD = Config(model=ModelConfig(name="tiny.en", device="cpu", dtype="float32", threads=1))


@pytest.fixture
def no_chance_collection() -> Iterator[None]:
    """Garbage is collected where the code asks for it, and nowhere else."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Building sets the threads of the process: put them back."""
    n = torch.get_num_threads()
    yield
    torch.set_num_threads(n)


def clip(level: float, seconds: float) -> Clip:
    """A recording of one loudness."""
    return Clip(np.full(round(seconds * SAMPLE_RATE), level, np.float32), str(level))


# --- the search


class Machine:
    """Carries up to `most` streams, and remembers what it was asked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tried: list[int] = []

    def carries(self, n: int) -> bool:
        """Whether `n` streams are carried."""
        self.tried.append(n)
        return n <= self.most


@given(most=st.integers(0, bench.MOST_STREAMS))
def test_the_largest_number_is_found(most: int) -> None:
    """To a tenth of itself and never above, exactly where it is small; in few trials, none of them twice."""
    machine = Machine(most)

    found = largest(machine.carries)

    assert found <= most <= found + found // 10
    assert found in machine.tried or found == 0
    assert len(set(machine.tried)) == len(machine.tried) <= 20


def test_a_machine_that_carries_one_only() -> None:
    """Two trials settle it; where not even one is carried, one does."""
    machine = Machine(1)
    assert largest(machine.carries) == 1
    assert machine.tried == [1, 2]
    assert largest(Machine(0).carries) == 0


def test_a_machine_that_carries_everything() -> None:
    """The search ends at its limit."""
    machine = Machine(10**9)
    assert largest(machine.carries) == max(machine.tried) == bench.MOST_STREAMS


# --- what is played


def test_the_package_has_clips() -> None:
    """A few short English recordings with their text."""
    clips = read_clips(None)

    assert len(clips) >= 3
    assert all(clip.samples.dtype == np.float32 and 1 < len(clip.samples) / SAMPLE_RATE < 30 for clip in clips)
    assert any("ask not what your country can do for you" in clip.text for clip in clips)


def test_a_manifest_gives_its_short_english_clips(
    speech: Path, recordings: dict[str, Recording], tmp_path: Path
) -> None:
    """Its short English rows, found beside it; other languages and kinds are left out."""
    rows = [json.loads(line) for line in (speech / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        (tmp_path / row["file"]).symlink_to(speech / row["file"])
    rows[0]["kind"] = "noise"
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    clips = read_clips(tmp_path / "manifest.jsonl")

    expected = [row for row in rows if (row["kind"], row["language"]) == ("short", "en")]
    assert 0 < len(expected) < len(rows) - 1, "nothing to leave out: the test shows nothing"
    assert [clip.text for clip in clips] == [row["text"] for row in expected]
    assert np.array_equal(clips[0].samples, recordings[expected[0]["id"]].samples)


def test_a_manifest_without_clips_is_refused(tmp_path: Path) -> None:
    """There is nothing to loop: said at once."""
    (tmp_path / "manifest.jsonl").touch()

    with pytest.raises(ConfigError, match='no recording of kind "short" and language "en"'):
        read_clips(tmp_path / "manifest.jsonl")


def test_clips_are_looped() -> None:
    """Whole clips with silence between, each once before any comes again, until the time is full."""
    clips = [clip(level, seconds) for level, seconds in ((0.1, 1.0), (0.2, 0.5), (0.3, 0.7))]

    stream = looped(clips, np.random.default_rng(0), 9.0)

    samples = stream.samples
    order, at = [], 0
    while at < len(samples):
        played = next(clip for clip in clips if clip.samples[0] == samples[at])
        end = at + len(played.samples)
        assert np.array_equal(samples[at:end], played.samples)
        assert not samples[end : end + GAP].any()
        order.append(played.text)
        at = end + GAP
    assert at == len(samples)
    assert stream.text == " ".join(order)
    assert len(samples) >= 9 * SAMPLE_RATE > at - len(played.samples) - GAP
    assert [len(set(order[i : i + 3])) for i in range(0, len(order) - 2, 3)] == [3] * (len(order) // 3)


def test_every_stream_has_its_own_order() -> None:
    """The same again for the same stream."""
    clips = [clip(level / 10, 0.1) for level in range(1, 10)]

    one, same, other = (looped(clips, np.random.default_rng(seed), 9.0).samples for seed in (0, 0, 1))

    assert np.array_equal(one, same)
    assert not np.array_equal(one[: 5 * SAMPLE_RATE], other[: 5 * SAMPLE_RATE])


# --- what is reported


class MeasuredMachine(Machine):
    """A machine whose figures are made up; beyond `places` it refuses, and keeps the bound with the others."""

    def __init__(self, most: int, places: int = 10**9) -> None:
        super().__init__(most)
        self.places = places

    def measure(self, _config: Config, _clips: Sequence[Clip], n: int, _options: BenchOptions) -> StreamsFigures:
        """Figures of `n` streams, within the bound if those that are not refused are carried."""
        is_carried = self.carries(n)
        return StreamsFigures(
            streams=n,
            refused=max(0, n - self.places),
            audio_s=30.0 * n,
            wall_s=31.0,
            words=50 * n,
            word_error_rate=0.05,
            commit_latency_s=Percentiles(p50=0.5, p95=1.0 if is_carried else 9.0),
            first_partial_latency_s=None,
            decoder_token_ms=Percentiles(p50=1.0, p95=2.0),
            row_cost_ms=10.0,
            cpu_s_per_audio_s=0.25,
            peak_rss_mb=500,
            within_bound=is_carried,
        )


def test_the_search_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each number tried, the largest one carried, and all figures in the file."""
    machine = MeasuredMachine(5)

    assert bench.run(Config(), BenchOptions(json_out=tmp_path / "out.json"), machine.measure) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines[1:-1]] == machine.tried == [1, 2, 4, 8, 6, 5]
    assert [line.split()[-1] for line in lines[1:-1]] == ["yes", "yes", "yes", "no", "no", "yes"]
    assert lines[-1] == "5 live streams within p95 2.5 s"
    report = json.loads((tmp_path / "out.json").read_text())
    assert (report["streams"], report["bound_s"], [row["streams"] for row in report["results"]]) == (
        5,
        2.5,
        machine.tried,
    )
    assert report.keys() == {"model", "bound_s", "streams", "results"}
    assert report["results"][0]["commit_latency_s"] == {"p50": 0.5, "p95": 1.0}
    assert report["results"][0]["first_partial_latency_s"] is None


@pytest.mark.parametrize(("streams", "most", "said", "code"), [(7, 9, 7, 0), (7, 3, 0, 1), (None, 0, 0, 1)])
def test_the_exit_code_is_1_where_nothing_is_carried(
    capsys: pytest.CaptureFixture[str], streams: int | None, most: int, said: int, code: int
) -> None:
    """Neither the number asked for nor, without one, any number; nothing else is tried."""
    machine = MeasuredMachine(most)

    assert bench.run(Config(), BenchOptions(streams=streams), machine.measure) == code

    assert machine.tried == [streams or 1]
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{said} live streams")


def test_refused_streams_are_not_carried(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither does the search go on with them, nor are they in the number that is said: the others keep the bound."""
    machine = MeasuredMachine(10**9, places=5)

    assert bench.run(Config(), BenchOptions(admission=True), machine.measure) == 0
    assert machine.tried == [1, 2, 4, 8, 6, 5]
    assert bench.run(Config(), BenchOptions(admission=True, streams=8), machine.measure) == 0

    said = [line for line in capsys.readouterr().out.splitlines() if "live streams" in line]
    assert said == ["5 live streams within p95 2.5 s"] * 2


@pytest.mark.usefixtures("restored_threads")
def test_every_figure_of_one_stream_is_written(recordings: dict[str, Recording], speech: Path, tmp_path: Path) -> None:
    """Two seconds of speech in real time through a network of random weights."""
    text = recordings["dev-LJ002-0020"].text
    row = {"id": "a", "file": str(speech / "dev-LJ002-0020.flac"), "language": "en", "text": text, "kind": "short"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    config = Config(
        model=ModelConfig(name="tiny.en", device="cpu", dtype="float32", threads=1),
        scheduler=SchedulerConfig(max_sessions=0),
    )

    options = BenchOptions(
        streams=1,
        seconds=2.0,
        random_weights=True,
        manifest=tmp_path / "manifest.jsonl",
        json_out=tmp_path / "out.json",
    )

    code = bench.run(config, options)

    report = json.loads((tmp_path / "out.json").read_text())
    [result] = report["results"]
    assert (report["model"], report["bound_s"]) == ("tiny.en", bench.COMMIT_BOUND_S)
    assert report["streams"] == (1 if result["within_bound"] else 0)
    assert code == (0 if result["within_bound"] else 1)
    assert set(result) == {
        "streams",
        "refused",
        "word_error_rate",
        "audio_s",
        "wall_s",
        "words",
        "commit_latency_s",
        "first_partial_latency_s",
        "decoder_token_ms",
        "row_cost_ms",
        "cpu_s_per_audio_s",
        "peak_rss_mb",
        "within_bound",
    }
    assert 2.0 <= result["audio_s"] <= result["wall_s"]
    assert result["words"] >= 3
    assert 0 <= result["commit_latency_s"]["p50"] <= result["commit_latency_s"]["p95"]
    assert result["row_cost_ms"] > 0
    assert result["peak_rss_mb"] > 100


@pytest.mark.usefixtures("restored_threads")
def test_admission_refuses_what_is_too_much(
    recordings: dict[str, Recording], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two streams the one that finds no place is counted, and its words are missed by nobody."""
    spoken = recordings["dev-LJ002-0020"]
    config = Config(
        model=ModelConfig(name="tiny.en", device="cpu", dtype="float32", threads=1),
        scheduler=SchedulerConfig(max_sessions=1),
    )

    options = BenchOptions(seconds=2.0, admission=True)

    result = bench.measure_streams(config, [Clip(spoken.samples, spoken.text)], 2, options)

    assert (result.streams, result.refused, result.word_error_rate) == (2, 1, 0.0)
    assert capsys.readouterr().out.count("session_ended") <= 1


@pytest.mark.usefixtures("restored_threads")
def test_a_machine_that_refuses_everybody_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to divide by: the figures are missing, and the exit code is that of a machine too slow."""

    def build(config: Config, *, random_weights: bool) -> Service:
        service = build_service(config, random_weights=random_weights)
        asyncio.run(service.scheduler.drain(0.0))  # from here on it takes nobody
        return service

    monkeypatch.setattr(bench, "build_service", build)
    options = BenchOptions(streams=2, seconds=1.0, random_weights=True)

    assert bench.run(ONE_THREAD, options) == 1

    [line] = [line for line in capsys.readouterr().out.splitlines() if line.endswith("no")]
    assert line.split() == ["2", *["nan"] * 4, "-", "-", "2", "no"]


@pytest.mark.usefixtures("restored_threads", "no_chance_collection")
def test_no_measurement_leaves_its_engine_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one would be built beside it, and on a GPU for the memory that it leaves."""
    schedulers: list[weakref.ref[Scheduler]] = []
    left: list[int] = []

    def build(config: Config, *, random_weights: bool) -> Service:
        left.append(sum(scheduler() is not None for scheduler in schedulers))
        service = build_service(config, random_weights=random_weights)
        schedulers.append(weakref.ref(service.scheduler))
        return service

    monkeypatch.setattr(bench, "build_service", build)
    silence = Clip(np.zeros(3200, np.float32), "one")
    for _ in range(2):
        bench.measure_streams(ONE_THREAD, [silence], 1, BenchOptions(seconds=0.5, random_weights=True))

    assert left == [0, 0]
