"""Outside the tasks themselves no code names one task: adding a task changes its own files only.

Names, attributes and strings count; comments and docstrings are prose and may give examples.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (ROOT / "edgevid", ROOT / "converters/edgevid_converters")
TASK_CODE = ("edgevid/predictions.py", "edgevid/tasks/", "edgevid/training/")

WORD = re.compile(
    r"(?<![a-z0-9])"
    r"(scores|argmax|accurac(?:y|ies)|top[-_ ]?1|classifications?|classifiers?)"
    r"(?![a-z0-9])",
    re.IGNORECASE,
)

ALLOWED = {
    # the public names have those of the prediction types
    "edgevid/__init__.py": {"Classification"},
    # the built-in task's row
    "edgevid/registry.py": {"classification"},
    # the place of a largest value that is not a label: a step of a proof, a shape of warm-up
    "edgevid/bench/warmup.py": {"argmax"},
    "edgevid/runner/canary.py": {"argmax"},
    "converters/edgevid_converters/acceptance/reference.py": {"argmax"},
    # operators of ONNX, by their names there
    "converters/edgevid_converters/importers/onnx_operators/activations.py": {"argmax"},
    "converters/edgevid_converters/importers/onnx_operators/reduce.py": {"ArgMax", "argmax"},
    # the demo trains a classifier and shows what it says
    "edgevid/demo/report.py": {"scores", "Scores"},
}
"""Path -> tokens that may stay there."""


def sources() -> list[Path]:
    files = [file for package in PACKAGES for file in sorted(package.rglob("*.py"))]
    return [file for file in files if not relative(file).startswith(TASK_CODE)]


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def docstring_lines(text: str) -> set[int]:
    """The first lines of docstrings, and of strings that stand alone as comments."""
    return {
        node.value.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def found_in(text: str) -> list[tuple[int, str]]:
    """Line and word of each token that names a task, and of each indexing of labels."""
    prose, found = docstring_lines(text), []
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token, following in pairwise(tokens):
        kinds = (tokenize.NAME, tokenize.STRING)
        if token.type not in kinds or (token.start[0] in prose and token.type == tokenize.STRING):
            continue
        found += [(token.start[0], match[0]) for match in WORD.finditer(token.string)]
        if token.string == "labels" and following.string == "[":
            found.append((token.start[0], "labels["))
    return found


@pytest.mark.parametrize("file", sources(), ids=relative)
def test_no_code_names_a_task(file):
    allowed = ALLOWED.get(relative(file), set())
    found = [one for one in found_in(file.read_text("utf-8")) if one[1] not in allowed]
    assert not found, f"{relative(file)} names a task; ask the task instead: {found}"


def test_what_is_allowed_is_there():
    for path, words in ALLOWED.items():
        there = {word for _, word in found_in((ROOT / path).read_text("utf-8"))}
        assert words <= there, f"{path} no longer has {words - there}"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = outputs['scores']", ["scores"]),
        ("from edgevid.contract import SCORES", ["SCORES"]),
        ("best = values.argmax(-1)", ["argmax"]),
        ("name = labels[best]", ["labels["]),
        ("def accuracy(found): ...", ["accuracy"]),
        ("top_1 = f'{top1}'", ["top_1", "top1"]),
        ("if task == 'classification': ...", ["classification"]),
        ("def f():\n    '''Explain accuracy.'''\n    # argmax of the scores\n", []),
        ("labels = {}", []),
        ("underscores = 3", []),
    ],
)
def test_the_search_finds_names_and_no_prose(code, words):
    assert [word for _, word in found_in(code)] == words
