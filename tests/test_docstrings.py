"""Docstrings of the public surface: shapes and dtypes of arrays, and the errors that are raised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TREES = {"edgevid": ROOT / "edgevid", "edgevid_converters": ROOT / "converters/edgevid_converters"}

DTYPE = re.compile(r"\b(u?int(8|16|32|64)|float(16|32|64)|bool|complex64|dtype)\b", re.IGNORECASE)
SHAPE = re.compile(r"\bshapes?\b|\([\w.+*/ -]+,[\w.+*/, -]*\)")
ELSEWHERE = re.compile(r"\bsee `", re.IGNORECASE)
"""The docstring refers to that of the interface: "See `edgevid.runtimes.Engine.step`."."""
NO_CONTRACT = {"NotImplementedError", "AssertionError"}
"""Errors that mean a bug, and are not part of what a function promises."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Public:
    """A public function and where it is."""

    package: str
    place: str
    node: Function
    aliases: frozenset[str]

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.node) or ""


def publics() -> Iterator[Public]:
    for package, folder in TREES.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            top = ".".join((package, *parts[:1])) if parts[0] != "__init__" else package
            tree = ast.parse(file.read_text())
            aliases = array_aliases(tree)
            for name, node in public_functions(tree):
                place = f"{file.relative_to(ROOT)}:{node.lineno} {name}"
                yield Public(top, place, node, aliases)


def public_functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If | ast.Try):
            yield from public_functions(child, prefix)
        elif isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public_functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, Function) and not child.name.startswith("_"):
            if any("click." in ast.unparse(one) for one in child.decorator_list):
                continue  # its docstring is the help text of a command
            yield f"{prefix}{child.name}", child


def array_aliases(tree: ast.Module) -> frozenset[str]:
    """Names in a module that stand for a type of array."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and "NDArray" in ast.unparse(node.value):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(found)


def takes_arrays(public: Public) -> bool:
    node = public.node
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    annotations = [one.annotation for one in arguments if one.annotation] + [node.returns]
    text = " ".join(ast.unparse(one) for one in annotations if one)
    return any(re.search(rf"\b{name}\b", text) for name in {"NDArray", *public.aliases})


def raised(node: ast.AST) -> Iterator[str]:
    """The errors that leave a function because of its own `raise`; "" if no class is visible."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and child.exc is not None:
            call = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = ast.unparse(call).rpartition(".")[2]
            if name[:1].isupper():
                if name not in NO_CONTRACT:
                    yield name
            elif isinstance(child.exc, ast.Call):
                yield ""
        if isinstance(child, ast.Try):
            caught = {
                ast.unparse(n) for one in child.handlers if one.type for n in names_in(one.type)
            }
            body = ast.Module(child.body, [])
            yield from (name for name in raised(body) if name not in caught)
            yield from raised(ast.Module([*child.handlers, *child.orelse, *child.finalbody], []))
        elif not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield from raised(child)


def names_in(caught: ast.expr) -> list[ast.expr]:
    return list(caught.elts) if isinstance(caught, ast.Tuple) else [caught]


def raises_section(docstring: str) -> str | None:
    found = re.search(r"^Raises:\n((?:[ ].*\n?|\n)+)", docstring, re.MULTILINE)
    return found[1] if found else None


def faults(public: Public) -> Iterator[str]:
    if not public.docstring or ELSEWHERE.search(public.docstring):
        return
    if takes_arrays(public):
        if not DTYPE.search(public.docstring):
            yield f"{public.place}: gives no dtype"
        if not SHAPE.search(public.docstring):
            yield f"{public.place}: gives no shape"
    names = {name for name in raised(public.node) if not name.startswith("_")}
    section = raises_section(public.docstring)
    if names and section is None:
        yield f"{public.place}: raises {', '.join(sorted(names)) or 'an error'} without Raises:"
    else:
        for name in sorted(names - {""}):
            if not re.search(rf"^\s+[\w.]*\b{name}\b", section or "", re.MULTILINE):
                yield f"{public.place}: Raises: does not name {name}"


PUBLICS = list(publics())
PACKAGES = sorted({public.package for public in PUBLICS})


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_document_arrays_and_errors(package):
    found = [fault for public in PUBLICS if public.package == package for fault in faults(public)]
    assert not found, "\n".join(found)


def test_the_check_finds_faults():
    code = '''
def f(a: NDArray[np.uint8]) -> None:
    """Do it."""
    if a:
        raise BadInput("x")
'''
    (node,) = ast.parse(code).body
    found = list(faults(Public("p", "p f", node, frozenset())))
    assert [one.removeprefix("p f: ") for one in found] == [
        "gives no dtype",
        "gives no shape",
        "raises BadInput without Raises:",
    ]
