"""The architecture: packages stand on floors, each imports only from floors below it, and pure packages stay pure."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    ("errors", "extras", "model", "text"),
    ("audio", "protocol", "weights"),
    ("client", "config", "step", "subtitles"),
    ("dialects", "host", "session", "telemetry"),
    ("access",),
    ("engine", "scheduling", "server"),
    ("build", "remote"),
    ("engine_process", "gateway", "library"),
    ("daemon", "evaluation"),
    ("gateways",),
    ("cli",),
)
"""
Packages and single files of `streamer`, and `model`: each imports only from floors above it in this list, that is from
what stands nearer to the ground. So `session` and `engine` know each other only through `step`, and `server` and
`scheduling` only through the protocols of `server.interfaces` and the plain values of `telemetry.statistics`.
"""
PURE = ("errors", "protocol", "text", "step", "subtitles", "dialects", "session")
"""They compute from what they are given: events in, events out, time as an argument."""
WAITS = {
    "asyncio",
    "concurrent",
    "multiprocessing",
    "selectors",
    "signal",
    "socket",
    "sounddevice",
    "threading",
    "time",
}
"""Modules of a clock, a thread or something to wait for."""
OUTSIDE = WAITS | {"io", "logging", "os", "pathlib", "random", "shutil", "structlog", "subprocess", "tempfile"}
"""The same, and modules that reach outside the process."""


def module_name(path: Path) -> str:
    """streamer/weights/__init__.py -> streamer.weights"""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for package in ("model", "streamer") for path in (ROOT / package).rglob("*.py")}
FACES = {"streamer", "streamer.__main__"}
"""The package itself and `python -m streamer`: on no floor."""


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, wherever in it the statement stands."""
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8"), str(path)), path))


def _imports(tree: ast.Module, path: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: line {node.lineno} is a relative import, expected an absolute one"
            assert node.module is not None
            yield node.module
            # `from streamer import weights` names a module too
            yield from (name for alias in node.names if (name := f"{node.module}.{alias.name}") in SOURCES)


def top(module: str) -> str:
    """torch.nn.functional -> torch"""
    return module.partition(".")[0]


def package_of(module: str) -> str:
    """The name on a floor that a module belongs to: model, or the first name below streamer."""
    return "model" if top(module) == "model" else module.removeprefix("streamer.").partition(".")[0]


def imported_packages(module: str) -> set[str]:
    """Other packages of the project that a module imports from."""
    found = {package_of(name) for name in imports(SOURCES[module]) if name in SOURCES and name not in FACES}
    return found - {package_of(module)}


@functools.cache
def reached(module: str) -> set[str]:
    """A module and every module of the project that it imports, near or far; faces import when they are called."""
    seen = [module]
    for name in seen:
        if name not in FACES:
            seen += sorted({found for found in imports(SOURCES[name]) if found in SOURCES} - set(seen))
    return set(seen)


def in_packages(packages: tuple[str, ...]) -> list[str]:
    """Modules of these packages."""
    return sorted(name for name in SOURCES if name not in FACES and package_of(name) in packages)


def test_every_package_stands_on_one_floor() -> None:
    """A new package has to say where it belongs."""
    listed = [name for floor in FLOORS for name in floor]

    assert sorted(listed) == sorted({package_of(name) for name in SOURCES if name not in FACES})


@pytest.mark.parametrize("package", [name for floor in FLOORS for name in floor])
def test_packages_import_only_from_floors_nearer_to_the_ground(package: str) -> None:
    """Neither from a floor above their own nor from their neighbours, so there is no circle."""
    level = next(n for n, floor in enumerate(FLOORS) if package in floor)
    allowed = {name for floor in FLOORS[:level] for name in floor}

    wrong = {name: found - allowed for name in in_packages((package,)) if (found := imported_packages(name)) - allowed}

    assert wrong == {}


def test_imports_inside_a_package_form_no_circle() -> None:
    """No file reaches itself, not even through the files beside it."""
    circles = [
        name
        for name in SOURCES.keys() - FACES
        for following in imports(SOURCES[name])
        if following in SOURCES and following != name and name in reached(following)
    ]

    assert circles == []


@pytest.mark.parametrize("module", in_packages(PURE))
def test_pure_packages_reach_nothing_outside(module: str) -> None:
    """No file, environment, log, clock, thread or event loop; and nothing they import can wait for something."""
    direct = {top(name) for name in imports(SOURCES[module])}
    far = {top(found) for name in reached(module) for found in imports(SOURCES[name])}

    assert direct.isdisjoint(OUTSIDE)
    assert far.isdisjoint(WAITS)


@pytest.mark.parametrize("module", in_packages(("model",)))
def test_model_imports_torch_and_the_pure_part_of_the_standard_library(module: str) -> None:
    """The network knows tensors only: nothing of the daemon, and nothing that reaches outside."""
    found = {top(name) for name in imports(SOURCES[module])}

    assert found <= {"torch", "model", *sys.stdlib_module_names}
    assert found.isdisjoint(OUTSIDE)


def test_the_package_itself_imports_nothing_heavy() -> None:
    """`import streamer` is for programs that may never load a model."""
    code = (
        "import sys, streamer; print(sorted({'torch', 'numpy', 'msgspec'} & set(sys.modules)), callable(streamer.load))"
    )

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert said.split() == ["[]", "True"]


def test_a_network_is_built_without_the_compiler_of_torch() -> None:
    """Its 850 modules take 2 s to import and 90 MB, and nothing needs them."""
    code = (
        "import sys, torch, model; names = model.ModelDimensions.__dataclass_fields__; "
        "dims = model.ModelDimensions(**dict(zip(names, (5, 24, 16, 4, 2, 37, 20, 16, 2, 3)))); "
        "tensors = {name: torch.zeros(shape) for name, shape in model.published_shapes(dims).items()}; "
        "model.Whisper.from_tensors(dims, tensors); print('torch._dynamo' in sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert said.split() == ["False"]


def test_one_file_knows_ray() -> None:
    """Ray is one way among several to place engines, and an extra."""
    assert [name for name in SOURCES if "ray" in map(top, imports(SOURCES[name]))] == ["streamer.remote.ray"]


def test_only_packages_stand_at_the_root() -> None:
    """Who opens the folder sees the architecture, not its files."""
    files = sorted(path.stem for path in (ROOT / "streamer").glob("*.py"))

    assert len([name for name in files if not name.startswith("__")]) <= 8
