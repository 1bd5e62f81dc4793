"""Outputs of every command: a stdout that is full, closed or left, and files that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rigs.need import need_root

PROGRAM = [sys.executable, "-m", "edgevid"]
QUICK = [
    ["--help"],
    ["schema"],
    ["targets", "show", "local", "--json"],
    ["inspect", "BUNDLE"],
    ["inspect", "BUNDLE", "--page", "-"],
    ["dataset", "check", "gone", "--json"],
]
WHOLE = [
    ["run", "BUNDLE", "VIDEO"],
    ["run", "BUNDLE", "VIDEO", "--json"],
    ["run", "BUNDLE", "VIDEO", "--output", "-"],
    ["run", "BUNDLE", "VIDEO", "--output", "results.jsonl"],
    ["run", "BUNDLE", "VIDEO", "--sink", "jsonl:path=-"],
    ["run", "--config", "site.toml", "--check"],
    ["verify", "BUNDLE", "--runtime", "null"],
]


@pytest.fixture
def call(null_bundle, video, tmp_path):
    """Give a function that runs the command line, with what is to happen to its streams."""
    (tmp_path / "site.toml").write_text(
        f'[[bundle]]\npath = "{null_bundle}"\n[[camera]]\nsource = "{video}"\n'
    )
    known = {"BUNDLE": str(null_bundle), "VIDEO": str(video)}

    def call(words, before="", **options):
        command = [*PROGRAM, *(known.get(word, str(word)) for word in words)]
        shell = ["sh", "-c", f'{before or "exec"} "$@"' if " " not in before else before, "sh"]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(
            [*shell, *command], cwd=tmp_path, timeout=120, **{"text": True, **options}
        )

    call.known = known
    return call


def one_line(done):
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgevid: ")
    return line


@pytest.mark.parametrize("words", QUICK + WHOLE, ids=" ".join)
def test_a_full_disk_behind_stdout_is_one_line_and_exit_code_4(call, words):
    with Path("/dev/full").open("wb") as full:
        done = call(words, stdout=full)
    if words[:2] == ["dataset", "check"]:  # an error's own code and line stay
        assert (done.returncode, "gone" in one_line(done)) == (2, True)
        return
    assert done.returncode == 4
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    if words[0] not in ("run", "verify") and "--page" not in words:
        one_line(done)


@pytest.mark.parametrize("words", QUICK + WHOLE, ids=" ".join)
def test_a_reader_that_is_gone_is_a_quiet_end(call, words):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = call(words, stdout=pipe)
    if words[:2] == ["dataset", "check"]:
        assert (done.returncode, "gone" in one_line(done)) == (2, True)
        return
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("verify: ")] == []


@pytest.mark.parametrize("words", [["inspect", "BUNDLE"], ["run", "BUNDLE", "VIDEO"]], ids=" ".join)
def test_a_closed_stdout_is_one_line(call, words):
    done = call(words, before='exec "$@" >&-')
    assert done.returncode == 4
    assert "stdout is closed; redirect it to a file, or to /dev/null" in one_line(done)


def test_a_closed_or_full_stderr_ends_nothing(call):
    for redirection in ("2>&-", "2>/dev/full"):
        done = call(["run", "BUNDLE", "VIDEO", "--output", "x"], before=f'exec "$@" {redirection}')
        assert done.returncode == 0
        assert "40 captured" in done.stdout
        done = call(["inspect", "gone"], before=f'exec "$@" {redirection}')
        assert (done.returncode, done.stdout) == (2, "")


def test_nothing_that_is_opened_becomes_stdout(call, tmp_path):
    """Whose number is free is taken by the next file: a library's words would land in it."""
    done = call(["run", "BUNDLE", "VIDEO", "--output", "x.jsonl"], before='exec "$@" <&- >&- 2>&-')
    assert done.returncode == 4
    for line in (tmp_path / "x.jsonl").read_text().splitlines():
        json.loads(line)


