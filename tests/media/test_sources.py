"""Sources by name: each passes the conformance suite, and bad names are rejected."""

from __future__ import annotations

import math
import os
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edgevid import registry
from edgevid.errors import BadInput, BadVideo
from edgevid.media.secrets import with_secrets, without_secrets
from edgevid.media.sources import (
    SourceOptions,
    always_ends,
    local_file,
    open_source,
    relative_to,
    scheme_of,
)
from edgevid.media.video import open_file
from edgevid.testing.source import SourceSuite
from rigs.videos import write_video

WITHOUT_A_PEER = {"https", "rtsps", "v4l2"}  # no camera of this kind can be had here


@pytest.fixture
def name_of(video, request):
    """Give a name of the kind that gives frames here."""

    def give(kind: str) -> str:
        if kind == "picamera":
            request.getfixturevalue("pi")
        return {
            "file": lambda: str(video),
            "http": lambda: request.getfixturevalue("web") + "/whole.mp4",
            "picamera": lambda: "picamera:0?size=96x64&fps=25",
            "rtsp": lambda: request.getfixturevalue("camera").url("fast"),
            "synthetic": lambda: "synthetic:96x64@25",
        }[kind]()

    return give


@pytest.fixture
def web(video):
    import http.server
    import threading
    from functools import partial

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    handler = partial(Quiet, directory=video.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


STAND_IN = """#!{python}
import os, sys, time
arguments = sys.argv[1:]
if "--help" in arguments:
    print("  --libav-format arg")
    sys.exit()
wanted = {{"--camera": "0", "--width": "96", "--height": "64", "--framerate": "25",
          "--codec": "h264", "--timeout": "0", "--output": "-", "--libav-format": "h264"}}
got = dict(zip(arguments, arguments[1:]))
wrong = {{k: got.get(k) for k, v in wanted.items() if got.get(k) != v}}
if wrong or not {{"--inline", "--flush", "--nopreview"}} <= set(arguments):
    sys.exit(f"wrong arguments: {{wrong}}")
open({pids!r}, "a").write(f"{{os.getpid()}}\\n")
content = open({film!r}, "rb").read()
for start in range(0, len(content), {piece}):
    try:
        os.write(1, content[start : start + {piece}])
    except BrokenPipeError:  # a program that hangs, where only a signal helps
        time.sleep(60)
    time.sleep(0.04)
"""


@pytest.fixture
def pi(tmp_path, monkeypatch):
    """A stand-in for the Pi's program on PATH; gives the file with the ids of its processes."""
    from rigs.videos import moving_images, write_video

    film = write_video(tmp_path / "pi.h264", moving_images(150, 64, 96), fps=25, bf="0", g="25")
    program = tmp_path / "bin" / "rpicam-vid"
    program.parent.mkdir()
    pids = tmp_path / "pids"
    pids.touch()
    piece = -(-film.stat().st_size // 150)
    arguments = {"python": sys.executable, "pids": str(pids), "film": str(film), "piece": piece}
    program.write_text(STAND_IN.format(**arguments))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return pids


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Conformance(SourceSuite):
    """What all sources of the registry have in common here."""

    @pytest.fixture
    def name(self, name_of):
        return name_of(self.scheme)

    def test_it_knows_its_size(self, reader):
        reader.wait(lambda: len(reader.frames) >= 3)
        status = reader.source.status()
        assert status["size"] == [64, 96]
        assert status.keys() >= {"rate_fps", "codec", "decoder"}


class TestFile(Conformance):
    scheme = "file"

    def test_a_file_promises_no_time(self, reader):
        assert math.isinf(reader.source.due_s)


class TestHttp(Conformance):
    scheme = "http"


class TestPiCamera(Conformance):
    scheme = "picamera"


class TestRtsp(Conformance):
    scheme = "rtsp"


class TestSynthetic(Conformance):
    scheme = "synthetic"


def test_every_source_has_its_conformance_test_or_no_peer_here():
    tested = {one.scheme for one in Conformance.__subclasses__()}
    assert tested == set(registry.builtin("source")) - WITHOUT_A_PEER


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip.mp4", "file"),
        ("/a/b:c.mp4", "file"),
        ("./rtsp:x", "file"),
        ("rtsp://h/x", "rtsp"),
        ("rtsps://h/x", "rtsps"),
        ("http://h/x", "http"),
        ("https://h/x", "https"),
        ("/dev/video0", "v4l2"),
        ("v4l2:/dev/v4l/by-id/usb-cam", "v4l2"),
        ("picamera:", "picamera"),
        ("synthetic:64x48@5", "synthetic"),
    ],
)
def test_a_name_leads_to_its_source(name, expected):
    assert scheme_of(name) == expected
    assert always_ends(name) == (expected == "file")
    assert (local_file(name) is None) == (expected != "file")


def test_every_source_has_a_name_that_leads_to_it():
    every = registry.builtin("source")
    assert {scheme_of(f"{name}:") for name in every} == set(every)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.mp4", "/data/a/b.mp4"),
        ("/a/b.mp4", "/a/b.mp4"),
        ("rtsp://h/a/b.mp4", "rtsp://h/a/b.mp4"),
        ("synthetic:64x48@5", "synthetic:64x48@5"),
    ],
)
def test_a_relative_file_is_resolved_against_a_folder(name, expected):
    assert relative_to(name, Path("/data")) == expected


