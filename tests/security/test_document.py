"""The threat model: each promise of docs/security.md has tests that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROWS = re.findall(r"^\|(.*)\|$", (ROOT / "docs" / "security.md").read_text(), re.MULTILINE)
HEAD = ["attacker", "what edgevid promises", "what it doesn't promise", "what stops it", "tests"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def cells(row):
    return [cell.strip() for cell in row.split("|")]


def functions(file):
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_tests_that_exist():
    head, _, *rows = [cells(row) for row in ROWS]
    assert head == HEAD
    assert len(rows) > 20
    for row in rows:
        assert len(row) == len(HEAD) and all(row), row
        named = TEST.findall(row[-1])
        assert named, row
        for file, name in named:
            assert name in functions(file), (file, name)


def test_every_file_of_tests_stands_for_a_promise():
    named = {file for row in ROWS for file, _ in TEST.findall(row)}
    files = {str(path.relative_to(ROOT)) for path in Path(__file__).parent.glob("test_*.py")}
    assert files - named == {"tests/security/test_document.py"}
