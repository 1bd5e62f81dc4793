"""No function or file grows beyond what one can read in one go; docstrings don't count."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE, LONGEST_FUNCTION = 500, 80
FILES = sorted(
    path
    for folder in ("edgevid", "converters", "tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*.py")
)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstring_lines(node: ast.AST) -> set[int]:
    """The lines of every docstring in a node."""
    lines: set[int] = set()
    for one in ast.walk(node):
        if isinstance(one, Documented) and ast.get_docstring(one, clean=False) is not None:
            first = one.body[0]
            lines.update(range(first.lineno, first.end_lineno + 1))
    return lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_and_no_function_is_too_long(path):
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    ignored = docstring_lines(tree)
    assert len(text.splitlines()) - len(ignored) <= LONGEST_FILE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = set(range(node.lineno, node.end_lineno + 1)) - ignored
            assert len(lines) <= LONGEST_FUNCTION, f"{node.name} has {len(lines)} lines"
