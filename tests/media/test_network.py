"""Cameras on a network that is cut, frozen, spoilt, slow, locked, and comes back."""

from __future__ import annotations

import http.server
import socket
import socketserver
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest

from edgevid.errors import BadInput
from edgevid.media.sources import SourceOptions, open_source
from rigs.proxy import Proxy, hesitating
from rigs.rtsp import RtspCamera, free_port
from rigs.videos import moving_images, write_camera_video, write_video
from rigs.watch import check_counts

SLACK_S = 0.7  # for a machine with other things to do
PASSWORD = "s3 cret:/@%?&#ü"  # nothing that a URL likes


def test_a_camera_gives_frames_in_order_and_its_books_close(camera, watch):
    watcher = watch(camera.url("fast"))
    assert watcher.more(30) < 5
    assert watcher.source.status()["state"] == "open"
    watcher.stop()
    frames = watcher.frames
    assert [f.index for f in frames] == list(range(len(frames)))
    assert all(b.pts_s > a.pts_s for a, b in pairwise(frames))
    assert all(f.cut is None for f in frames)
    assert watcher.source.status() | {"since_s": 0} == {
        "state": "ended",
        "reason": None,
        "detail": "",
        "reconnects": 0,
        "since_s": 0,
        "size": [64, 96],
        "rate_fps": pytest.approx(25, rel=0.2),
        "codec": "h264",
        "decoder": "software",
        "damaged": 0,
    }
    check_counts(watcher.source, len(frames))


def test_a_cut_network_is_back_within_5_s_of_its_return(proxy, camera, watch):
    watcher = watch(camera.url("fast", port=proxy.port))
    watcher.more(10)
    proxy.cut()
    watcher.wait(lambda: watcher.source.status()["reason"] == "refused", 5)
    time.sleep(3)
    before = len(watcher.frames)
    proxy.restore()
    assert watcher.more(2, within_s=5 + SLACK_S) < 5 + SLACK_S
    again = watcher.frames[before]
    away_s = watcher.times[before] - watcher.times[before - 1]
    assert again.cut == "reconnect"
    assert again.pts_s - watcher.frames[before - 1].pts_s == pytest.approx(away_s, abs=0.5)
    assert watcher.source.status()["reconnects"] == 1
    # open, lost, back: no line for each attempt
    assert len(watcher.reported) == 3, watcher.reported
    watcher.stop()
    check_counts(watcher.source, len(watcher.frames))


@pytest.mark.parametrize("silent", [False, True], ids=["reset", "silent"])
def test_a_frozen_connection_is_noticed_in_3_s_and_back_in_5(silent, proxy, camera, watch):
    watcher = watch(camera.url("fast", port=proxy.port))
    watcher.more(10)
    proxy.freeze()
    took = watcher.wait(lambda: watcher.source.status()["reason"] == "time-out", 3)
    assert took > 1, "a moment's silence is no freeze"
    time.sleep(2.5)  # every attempt meets a network that accepts and says nothing
    assert watcher.source.status()["state"] == "waiting"
    proxy.restore(silent=silent)
    watcher.more(2, within_s=5 + SLACK_S)
    watcher.stop()


@pytest.mark.parametrize("when", ["flowing", "frozen", "refused", "opening"])
def test_stop_ends_the_iteration_within_1_s(when, proxy, camera, watch):
    if when == "refused":
        proxy.cut()
    if when == "opening":
        proxy.freeze()
    watcher = watch(camera.url("fast", port=proxy.port))
    if when in ("flowing", "frozen"):
        watcher.more(10)
    else:
        time.sleep(0.5)
    if when == "frozen":
        proxy.freeze()
        time.sleep(0.3)
    watcher.stop(within_s=1 + SLACK_S)
    check_counts(watcher.source, len(watcher.frames))


