"""Verdicts: a faulty engine is found in a child process, and the parent outlives it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgevid import proof
from edgevid.errors import BadBundle, BadInput, CheckFailed
from edgevid.files import cache_folder
from edgevid.isolation import child_task
from edgevid.isolation.child_task import ChildOutcome
from edgevid.proof import prove_in_child, verdict
from rigs.processes import alive, wait_for

NAME = "null-float32"


def test_a_good_engine_passes(opened):
    result = prove_in_child(opened, NAME, "null")
    assert result.ok
    assert result.to_json() == {
        "artifact": NAME,
        "runtime": "null",
        "accelerator": "cpu",
        "ok": True,
        "precision": "float32",
        "max_abs": 0.0,
        "tolerance": 1e-4,
        "agreement": 1.0,
        "tensor": "",
        "steps": 6,
    }


@pytest.mark.parametrize(
    ("kind", "at", "said"),
    [
        ("abort", 2, "crashed with SIGABRT"),
        ("abort", -1, "crashed with SIGABRT"),
        ("error", 2, "failed on schedule"),
        ("error", -1, "failed on schedule"),
        ("nan", 2, "not numbers"),
        ("wrong", 2, "is off by"),
        ("hang", 2, "did not respond within 1.5 s"),
        ("hang", -1, "did not respond within 1.5 s"),
    ],
)
def test_a_bad_engine_is_outlived_and_described(opened, kind, at, said, fault):
    fault(kind, at)
    started = time.monotonic()
    result = prove_in_child(opened, NAME, "null", timeout_s=1.5 if kind == "hang" else 60)
    assert not result.ok
    assert said in result.reason
    assert "\n" not in result.reason
    if kind == "hang":  # another time it may not be
        assert time.monotonic() - started < 10
        assert not list(cache_folder().rglob("*.json"))
        return
    with pytest.raises(CheckFailed, match=r"did not pass its proof.*edgevid verify"):
        proof.require(opened, NAME, "null")  # remembered: nothing hangs again


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (ChildOutcome(0, b"babble", b""), "without a readable reply"),
        (ChildOutcome(0, b"[1, 2]", b""), "without a readable reply"),
        (ChildOutcome(0, b'{"ok": true}', b""), "without a readable reply"),
        (ChildOutcome(0, b"", b"some\nlast words\n\n"), r"\(last words\)"),
        (ChildOutcome(3, b"", b"\xff"), "exit code 3"),
        (ChildOutcome(-11, b"", b""), "crashed with SIGSEGV"),
        (ChildOutcome(-99, b"", b""), "crashed with signal 99"),
    ],
)
def test_whatever_a_child_leaves_becomes_a_verdict(opened, monkeypatch, outcome, said):
    monkeypatch.setattr(verdict, "run_child", lambda *a: outcome)
    result = prove_in_child(opened, NAME, "null")
    assert not result.ok
    assert re.search(said, result.reason)


def test_what_a_library_prints_does_not_spoil_the_answer(opened, tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(
        "import os, edgevid.proof.__main__ as main\n"
        "inner = main.replay_artifact\n"
        "def noisy(*a):\n    os.write(1, b'noise'); print('more'); return inner(*a)\n"
        "main.replay_artifact = noisy\nmain.main()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    inner = child_task.run_child
    monkeypatch.setattr(verdict, "run_child", lambda module, *a: inner("noisy", *a))
    assert prove_in_child(opened, NAME, "null").ok


def test_a_damaged_member_is_bad_input_and_not_a_verdict(opened):
    content = opened.path.read_bytes()
    frames = opened.member("golden/0/input_frame.npy")
    where = content.index(frames) + len(frames) - 1
    damaged = bytearray(content)
    damaged[where] ^= 1
    opened.path.write_bytes(damaged)
    with pytest.raises(BadBundle, match=r"golden/0/input_frame\.npy is damaged"):
        prove_in_child(opened, NAME, "null")


def test_unknown_names_are_bad_input(opened):
    with pytest.raises(BadInput, match="did you mean null-float32"):
        prove_in_child(opened, "null-float33", "null")
    with pytest.raises(BadInput, match="did you mean tflite"):
        prove_in_child(opened, NAME, "tflit")
    with pytest.raises(BadInput, match="no accelerator"):
        prove_in_child(opened, NAME, "null", "edgetpu")


PARENT = """
import sys
from pathlib import Path
from edgevid.proof import prove_in_child
prove_in_child(Path(sys.argv[1]), "null-float32", "null")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_child_outlives_its_parent(opened, how, fault):
    fault("hang")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(opened.path)], stderr=subprocess.DEVNULL
    )
    try:
        process = wait_for(lambda: children_of(parent.pid))
        wait_for(lambda: b"edgevid.proof" in Path(f"/proc/{process[0]}/cmdline").read_bytes())
        time.sleep(0.5)  # until it hangs in its engine
        parent.send_signal(how)
        parent.wait(10)
        wait_for(lambda: not alive(process[0]))
    finally:
        parent.kill()
        parent.wait()
    assert not list(cache_folder().rglob("*.json"))


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in listed.split()]


def test_the_child_is_light():
    code = (
        "import sys, edgevid.proof.__main__, edgevid.runtimes.null.cpu; "
        "print([m for m in ('av', 'cv2', 'keras', 'numpy', 'openvino', 'tensorflow')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
