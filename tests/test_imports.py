"""Who may import whom: the parts of the product stand in levels, and what is pure stays pure."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = (("model",), ("engine",), ("scheduler",), ("server", "capture"), ("daemon",), ("cli",))
"""A part imports only from levels to its left; other files of streamer carry no import past this order."""
PURE = (
    "bootstrap",
    "captions",
    "circles",
    "decoding",
    "events",
    "hypothesis",
    "journal",
    "keyterms",
    "mel",
    "options",
    "plot",
    "protocol",
    "resumption",
    "rollup",
    "scoring",
    "session",
    "sound_window",
    "step",
    "tally",
    "timing",
    "tokenizer",
    "transcript",
    "typesetting",
    "unread",
    "webm",
    "window_text",
)
"""Files of streamer that compute from what they are given, and run from a list of events."""
PURE_DIALECTS = (
    "actions",
    "deepgram",
    "deepgram_request",
    "growth",
    "language_names",
    "openai_client_events",
    "openai_errors",
    "openai_http",
    "openai_keys",
    "openai_realtime",
    "openai_session",
    "text",
    "vosk",
    "wav_header",
    "wyoming",
)
"""The same of streamer.dialects."""
IMPURE = {"asyncio", "socket", "sounddevice", "threading", "time"}


def sources(package: str) -> list[Path]:
    """Source files of a package, tests and caches not among them."""
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    """streamer/weights/__init__.py -> streamer.weights"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: line {node.lineno} is a relative import, expected an absolute one"
            assert node.module is not None
            yield node.module
            # `from streamer import engine` names a module too; names that are none are no harm
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(module: str) -> str:
    """torch.nn.functional -> torch"""
    return module.partition(".")[0]


def part(module: str) -> str:
    """The part a module belongs to: model, or the first name below streamer; empty for streamer itself."""
    return "model" if top(module) == "model" else module.removeprefix("streamer").lstrip(".").partition(".")[0]


def part_graph() -> dict[str, set[str]]:
    """For each part, the parts it imports; the package's own `__init__` is part of nothing."""
    parts = {part(module_name(path)) for package in ("model", "streamer") for path in sources(package)} - {""}
    graph: dict[str, set[str]] = {name: set() for name in parts}
    for path in [*sources("model"), *sources("streamer")]:
        if name := part(module_name(path)):
            own = {part(module) for module in imports(path) if top(module) in ("model", "streamer")}
            graph[name] |= own & parts
    return graph


def chain(graph: Mapping[str, set[str]], start: str, goal: str) -> list[str]:
    """Shortest chain of imports from one part to another; empty where there is none."""
    chains = [[start]]
    seen = {start}
    for one in chains:
        for following in sorted(graph[one[-1]] - seen):
            if following == goal:
                return [*one, goal]
            seen.add(following)
            chains.append([*one, following])
    return []


@pytest.mark.parametrize("path", sources("model"), ids=module_name)
def test_model_imports_torch_and_the_standard_library(path: Path) -> None:
    """The network knows tensors only, and nothing of the daemon."""
    allowed = {"torch", "model", *sys.stdlib_module_names}

    assert {top(module) for module in imports(path)} <= allowed


@pytest.mark.parametrize("path", sources("model"), ids=module_name)
def test_model_touches_no_file_socket_clock_or_thread(path: Path) -> None:
    """Of the standard library, the network takes nothing that reaches outside."""
    outside = IMPURE | {
        "io",
        "os",
        "pathlib",
        "logging",
        "subprocess",
        "shutil",
        "tempfile",
        "multiprocessing",
    }

    assert {top(module) for module in imports(path)}.isdisjoint(outside)


@pytest.mark.parametrize("name", PURE)
def test_pure_files_wait_for_nothing(name: str) -> None:
    """No event loop, socket, sound card, thread or clock: time is an argument."""
    found = {top(module) for module in imports(ROOT / "streamer" / f"{name}.py")}

    assert found.isdisjoint(IMPURE)


@pytest.mark.parametrize("name", [name for level in LEVELS for name in level])
def test_imports_go_one_way(name: str) -> None:
    """No chain of imports leads from a part to one of its own level or to the right of it."""
    graph = part_graph()
    if name not in graph:
        pytest.skip(f"there is no {name} yet")
    level = next(i for i, names in enumerate(LEVELS) if name in names)
    above = {other for names in LEVELS[level:] for other in names} - {name}

    chains = [chain(graph, name, other) for other in sorted(above & set(graph))]

    assert [found for found in chains if found] == []


@pytest.mark.parametrize("name", PURE)
def test_pure_files_do_not_reach_the_daemon(name: str) -> None:
    """No chain of imports leads from a pure file to the engine or anything that runs above it."""
    graph = part_graph()
    running = {other for names in LEVELS[1:] for other in names} & set(graph)

    chains = [chain(graph, name, other) for other in sorted(running)]

    assert [found for found in chains if found] == []


@pytest.mark.parametrize("name", PURE_DIALECTS)
def test_pure_dialects_reach_nothing_that_waits(name: str) -> None:
    """Neither a pure dialect nor anything of the project that it imports, near or far, can wait for something."""
    paths = {module_name(path): path for path in sources("streamer")}
    reached = [f"streamer.dialects.{name}"]
    for module in reached:
        reached += sorted({found for found in imports(paths[module]) if found in paths} - set(reached))

    assert {top(found) for module in reached for found in imports(paths[module])}.isdisjoint(IMPURE)
