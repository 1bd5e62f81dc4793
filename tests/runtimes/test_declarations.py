"""A runtime's declaration is the only place that names its libraries; everything else asks it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import edgevid
from edgevid import targets
from edgevid.errors import BadInput
from edgevid.runtimes import catalog
from edgevid.targets import EngineChoice

PACKAGE = Path(edgevid.__file__).parent
ALLOWED = {
    "registry.py": "the rows, and what the converters' tools need",
    "demo": "it shows certain artifacts",
    "testing/task.py": "libraries that a declaration must not import",
}
"""Files and folders of edgevid, besides ``runtimes``, that may name a runtime or its library."""


def names_in(tree: ast.Module) -> set[str]:
    """The names that a module imports and that are in its strings, without its docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                found |= set(re.findall(r"[a-z][a-z0-9_-]+", node.value))
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_no_other_module_names_a_runtime_or_its_library():
    names = {spec.name for spec in catalog.built_in()}
    for library in (one for spec in catalog.built_in() for one in spec.libraries):
        names |= {library.project, library.package}
    names -= {"null"}  # also a word of its own
    offenders = {}
    for file in PACKAGE.rglob("*.py"):
        path = file.relative_to(PACKAGE)
        if path.parts[0] == "runtimes" or {path.parts[0], path.as_posix()} & ALLOWED.keys():
            continue
        if named := names_in(ast.parse(file.read_text())) & names:
            offenders[path.as_posix()] = sorted(named)
    assert offenders == {}


OTHER = """
from edgevid.runtimes.spec import AcceleratorSpec, ArtifactFormat, RuntimeSpec
CPU = AcceleratorSpec("cpu", "other:CPU", ("mine", "tflite"), ("float32", "int8"))
FORMATS = (ArtifactFormat("mine", ("mine",)), ArtifactFormat("tflite", ("tflite",)))
PLUGIN = RuntimeSpec("other", FORMATS, (CPU,))
"""


def test_another_packages_runtime_serves_its_own_format_and_others_if_it_is_named(plugin_package):
    plugin_package("other", [("runtime", "other = other:PLUGIN")], OTHER)
    target = targets.load("linux-x86-64")
    own = [EngineChoice("other", "cpu", ("float32", "int8"))]
    assert catalog.engines(target, {"tflite"}) == target.engine
    assert catalog.engines(target, {"tflite"}, ["tflite"]) == target.engine
    assert catalog.engines(target, {"tflite"}, ["other"]) == (*target.engine, *own)
    assert catalog.engines(target, {"mine", "tflite"}) == (*target.engine, *own)
    assert catalog.made_for("mine") == ("other",)
    assert catalog.made_for("tflite") == ("tflite",)
    assert catalog.made_for_files({"mine": b""}) == "other"
    with pytest.raises(BadInput, match="did you mean other"):
        catalog.engines(target, (), ["othr"])