OUTPUTS = [
    ["run", "BUNDLE", "VIDEO", "--output", "OUT"],
    ["run", "BUNDLE", "synthetic:64x48@5", "--output", "OUT"],
    ["run", "BUNDLE", "VIDEO", "--sink", "jsonl:path=OUT"],
    ["bench", "BUNDLE", "--source", "VIDEO", "--out", "OUT"],
    ["bench", "BUNDLE", "--source", "VIDEO", "--page", "OUT"],
    ["bench", "BUNDLE", "--source", "VIDEO", "--markdown", "OUT"],
    ["bench", "compare", "BUNDLE", "BUNDLE", "--out", "OUT"],
    ["inspect", "BUNDLE", "--page", "OUT"],
    ["convert", "model.onnx", "-o", "OUT"],
    ["convert", "model.onnx", "--init", "-o", "OUT"],
    ["dataset", "synth", "video", "--out", "OUT"],
    ["flash", "BUNDLE", "--kind", "raspberry-pi-5", "--source", "picamera:", "--archive", "OUT"],
]
FOLDERS = [
    ["train", "data", "--out", "OUT"],
    ["train", "--quantize-aware", "run", "--out", "OUT"],
    ["demo", "--out", "OUT"],
    ["dataset", "synth", "motion", "--out", "OUT"],
]


@pytest.fixture
def read_only(tmp_path):
    """A folder of a read-only file system, with an old file in it."""
    need_root()
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "edgevid", folder], check=True)
    (folder / "old").write_text("old")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("words", OUTPUTS + FOLDERS, ids=lambda words: " ".join(words))
def test_an_output_is_tried_before_the_work(call, read_only, tmp_path, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    wrong = "folder" if words in OUTPUTS else "file"
    outputs = {read_only / "new": (4, "Read-only file system"), tmp_path / wrong: (2, "name a f")}
    before = sorted(tmp_path.iterdir())
    for out, (code, says) in outputs.items():
        given = [word.replace("OUT", str(out)) for word in words]
        done = call(given)
        assert done.returncode == code, done.stderr
        assert says in one_line(done)
        assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "file").read_text() == "kept"


def test_what_was_measured_is_printed_although_it_cannot_be_written(call, tmp_path):
    need_root()
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "edgevid", disk], check=True)
    words = ["bench", "BUNDLE", "--source", "VIDEO", "--scenario", "step", "--rounds", "2"]
    words += ["--samples", "100", "--out", "disk/result.json"]
    try:
        shown, document = call(words), call([*words, "--json"])
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    for done in (shown, document):
        assert done.returncode == 4
        assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "null-float32" in shown.stdout
    assert json.loads(document.stdout)["results"]


def test_a_disk_that_fills_midway_is_one_line_and_leaves_nothing(call, tmp_path):
    need_root()
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "edgevid", disk], check=True)
    try:
        done = call(["run", "BUNDLE", "VIDEO", "--rate", "all", "--output", "disk/x.jsonl"])
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    assert done.returncode == 4
    assert "No space left on device" in one_line(done)


def test_devices_stay_devices(call, tmp_path):
    need_root()
    os.mknod(tmp_path / "null", 0o666 | 0o020000, os.makedev(1, 3))
    for words in (
        ["run", "BUNDLE", "VIDEO", "--output", "null"],
        ["run", "BUNDLE", "synthetic:64x48@30?frames=5", "--output", "null"],
        ["run", "BUNDLE", "VIDEO", "--sink", "jsonl:path=null"],
        ["inspect", "BUNDLE", "--page", "null"],
        ["dataset", "synth", "video", "--out", "null", "--seconds", "0.2", "--size", "64"],
    ):
        done = call(words)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "null").is_char_device()


