"""Text of users is read by one reader, and outputs of users are written by one component.

`edgevid.text` knows encodings, `edgevid.output` and `edgevid.files` know links, devices and full
disks; code that opens files in another way does not. What edgevid writes for itself and reads back
is listed here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (ROOT / "edgevid", ROOT / "converters/edgevid_converters")

ITSELF = ("edgevid/files.py", "edgevid/output.py", "edgevid/text.py")
PREFIXES = (
    "edgevid/flash/agent/",  # device code, which keeps its own store
    "edgevid/system/",  # files of the kernel
    "edgevid/testing/",  # suites that tests of plug-ins use
)

READS = {
    "converters/edgevid_converters/importers/saved_model_operators.py": "its own list",
    "edgevid/settings.py": "tomllib after the reader",
    "edgevid/data/cache.py": "the cache",
    "edgevid/data/synthesis.py": "the settings of a dataset that edgevid wrote",
    "edgevid/demo/report.py": "what the demo's own stages wrote",
    "edgevid/flash/fleet.py": "records of deployments",
    "edgevid/flash/package.py": "a configuration that was read and normalised before",
    "edgevid/flash/plugin_wheels.py": "a configuration that was read and normalised before",
    "edgevid/flash/resolve_uv.py": "uv's lock file",
    "edgevid/flash/service_config.py": "a configuration that was normalised before",
    "edgevid/media/tls.py": "certificates",
    "edgevid/training/epochs.py": "a run folder",
    "edgevid/training/fit.py": "a run folder",
    "edgevid/training/records.py": "a run folder",
    "converters/edgevid_converters/lowering/edgetpu.py": "the compiler's log",
}
WRITES = {
    "edgevid/bench/scenarios/__init__.py": "/dev/null",
    "edgevid/bundle.py": "into `files.writing`",
    "edgevid/data/cache.py": "into `files.writing`",
    "edgevid/documents.py": "the schemas of the repository",
    "edgevid/flash/archive.py": "into `files.writing`",
    "edgevid/flash/keys.py": "a signature to be checked, into a temporary folder",
    "edgevid/flash/resolve_pip.py": "into a temporary folder",
    "edgevid/flash/resolve_uv.py": "into a temporary folder",
    "edgevid/flash/wheels.py": "a lock",
    "edgevid/proof/golden.py": "into a temporary folder",
    "edgevid/runner/status.py": "status.json, whose full disk must not end a service",
    "edgevid/training/fit.py": "into `files.writing`",
    "converters/edgevid_converters/calibration/trajectories.py": "into a temporary folder",
    "converters/edgevid_converters/child_tasks.py": "into a temporary folder",
    "converters/edgevid_converters/importers/onnx_to_tflite.py": "into a temporary folder",
    "converters/edgevid_converters/conversion_cache.py": "the cache, where a full disk is no error",
    "converters/edgevid_converters/fork_server.py": "into a temporary folder",
    "converters/edgevid_converters/importers/tflite.py": "into a temporary folder",
    "converters/edgevid_converters/lowering/edgetpu.py": "into a temporary folder",
    "converters/edgevid_converters/lowering/protocol.py": "into a temporary folder",
    "converters/edgevid_converters/pipeline/write.py": "into `files.writing`",
}


def sources() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for file in sorted(package.rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if name not in ITSELF and not name.startswith(PREFIXES):
                yield name, file.read_text("utf-8")


def uses(text: str) -> Iterator[tuple[str, str]]:
    """What opens files otherwise, as ``("read" or "write", the call)``."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        shown = ast.unparse(node.func)
        name = shown.rpartition(".")[2]
        if (name == "read_text" and "." in shown) or shown in ("tomllib.load", "tomllib.loads"):
            yield "read", ast.unparse(node)
        elif name in ("write_text", "write_bytes") and "." in shown:
            yield "write", ast.unparse(node)
        elif name == "Path" and shown == "click.Path":
            yield "read", ast.unparse(node)
        elif name == "open" and not shown.startswith(("av.", "archive.")):
            mode = next(_modes(node), "")
            if mode and "b" not in mode and set(mode) <= {"r", "t"}:
                yield "read", ast.unparse(node)
            elif set(mode) & set("wax+"):
                yield "write", ast.unparse(node)


def _modes(node: ast.Call) -> Iterator[str]:
    named = [one.value for one in node.keywords if one.arg == "mode"]
    for one in (*node.args, *named):
        value = one.value if isinstance(one, ast.Constant) else None
        if isinstance(value, str) and value and set(value) <= set("rwabx+t"):
            yield value


@pytest.mark.parametrize(("kind", "allowed"), [("read", READS), ("write", WRITES)])
def test_files_of_users_have_one_way_in_and_one_way_out(kind, allowed):
    found = {}
    for name, text in sources():
        if calls := [call for what, call in uses(text) if what == kind]:
            found[name] = calls
    others = {name: calls for name, calls in found.items() if name not in allowed}
    assert not others, f"use edgevid.text, edgevid.output or edgevid.files instead: {others}"
    assert not set(allowed) - set(found), "no longer needed here"


@pytest.mark.parametrize(
    "call",
    [
        "file.read_text('utf-8')",
        "tomllib.loads(file.read_bytes().decode())",
        "open(file, 'r')",
        "path.open('w')",
        "path.write_text('x')",
        "path.open(mode='ab')",
        "click.Path(path_type=Path)",
    ],
)
def test_another_way_is_found(call):
    assert list(uses(call))
