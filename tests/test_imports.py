"""Start-up and devices stay light: what a process imports is held here."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HEAVY = ("av", "cv2", "keras", "matplotlib", "nncf", "openvino", "tensorflow", "torch")


def imported_by(code: str) -> set[str]:
    script = f"{code}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "module",
    [
        "edgevid.cli",
        "edgevid.runner.service",
        "edgevid.bench.engine_process",
        "edgevid.proof",
        "edgevid.evaluation",
        "edgevid.demo",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(module):
    assert not imported_by(f"import {module}") & {*HEAVY}


@pytest.mark.parametrize(
    "module", ["edgevid.cli", "edgevid.contract", "edgevid.registry", "edgevid.bundle"]
)
def test_the_lowest_rooms_do_without_numpy(module):
    assert "numpy" not in imported_by(f"import {module}")


def test_listing_the_commands_loads_none_of_them():
    code = "import click, edgevid.cli as c\nc.cli.get_help(click.Context(c.cli))"
    script = f"{code}\nimport sys\nprint([m for m in sys.modules if m.startswith('edgevid.cli.')])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "['edgevid.cli.console']\n"


def test_a_run_needs_no_heavy_library(null_bundle, video, tmp_path):
    code = f"""
import sys
sys.argv = ["edgevid", "run", {str(null_bundle)!r}, {str(video)!r}, "--json"]
from edgevid.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
"""
    used = imported_by(code)
    assert not used & ({*HEAVY} - {"av"})


def test_the_wheel_leaves_only_its_two_packages(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, "."]
    subprocess.run([*build], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"edgevid", "edgevid_converters"}
    assert "edgevid/_targets/local.toml" in names
    assert "edgevid/py.typed" in names


@pytest.mark.parametrize("tree", ["edgevid", "converters/edgevid_converters"])
def test_a_public_class_name_occurs_once(tree):
    folder = Path(__file__).parent.parent / tree
    classes = [
        (node.name, file.relative_to(folder).as_posix())
        for file in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    counts = Counter(name for name, _ in classes)
    assert not [one for one in classes if counts[one[0]] > 1]


def test_only_the_system_package_reads_what_the_kernel_reports():
    """The agent is the exception: it runs alone on a device."""
    root = Path(__file__).parent.parent
    files = [*root.glob("edgevid/**/*.py"), *root.glob("converters/edgevid_converters/**/*.py")]
    allowed = (root / "edgevid/system", root / "edgevid/flash/agent")
    path = re.compile(r"/?(proc|sys)/[a-z*{]")
    found = [
        f"{file.relative_to(root)}:{node.lineno}: {node.value!r}"
        for file in files
        if not any(file.is_relative_to(folder) for folder in allowed)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.match(node.value)
    ]
    assert not found
