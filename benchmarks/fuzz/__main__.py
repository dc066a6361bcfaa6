"""
Fuzzes every parser: each case must give a result or a `StreamerError`, never another error, crash or hang.

    python -m benchmarks.fuzz [--cases 100000] [--seed 0] [--only NAME]

A case is a valid input with a few mutations: bytes flipped, cut, inserted, or exchanged with those of another input.
Printed for each parser: cases, refused cases, cases per second of processor time, memory. The first failure ends the
run and is printed with the seed and the number of its case.
"""

from __future__ import annotations

import argparse
import logging
import resource
import tempfile
import time
import warnings
from pathlib import Path

from benchmarks.arguments import program, whole
from benchmarks.fuzz import dialects, ours, recordings
from benchmarks.fuzz.cases import run


def main() -> None:
    """Fuzz all parsers, and print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument(
        "--cases", type=whole(), default=100_000, help="of the fastest parsers; slow ones get a share"
    )
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only")
    args = arguments.parse_args()
    warnings.simplefilter("ignore")  # torch warns of strange archives
    logging.disable()
    total = 0
    print("| parser | cases | refused | cases a second | memory MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        parsers = (*ours.parsers(Path(folder)), *dialects.parsers(), *recordings.parsers())
        if args.only not in (None, *(parser.name for parser in parsers)):
            arguments.error(f"--only {args.only}: expected one of {', '.join(parser.name for parser in parsers)}")
        for parser in parsers:
            if args.only not in (None, parser.name):
                continue
            n_cases, started = max(1, int(args.cases * parser.share)), time.process_time()
            n_refused = run(parser, n_cases, args.seed)
            rate = n_cases / (time.process_time() - started)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"| {parser.name} | {n_cases:,} | {n_refused:,} | {rate:,.0f} | {memory:.0f} |", flush=True)
            total += n_cases
    print(f"\n{total:,} cases, seed {args.seed}: no crash, no hang")


if __name__ == "__main__":
    program(main)