def test_a_dash_is_stdout_and_the_text_goes_to_stderr(call):
    done = call(["inspect", "BUNDLE", "--page", "-"])
    assert done.stdout.startswith("<!")
    assert "dark, middle, bright" in done.stderr
    both = call(["inspect", "BUNDLE", "--page", "-", "--json"])
    assert both.returncode == 2
    assert "--json and --page - both write to stdout" in both.stderr


def test_two_outputs_to_one_file_are_rejected(call, tmp_path):
    (tmp_path / "link").symlink_to("x")
    for sinks in (
        ["--output", "x", "--sink", "jsonl:path=./x"],
        ["--sink", "jsonl:path=x", "--sink", "jsonl:path=link"],
        ["--output", "-", "--sink", "jsonl:path=-"],
    ):
        done = call(["run", "BUNDLE", "VIDEO", *sinks])
        assert done.returncode == 2
        assert "give each its own file" in one_line(done)
    done = call(["bench", "BUNDLE", "--out", "x", "--page", "x"])
    assert "--out and --page both write to x" in one_line(done)
    config = tmp_path / "site.toml"
    config.write_text(f'output = "x"\n{config.read_text()}[[sink]]\nkind = "jsonl"\npath = "x"\n')
    done = call(["run", "--config", "site.toml", "--check"])
    assert done.returncode == 2
    assert one_line(done).startswith("edgevid: site.toml:6: sinks 'output' and 'jsonl' both")


@pytest.mark.parametrize(
    "words",
    [
        ["run", "BUNDLE", "VIDEO", "--output", "VIDEO"],
        ["run", "BUNDLE", "VIDEO", "--output", "BUNDLE"],
        ["run", "BUNDLE", "VIDEO", "--sink", "jsonl:path=video"],
        ["inspect", "BUNDLE", "--page", "BUNDLE"],
        ["bench", "BUNDLE", "--source", "VIDEO", "--out", "VIDEO"],
        ["bench", "BUNDLE", "--baseline", "old.json", "--out", "old.json"],
        ["bench", "report", "old.json", "--page", "old.json"],
        ["bench", "compare", "BUNDLE", "BUNDLE", "--out", "BUNDLE"],
        ["convert", "run", "--out", "run/run.json"],
        ["convert", "model.onnx", "--init", "--out", "model.onnx"],
        ["flash", "BUNDLE", "--archive", "BUNDLE", "--source", "picamera:"],
    ],
    ids=" ".join,
)
def test_an_input_is_not_overwritten(call, tmp_path, video, null_bundle, words):
    (tmp_path / "run").mkdir()
    for name in ("old.json", "model.onnx", "run/run.json"):
        (tmp_path / name).write_text("old")
    (tmp_path / "video").symlink_to(video)
    content = video.read_bytes(), null_bundle.read_bytes()
    done = call(words)
    assert done.returncode == 2
    assert "an input of this command; name another output" in one_line(done)
    assert (video.read_bytes(), null_bundle.read_bytes()) == content
    for name in ("old.json", "model.onnx", "run/run.json"):
        assert (tmp_path / name).read_text() == "old"


def test_a_service_writes_no_results_into_its_configuration_or_sources(call, tmp_path):
    config = tmp_path / "site.toml"
    text = config.read_text()
    for output in (config, call.known["VIDEO"]):
        config.write_text(f'output = "{output}"\n{text}')
        done = call(["run", "--config", "site.toml"])
        assert done.returncode == 2
        assert f"site.toml: {output} is an input of this command" in one_line(done)


