"""The floors of branch coverage: figures by package, and what is wrong with them."""

from __future__ import annotations

from tests.coverage_floors import figures, judge


def counts(lines: tuple[int, int], branches: tuple[int, int]) -> dict[str, dict[str, int]]:
    """What a report says of a file: (run, of all) lines and branches."""
    return {
        "summary": {
            "covered_lines": lines[0],
            "num_statements": lines[1],
            "covered_branches": branches[0],
            "num_branches": branches[1],
        }
    }


def test_files_are_counted_with_their_package() -> None:
    """Folders within a package count with it, single files with the folder above, empty files not at all."""
    report = {
        "model/cache.py": counts((9, 10), (5, 10)),
        "streamer/__init__.py": counts((0, 0), (0, 0)),
        "streamer/gateway.py": counts((5, 10), (0, 0)),
        "streamer/server/app.py": counts((10, 10), (0, 0)),
        "streamer/server/rooms/room.py": counts((0, 6), (0, 4)),
    }

    assert figures(report) == {"model": 70.0, "streamer": 50.0, "streamer/server": 50.0}


def test_every_package_is_held_to_its_floor() -> None:
    """Below its floor, without a floor, or a floor without a package: each is told, nothing else is."""
    _, wrong = judge({"a": 90.0, "b": 89.9, "c": 50.0}, {"a": 90.0, "b": 90.0, "d": 10.0})

    assert [line.split()[0] for line in wrong] == ["b", "c", "coverage_floors.toml"]


def test_floors_that_may_rise_are_named() -> None:
    """A figure well above its floor could sink unnoticed."""
    table, wrong = judge({"a": 93.7, "b": 91.0}, {"a": 90.0, "b": 90.0})

    assert wrong == []
    assert "may rise to 93" in table[2]
    assert "may rise" not in table[3]
