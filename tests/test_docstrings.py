"""What public docstrings must tell: what is raised, the shapes of tensors, and each of three parameters or more."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(
    path
    for path in [ROOT / "model", *(ROOT / "streamer").iterdir()]
    if (path.is_dir() and any(path.rglob("*.py"))) or path.suffix == ".py"
)
TENSORS = re.compile(r"\b(Tensor|NDArray|Samples)\b")
SHAPE = re.compile(r"\((?:[\w.+*/ -]+,)+[\w.+*/ …-]*\)|\bscalar\b|\bshape of\b|\bsame shape\b")
"""(n_rows, n_ctx), (n,), or words that say it."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Documented:
    """A public function, with the docstring that speaks for it: of `__init__` that is its class's."""

    place: str
    node: Function
    docstring: str

    @property
    def parameters(self) -> list[ast.arg]:
        """Its parameters but self and cls."""
        arguments = self.node.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        return [one for one in named if one.arg not in ("self", "cls")]

    def raised(self) -> set[str]:
        """Names of the exceptions that its own body raises."""
        return {name for node in _own_nodes(self.node) if isinstance(node, ast.Raise) and (name := _exception(node))}


def functions(path: Path) -> Iterator[Documented]:
    """Public functions and methods of a file, private classes left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    yield from _public(tree.body, str(path.relative_to(ROOT)), None)


def _public(body: list[ast.stmt], place: str, owner: ast.ClassDef | None) -> Iterator[Documented]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _public(node.body, f"{place}:{node.name}", node)
        elif isinstance(node, Function):
            own = ast.get_docstring(node) or ""
            if node.name == "__init__" and owner:
                yield Documented(f"{place}:{node.lineno}", node, own + (ast.get_docstring(owner) or ""))
            elif not node.name.startswith("_") and not _is_command(node):
                yield Documented(f"{place}:{node.lineno} {node.name}", node, own)


def _is_command(node: Function) -> bool:
    """Whether click shows its options: their help texts document them."""
    return any("command" in ast.unparse(decorator) for decorator in node.decorator_list)


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def _exception(node: ast.Raise) -> str:
    """ProtocolError of `raise ProtocolError(…)`; nothing for a bare raise or an exception held in a variable."""
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    name = ast.unparse(raised).rpartition(".")[2] if raised else ""
    return name if name[:1].isupper() else ""


def of_package(package: Path) -> list[Documented]:
    """Every public function of a package or of one file."""
    paths = sorted(package.rglob("*.py")) if package.is_dir() else [package]
    return [one for path in paths for one in functions(path)]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.stem)
def test_public_functions_say_what_they_raise(package: Path) -> None:
    """Each exception that a body raises itself stands in the docstring by name."""
    silent = {
        one.place: missing
        for one in of_package(package)
        if (missing := {name for name in one.raised() if name not in one.docstring})
    }

    assert silent == {}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.stem)
def test_public_functions_give_the_shapes_of_tensors(package: Path) -> None:
    """Who takes or returns tensors or arrays says their shape."""
    silent = []
    for one in of_package(package):
        annotations = [one.node.returns, *(parameter.annotation for parameter in one.parameters)]
        types = " ".join(ast.unparse(annotation) for annotation in annotations if annotation)
        if TENSORS.search(types) and not SHAPE.search(one.docstring):
            silent.append(one.place)

    assert silent == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.stem)
def test_three_parameters_have_a_section(package: Path) -> None:
    """From three parameters on, `Args:` names each."""
    silent = {}
    for one in of_package(package):
        names = [parameter.arg for parameter in one.parameters]
        _, found, section = one.docstring.partition("Args:")
        missing = [
            name for name in names if not found or not re.search(rf"^\s*\*{{0,2}}{name}\b[^\n]*:", section, re.M)
        ]
        if len(names) >= 3 and missing:
            silent[one.place] = missing

    assert silent == {}