def test_the_status_does_not_replace_the_results(call, tmp_path):
    here = ["run", "BUNDLE", "VIDEO", "--status", "status", "--output"]
    done = call([*here, "status/status.json"])
    assert done.returncode == 2
    assert "and the status both write to status/status.json" in one_line(done)
    for _ in range(2):  # another file of that folder can be used, and used again
        assert call([*here, "status/results.jsonl"]).returncode == 0
    assert len((tmp_path / "status/results.jsonl").read_text().splitlines()) == 40


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_every_name_of_stdout_is_a_dash(call, name):
    done = call(["inspect", "BUNDLE", "--page", name])
    assert done.returncode == 0
    assert done.stdout.startswith("<!")
    assert "dark, middle, bright" in done.stderr
    for words in (
        ["inspect", "BUNDLE", "--json", "--page", name],
        ["run", "BUNDLE", "VIDEO", "--json", "--output", name],
        ["run", "BUNDLE", "VIDEO", "--json", "--sink", f"jsonl:path={name}"],
    ):
        done = call(words)
        assert done.returncode == 2
        assert "both write to stdout" in one_line(done)


def test_the_name_of_a_folder_is_no_file(call, tmp_path):
    for words in (["run", "BUNDLE", "VIDEO", "--output"], ["inspect", "BUNDLE", "--page"]):
        done = call([*words, "results/"])
        assert done.returncode == 2
        assert f"'{words[-1]}': 'results/' is the name of a folder" in one_line(done)
    assert not (tmp_path / "results").exists()


def test_names_that_are_not_utf_8_survive(call, null_bundle, video, tmp_path):
    name, out = os.fsdecode(b"caf\xe9.mp4"), os.fsdecode(b"r\xe9sultats")
    (tmp_path / name).symlink_to(video)
    done = call(["run", "BUNDLE", name, "--output", out, "--json"])
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / out).read_bytes().splitlines()
    assert {json.loads(line)["source"] for line in lines} == {name}
    gone = subprocess.run([*PROGRAM, "inspect", name + "x"], capture_output=True, cwd=tmp_path)
    assert b"caf\xe9.mp4x" in gone.stderr
    gone = subprocess.run(
        [*PROGRAM, "inspect", name + "x", "--json"], capture_output=True, cwd=tmp_path
    )
    assert name in json.loads(gone.stdout.decode("utf-8"))["error"]


def test_a_terminal_that_lacks_a_letter_gets_an_escape(call):
    done = call(
        ["inspect", "ö\u3042"], env={**os.environ, "PYTHONIOENCODING": "cp1252"}, text=False
    )
    assert done.stderr.startswith(b"edgevid: \xf6\\u3042 does not exist")


def test_home_is_expanded_where_a_shell_does_not(call, tmp_path):
    home = {**os.environ, "HOME": str(tmp_path / "home")}
    done = call(["run", "BUNDLE", "VIDEO", "--output=~/r.jsonl"], env=home)
    assert done.returncode == 0
    assert len((tmp_path / "home/r.jsonl").read_text().splitlines()) == 40
    assert call(["inspect", "~/gone"], env=home).stderr.startswith(f"edgevid: {tmp_path}/home/gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_the_program_loads_is_quiet(tmp_path, number):
    """At every moment of the imports; what is imported says how far they are."""
    codes = set()
    for modules in ("click", "edgevid.errors", "edgevid.cli.console"):
        script = f"""
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == {modules!r}:
            print("here", flush=True)
            time.sleep(20)
sys.meta_path.insert(0, Slow())
sys.argv = ["edgevid", "schema"]
from edgevid.__main__ import run
run()
"""
        child = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "here\n"
        time.sleep(0.05)
        child.send_signal(number)
        _, said = child.communicate(timeout=20)
        codes.add((child.returncode, said))
    assert codes == {(130, "edgevid: interrupted\n")}


def test_a_program_in_the_background_of_a_shell_goes_on_ignoring_ctrl_c(call):
    done = call(["schema"], before="trap '' INT; exec \"$@\"")
    assert done.returncode == 0
    script = "import signal,sys; sys.argv=['edgevid','schema']; "
    script += "signal.signal(signal.SIGINT, signal.SIG_IGN); from edgevid.__main__ import run\n"
    script += "try: run()\nexcept SystemExit: pass\nprint(signal.getsignal(signal.SIGINT))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "1" or "SIG_IGN" in done.stdout.splitlines()[-1]
