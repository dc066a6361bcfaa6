"""
Prints the branch coverage of each package, and fails where it is below the floor of `coverage_floors.toml`:

    python tests/coverage_floors.py          after `make unit-tests`

Coverage is lines and branches taken together, as `coverage report` counts them, of what ran in the process of the
unit tests. They mirror the files, so code that only a scenario runs shows as not covered.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath

from coverage import Coverage

FLOORS = Path(__file__).parent / "coverage_floors.toml"
REPORT = Path("build/coverage.json")
SLACK = 2.0
"""A floor this far below the figure is worth raising, per cent."""


def package_of(file: str) -> str:
    """streamer/server/rooms/room.py -> streamer/server; streamer/gateway.py -> streamer"""
    folders = PurePath(file).parts[:-1]
    return "/".join(folders[:2])


def figures(report: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, float]:
    """
    Per cent of lines and branches that were run, by package.

    Args:
        report: `files` of a JSON report: for each file its `summary`.
    """
    run, total = Counter[str](), Counter[str]()
    for file, found in report.items():
        counts, package = found["summary"], package_of(file)
        run[package] += counts["covered_lines"] + counts["covered_branches"]
        total[package] += counts["num_statements"] + counts["num_branches"]
    return {package: 100 * run[package] / total[package] for package in sorted(total) if total[package]}


def judge(found: Mapping[str, float], floors: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """
    Compare figures with their floors.

    Returns:
        The lines of a table, and a sentence for each package that is below its floor or has none, and for each floor
        that belongs to no package.
    """
    table, wrong = ["| package | coverage % | floor % | |", "|---|---:|---:|---|"], []
    for package, figure in found.items():
        floor = floors.get(package)
        note = "" if floor is None or figure < floor + SLACK else f"the floor may rise to {int(figure)}"
        table.append(f"| {package} | {figure:.1f} | {'none' if floor is None else floor} | {note} |")
        if floor is None:
            wrong.append(f"{package} has no floor in {FLOORS.name}: add one")
        elif figure < floor:
            wrong.append(f"{package} is covered to {figure:.1f} %, its floor is {floor} %: test what was added")
    wrong += [f"{FLOORS.name} names {package}, which was not measured" for package in floors if package not in found]
    return table, wrong


def report_of_last_run() -> dict[str, dict[str, dict[str, int]]]:
    """The figures of each file, from the data that `coverage run` left in `build/`."""
    coverage = Coverage()
    coverage.load()
    coverage.json_report(outfile=str(REPORT))
    files: dict[str, dict[str, dict[str, int]]] = json.loads(REPORT.read_text(encoding="utf-8"))["files"]
    return files


def main() -> int:
    """The table on standard output; 1 where a package is below its floor."""
    floors = tomllib.loads(FLOORS.read_text(encoding="utf-8"))["floors"]
    table, wrong = judge(figures(report_of_last_run()), floors)
    print("\n".join([*table, *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
