"""Where ``edgevid run`` writes: files are replaced, pipes and devices are written into."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgevid.runner.check import check
from edgevid.runner.config import BundleUse, CameraUse, RunConfig
from edgevid.runner.plugin_tables import EventUse
from rigs.stand_ins import LabelOptions


def lines(text):
    return [json.loads(line)["index"] for line in text.splitlines()]


def test_a_pipe_is_written_into_and_stays_a_pipe(edgevid, null_bundle, video, tmp_path):
    fifo, got = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()
    done = edgevid("run", null_bundle, video, "--rate", "all", "--output", fifo)
    assert done.returncode == 0, done.stderr
    reader.join(30)
    assert lines(got[0]) == list(range(40))
    assert fifo.is_fifo()


def test_a_dash_is_stdout(edgevid, null_bundle, video, tmp_path):
    done = edgevid("run", null_bundle, video, "--rate", "all", "--output", "-", cwd=tmp_path)
    assert lines(done.stdout) == list(range(40))
    assert list(tmp_path.glob("-")) == []
    both = edgevid("run", null_bundle, video, "--output", "-", "--json")
    assert both.returncode == 2


def test_a_full_disk_behind_stdout_is_one_line(null_bundle, video):
    if not Path("/dev/full").is_char_device():
        pytest.skip("this machine has no /dev/full")
    command = [sys.executable, "-m", "edgevid", "run", null_bundle, video]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 4
    (line,) = [one for one in done.stderr.splitlines() if one]
    assert "results cannot be written: No space left on device" in line


def test_check_finds_event_stages_that_cannot_run(stand_ins, null_bundle, video, monkeypatch):
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    config = RunConfig(
        (BundleUse("motion", null_bundle),),
        (CameraUse("door", str(video)),),
        events=(EventUse("label", "light", LabelOptions("bright"), durable=True),),
    )
    (finding,) = check(config)
    assert (finding.where, finding.state) == ("event 'light'", "fail")
    assert "add state = " in finding.text
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edgevid")
    assert check(config) == []


def test_check_finds_outputs_that_cannot_be_written(null_bundle, video, tmp_path):
    (tmp_path / "file").touch()
    outputs = {"file/x": "fail", ".": "fail", "new/x": "warn", "x": None, "-": None}
    for name, state in outputs.items():
        path = Path("-") if name == "-" else tmp_path / name
        config = RunConfig(
            (BundleUse("motion", null_bundle),), (CameraUse("door", str(video)),), output=path
        )
        found = [(one.where, one.state) for one in check(config)]
        assert found == ([("output", state)] if state else [])
    assert [one.name for one in tmp_path.iterdir() if one.name in ("new", "x", "-")] == []


def test_a_reader_that_goes_ends_the_run_quietly(null_bundle, video):
    command = [sys.executable, "-m", "edgevid", "run", null_bundle, *[video] * 40, "--rate", "all"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as run:
        assert json.loads(run.stdout.readline())["index"] == 0
        run.stdout.close()  # 1600 lines do not fit into the pipe
        assert run.wait(60) == 0
        assert run.stderr.read() == ""