def test_a_process_with_a_frozen_camera_ends_cleanly(proxy, camera):
    code = f"""
import time, threading
from edgevid.media.sources import SourceOptions, open_source
source = open_source({camera.url("fast", port=proxy.port)!r}, SourceOptions(), print)
def read():
    for captured in source:
        if captured.index == 5: print("reads", flush=True)
threading.Thread(target=read, daemon=True).start()
input()
source.stop()
source.close()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert "open" in process.stdout.readline()
        assert process.stdout.readline() == "reads\n"
        proxy.freeze()
        time.sleep(0.3)
        _, errors = process.communicate("\n", timeout=10)
    assert (process.returncode, errors) == (0, "")


def undisturbed(watcher, seconds: float, frames: int) -> None:
    watcher.more(1, within_s=30)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert watcher.source.status()["state"] == "open", watcher.reported
        time.sleep(0.1)
    assert len(watcher.frames) >= frames
    assert watcher.source.status()["reconnects"] == 0
    watcher.stop()


def test_a_slow_camera_runs_undisturbed(camera, watch):
    undisturbed(watch(camera.url("leisurely")), 4, 2)


@pytest.mark.soak
def test_a_camera_of_one_frame_in_5_s_runs_undisturbed_for_long(camera, watch):
    undisturbed(watch(camera.url("slow")), 120, 23)


def test_a_silence_that_is_given_is_kept_to(proxy, camera, watch):
    watcher = watch(camera.url("fast", port=proxy.port), stall_s=0.5)
    watcher.more(10)
    proxy.freeze()
    watcher.wait(lambda: watcher.source.status()["reason"] == "time-out", 1.2)


def test_a_camera_that_is_absent_at_start_is_told_once_and_found_later(camera, watch):
    port = free_port()
    watcher = watch(camera.url("fast", port=port))
    watcher.wait(lambda: watcher.source.status()["state"] == "waiting", 5)
    time.sleep(4)
    assert watcher.source.status()["reason"] == "refused"
    assert len(watcher.reported) == 1 and "refused" in watcher.reported[0]
    proxy = Proxy(camera.port, port=port)
    try:
        watcher.more(1, within_s=5 + SLACK_S)
        assert watcher.reported[1].endswith(": open")
        watcher.stop()
    finally:
        proxy.close()


def test_a_name_that_nobody_knows_is_unreachable(watch):
    watcher = watch("rtsp://nobody.invalid/x")
    watcher.wait(lambda: watcher.source.status()["reason"] == "unreachable", 10)


def test_a_path_that_is_not_there_is_not_found(camera, watch):
    watcher = watch(camera.url("nothing"))
    watcher.wait(lambda: watcher.source.status()["reason"] == "not-found", 5)


@contextmanager
def telling(answer: bytes, *, then: str = "close"):
    """A server that says ``answer`` to everyone, then hangs up or says nothing more."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)
            if then == "wait":
                time.sleep(30)

    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_what_speaks_another_language_is_reported(watch):
    with telling(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        watcher = watch(f"rtsp://127.0.0.1:{port}/x")
        watcher.wait(lambda: watcher.source.status()["state"] == "waiting", 10)
        assert watcher.source.status()["reason"] in ("codec", "ended", "time-out")


def test_what_accepts_and_says_nothing_is_a_time_out(watch):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        watcher = watch(f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/x")
        watcher.wait(lambda: watcher.source.status()["reason"] == "time-out", 4)


def test_a_camera_that_takes_its_time_to_answer_is_opened(camera, watch):
    with hesitating(camera.port, 2.0) as port:
        watcher = watch(camera.url("fast", port=port))
        watcher.more(5, within_s=30)
        assert watcher.source.status()["state"] == "open"
        watcher.stop()


@pytest.fixture(scope="module")
def locked(videos):
    with RtspCamera(user="viewer", password=PASSWORD, fast=videos["fast"]) as camera:
        yield camera


def leaks(text: str) -> bool:
    return any(secret in text for secret in (PASSWORD, quote(PASSWORD, safe=""), "s3", "cret"))


def test_the_right_password_opens(locked, watch):
    watcher = watch(locked.url("fast"), user="viewer", password=PASSWORD)
    watcher.more(3)
    assert not leaks(repr([watcher.reported, watcher.source.status(), watcher.source.name]))


def test_a_wrong_password_is_said_once_and_tried_seldom(locked, watch):
    watcher = watch(locked.url("fast"), user="viewer", password="wrong")
    watcher.wait(lambda: watcher.source.status()["reason"] == "auth", 5)
    assert "check user and password" in watcher.source.status()["detail"]
    time.sleep(2)
    assert len(watcher.reported) == 1


def test_a_password_is_nowhere(locked, videos):
    """Neither in what is reported nor on any stream of a process, whatever goes wrong."""
    login = f"viewer:{quote(PASSWORD, safe='')}@"
    proxy = Proxy(locked.port)
    code = f"""
import logging, sys, time, threading
logging.basicConfig(level=logging.DEBUG)
from edgevid.media.sources import SourceOptions, open_source
options = SourceOptions(user="viewer", password={PASSWORD!r})
print(options)
names = [
    ({locked.url("fast", login=login)!r}, SourceOptions()),
    ({locked.url("nothing", login=login)!r}, SourceOptions()),
    ({locked.url("fast", login="viewer:x" + login.partition(":")[2])!r}, SourceOptions()),
    ({locked.url("fast", port=free_port(), login=login)!r}, SourceOptions()),
    ({locked.url("fast", port=proxy.port)!r}, options),
    ("http://127.0.0.1:{locked.port}/?password={quote(PASSWORD)}", options),
]
sources = [open_source(name, options, print) for name, options in names]
def read(source):
    for captured in source:
        pass
for source in sources:
    threading.Thread(target=read, args=[source], daemon=True).start()
for _ in range(14):
    for source in sources:
        print(source.name, source.status(), source)
    time.sleep(0.25)
    sys.stdout.flush()
states = {{str(source.status()["reason"]) for source in sources}}
print("reasons", sorted(states))
for source in sources: source.stop()
for source in sources: source.close()
"""
    try:
        with subprocess.Popen(
            [sys.executable, "-X", "dev", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            time.sleep(2)
            proxy.freeze()
            reported, _ = process.communicate(timeout=40)
    finally:
        proxy.close()
    assert process.returncode == 0, reported
    assert {"'auth'", "'not-found'", "'refused'"} <= set(
        reported.partition("reasons [")[2].strip("]\n").split(", ")
    )
    assert not leaks(reported), reported


@pytest.mark.parametrize("name", ["rtsp:///path", "rtsp://host:port/x", "ftp://host/x", "rtsps://"])
def test_what_is_no_address_is_refused_at_once_and_in_one_line(name):
    with pytest.raises(BadInput) as caught:
        open_source(name, SourceOptions(), print)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("password", ["ge/heim", "ge@heim/", "ge#heim", "ge:heim?", "ge]heim["])
def test_a_password_that_breaks_the_url_is_refused_without_a_word_of_it(password):
    with pytest.raises(BadInput, match="percent-encode") as caught:
        open_source(f"rtsp://user:{password}@10.0.0.5/x", SourceOptions(), print)
    assert "ge" not in str(caught.value).split(";")[0] and "heim" not in str(caught.value)


def test_spoilt_data_is_reported_and_survived(proxy, camera, watch):
    watcher = watch(camera.url("fast", port=proxy.port))
    watcher.more(10)
    proxy.corrupt(0.5)
    time.sleep(3)
    proxy.restore()
    watcher.more(30, within_s=15)
    assert len(watcher.reported) > 1 or watcher.source.arrivals.lost, "the data was not spoilt"
    watcher.stop()
    frames = watcher.frames
    assert all(b.pts_s >= a.pts_s for a, b in pairwise(frames))
    check_counts(watcher.source, len(frames))


def test_another_codec_after_a_cut_is_named(videos, tmp_path, watch):
    write_camera_video(tmp_path / "small.mp4", seconds=600, fps=25, size=(48, 64))
    first = RtspCamera(fast=videos["fast"])
    watcher = watch(first.url("fast"))
    watcher.more(10)
    first.kill()
    film = tmp_path / "mpeg4.mp4"
    hevc = write_camera_video(film, seconds=60, fps=25, codec="mpeg4", size=(48, 64))
    second = RtspCamera(port=first.port, codec="mpeg4", fast=hevc)
    try:
        watcher.wait(lambda: watcher.source.status()["codec"] == "mpeg4", 10)
        watcher.more(2, within_s=10)
        assert [f.cut for f in watcher.frames if f.cut] == ["codec"]
        assert any("64x48 now" in line for line in watcher.reported)
        watcher.stop()
    finally:
        second.kill()


@contextmanager
def serving(folder: Path):
    """A web server of the standard library."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_address[1]}"
        web.shutdown()


def test_a_file_over_http_is_read_to_its_end(video, watch):
    with serving(video.parent) as url:
        watcher = watch(f"{url}/{video.name}")
        watcher.wait(lambda: watcher.source.status()["state"] == "ended", 10)
    assert len(watcher.frames) == 40
    assert not watcher.source.live and not watcher.source.truncated
    check_counts(watcher.source, 40)


def test_nothing_under_a_web_address_is_not_found(video, watch):
    with serving(video.parent) as url:
        watcher = watch(f"{url}/nothing.mp4")
        watcher.wait(lambda: watcher.source.status()["reason"] == "not-found", 5)


@contextmanager
def streaming(chunks):
    """A web camera: MPEG-TS without an end, each chunk of bytes in its turn."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            try:
                for chunk in chunks():
                    self.wfile.write(chunk)
            except OSError:
                pass

        def log_message(self, *_) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        web.daemon_threads = True
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_address[1]}/live"
        web.shutdown()


def paced(content: bytes, seconds: float):
    """The content in small pieces over ``seconds``."""
    count = max(1, int(seconds * 50))
    size = -(-len(content) // count)
    for start in range(0, len(content), size):
        yield content[start : start + size]
        time.sleep(seconds / count)


@pytest.fixture(scope="module")
def transport_streams(tmp_path_factory):
    """A second of MPEG-TS each: ``wide``, ``small`` in another size, ``later`` by an hour."""
    folder = tmp_path_factory.mktemp("ts")
    made = {}
    for name, size, later_s in (
        ("wide", (64, 96), 10),
        ("small", (48, 64), 12),
        ("later", (64, 96), 3600),
    ):
        path = folder / f"{name}.ts"
        write_video(path, moving_images(30, *size), fps=25, later_s=later_s, bf="0", g="25")
        made[name] = path.read_bytes()
    return made


@pytest.mark.parametrize(
    ("order", "cut"),
    [
        (("wide", "later", "later"), "time"),
        (("later", "wide", "wide"), "time"),
        (("wide", "small", "small"), None),
    ],
    ids=["jump", "back", "size"],
)
def test_stamps_that_jump_and_sizes_that_change_in_flight(order, cut, transport_streams, watch):
    def chunks():
        for name in order:
            yield from paced(transport_streams[name], 1.0)
        time.sleep(5)

    with streaming(chunks) as url:
        watcher = watch(url)
        watcher.more(65, within_s=20)
        watcher.stop()
    frames = watcher.frames[:65]
    cuts = [f.cut for f in frames if f.cut]
    assert (cut in cuts) if cut else ("reconnect" not in cuts), cuts
    steps = [b.pts_s - a.pts_s for a, b in pairwise(frames)]
    assert min(steps) > 0 and max(steps) < 2.5, (min(steps), max(steps))
    if "small" in order:
        assert watcher.source.status()["size"] == [48, 64]
        assert any("64x48 now" in line for line in watcher.reported)
    check_counts(watcher.source, len(watcher.frames))


def test_a_rate_that_changes_in_flight_is_told(tmp_path, watch):
    fast = write_video(
        tmp_path / "a.ts", moving_images(60, 48, 64), fps=50, later_s=10, bf="0", g="10"
    )
    slow = write_video(
        tmp_path / "b.ts", moving_images(60, 48, 64), fps=20, later_s=11.2, bf="0", g="10"
    )

    def chunks():
        yield from paced(fast.read_bytes(), 1.2)
        yield from paced(slow.read_bytes(), 3)
        time.sleep(5)

    with streaming(chunks) as url:
        watcher = watch(url)
        watcher.wait(lambda: any("frames/s now" in line for line in watcher.reported), 15)
        assert watcher.source.status()["rate_fps"] == pytest.approx(20, rel=0.2)
        watcher.stop()


def test_key_frames_alone_are_decoded_where_they_are_enough(camera, watch):
    watcher = watch(camera.url("fast"), rate_fps=0.4)  # a key frame comes each second
    watcher.wait(lambda: watcher.source.arrivals.skipped > 30, 15)
    assert watcher.source.status()["state"] == "open"
    watcher.stop()
    frames = watcher.frames
    assert frames[-1].pts_s - frames[-2].pts_s == pytest.approx(1, abs=0.1)
    check_counts(watcher.source, len(frames))


def test_udp_carries_it_too(camera, watch):
    watcher = watch(camera.url("fast"), transport="udp")
    watcher.more(30, within_s=15)
    watcher.stop()
    check_counts(watcher.source, len(watcher.frames))
