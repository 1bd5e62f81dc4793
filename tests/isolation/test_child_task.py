"""One task in a child process: its result, its errors, its time limit and what it leaves behind."""

import pytest

from edgevid.errors import BadVideo, EdgevidError
from edgevid.isolation.child_task import error_to_json, last_line, run_child
from edgevid.isolation.sandbox import Sandbox
from rigs.processes import alive, wait_for

CHILD = """
import os, subprocess, sys, time
from edgevid import errors
from edgevid.isolation.child_task import child_task

with child_task() as (task, send):
    do = task["do"]
    if do == "print":
        print("noise"); os.write(1, b"more noise")
    if do == "hang":
        time.sleep(100)
    if do == "die":
        print("WARNING: nothing", "last words", "INFO: bye", sep="\\n", file=sys.stderr, flush=True)
        os._exit(7)
    if do == "raise":
        raise errors.BadVideo("not this one")
    if do == "fill":
        bytearray(400 << 20)
    pid = subprocess.Popen(["sleep", "100"]).pid if do == "start" else 0
    send({"did": do, "pid": pid})
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Give a function that runs a task in a child."""
    (tmp_path / "isolated.py").write_text(CHILD)
    monkeypatch.syspath_prepend(str(tmp_path))

    def give(do: str, timeout_s: float = 20.0):
        sandbox = Sandbox(memory_mb=300, confined=do != "start")
        return run_child("isolated", {"do": do, "timeout_s": timeout_s}, timeout_s, sandbox)

    return give


@pytest.mark.parametrize("do", ["work", "print"])
def test_a_result_comes_back_whatever_libraries_print(run, do):
    assert run(do).result()["did"] == do


def test_an_error_raised_on_purpose_is_raised_again(run):
    with pytest.raises(BadVideo, match="not this one"):
        run("raise").result()


@pytest.mark.parametrize(
    ("do", "timeout_s", "says"),
    [
        ("die", 20.0, "failed with exit code 7 (last words)"),
        ("hang", 0.5, "did not respond within 0.5 s"),
        ("fill", 20.0, "failed with exit code 1 (MemoryError)"),
    ],
)
def test_a_failure_is_described(run, do, timeout_s, says):
    outcome = run(do, timeout_s)
    assert outcome.result() is None
    assert outcome.describe(timeout_s) == says


def test_what_a_child_started_ends_with_it(run):
    pid = run("start").result()["pid"]
    wait_for(lambda: not alive(pid))


def test_the_last_line_is_short_and_one_line():
    assert last_line(b"") == ""
    assert last_line(b"INFO: a\nWARNING: b\n") == ""
    warned = b"why\n/a/b.py:77: UserWarning: soon gone\n    warnings.warn(SOON)\n"
    assert last_line(warned) == " (why)"
    assert last_line(b"first\n\xff" + b"x" * 500 + b"\n\n").count("\n") == 0
    assert len(last_line(b"x" * 500)) == 303
    line = b"ValueError: the layer 'stem' " + b"is very odd, " * 60 + b"and ends at node 'relu_7'"
    found = last_line(line)
    assert len(found) <= 303 and " ... " in found
    assert found.startswith(" (ValueError: the layer 'stem' is") and "at node 'relu_7')" in found


class Own(BadVideo):
    """An error that another package defines."""


def test_an_error_of_another_package_arrives_as_the_nearest_one_of_edgevid():
    assert error_to_json(Own("x")) == {"error": "BadVideo", "message": "x"}
    assert error_to_json(EdgevidError("x"))["error"] == "EdgevidError"