@pytest.mark.parametrize(
    "name",
    [
        "rtsq://host/x",
        "synthetic:",
        "synthetic:64x48",
        "synthetic:64x48@0",
        "picamera:0?size=big",
        "picamera:x",
        "picamera:0?sizes=96x64",
        "v4l2:/dev/video0?speed=3",
        "/dev/video0?fps=fast",
        "gone.mp4",
    ],
)
def test_a_bad_name_is_rejected_in_one_line(name):
    with pytest.raises(BadInput) as caught:
        open_source(name, SourceOptions(), print)
    assert "\n" not in str(caught.value)


def test_secrets_in_urls():
    assert without_secrets("rtsp://u:p@h:1/x?a=b") == "rtsp://h:1/x?a=b"
    assert (
        without_secrets("http://h/x?user=u&Password=p&n=1") == "http://h/x?user=u&Password=***&n=1"
    )
    assert with_secrets("rtsp://h/x", "u", "a:b@/") == "rtsp://u:a%3Ab%40%2F@h/x"
    assert with_secrets("rtsp://u:old@h/x", None, "new") == "rtsp://u:new@h/x"
    assert with_secrets("rtsp://u:old@h/x", None, None) == "rtsp://u:old@h/x"
    assert "geheim" not in repr(SourceOptions(password="geheim"))


def test_an_absent_device_is_reported_and_tried_again(watch):
    watcher = watch("/dev/video97")
    watcher.wait(lambda: watcher.source.status()["reason"] == "not-found", 5)
    time.sleep(1)
    assert watcher.reported == [
        "/dev/video97: not-found: no such device; is the camera plugged in?; "
        "retrying until it is back"
    ]
    watcher.stop()


def test_a_synthetic_camera_is_the_same_each_time_and_ends_where_asked():
    def read():
        return [
            (c.index, c.pts_s, c.image.to_ndarray(format="rgb24").tobytes())
            for c in open_source("synthetic:64x48@200?frames=20", SourceOptions(), print)
        ]

    first = read()
    assert len(first) == 20 and first == read()
    assert first[0][2] != first[1][2]


def test_a_synthetic_camera_keeps_its_pace():
    began = time.monotonic()
    assert len(list(open_source("synthetic:64x48@50?frames=26", SourceOptions(), print))) == 26
    assert time.monotonic() - began >= 0.5


def test_a_missing_camera_program_is_told_with_its_install_line(watch, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    watcher = watch("picamera:")
    watcher.wait(lambda: watcher.reported, 5)
    assert "sudo apt-get install rpicam-apps" in watcher.reported[0]
    watcher.stop()


def test_a_camera_program_that_dies_is_started_again(pi, watch):
    watcher = watch("picamera:0?size=96x64&fps=25")
    watcher.more(10)
    first = int(pi.read_text().split()[-1])
    before = len(watcher.frames)
    os.kill(first, 9)
    watcher.wait(lambda: len(pi.read_text().split()) == 2, 5)
    watcher.more(20)
    assert "reconnect" in {f.cut for f in watcher.frames[before:]}
    watcher.stop(2)
    assert not any(alive(int(pid)) for pid in pi.read_text().split())


def test_a_camera_program_goes_when_the_process_does(pi, tmp_path):
    import subprocess

    code = """
from edgevid.media.sources import SourceOptions, open_source
for captured in open_source("picamera:0?size=96x64&fps=25", SourceOptions(), print):
    if captured.index == 5: print("reads", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        while process.stdout.readline() != b"reads\n":
            assert process.poll() is None
        process.kill()
    (pid,) = map(int, pi.read_text().split())
    ends = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < ends, "the camera's program is an orphan"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["auto", "cuda", "vaapi"])
def test_hardware_that_is_not_there_falls_back_with_the_reason(video, name):
    with open_source(str(video), SourceOptions(decoder=name), print) as source:
        assert len(list(source)) == 40
        decoder = source.status()["decoder"]
    assert decoder == name or decoder.startswith("software (") or name == "auto"


def test_a_decoder_that_nobody_knows_is_refused(video):
    with pytest.raises(BadInput, match="vaapi"):
        open_source(str(video), SourceOptions(decoder="vapi"), print)


def test_without_the_loop_filter_pixels_differ_a_little(tmp_path):
    import numpy as np

    from rigs.videos import moving_images, write_video

    path = write_video(tmp_path / "rough.mp4", moving_images(20, 128, 128), crf="35")

    def read(options):
        with open_source(str(path), options, print) as source:
            return np.stack([c.image.to_ndarray(format="rgb24") for c in source]).astype(int)

    difference = np.abs(read(SourceOptions()) - read(SourceOptions(skip_loop_filter=True)))
    assert 0 < difference.mean() < 10


def test_a_pipe_that_cannot_be_searched_is_reported_as_such(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (16, 256, 256, 3), np.uint8)
    whole = write_video(tmp_path / "whole.mp4", noise).read_bytes()  # more than FFmpeg keeps
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=_write_quietly, args=(pipe, whole))
    writer.start()
    with pytest.raises(BadVideo, match="from this pipe; give the file,"):
        list(open_file(pipe))
    writer.join()
    with pytest.raises(BadInput, match="no such file; give /dev/stdin to read from a pipe"):
        open_file("-")


def _write_quietly(pipe, content):
    with suppress(BrokenPipeError):
        pipe.write_bytes(content)


def test_the_status_of_a_closed_file_is_that_of_its_end(video):
    with open_file(video) as source:
        assert len(list(source)) == 40
        before = source.status()
    assert source.status() == before and source.rate_fps == 16
