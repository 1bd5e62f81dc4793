"""``edgevid run`` on files that are joined, turned, without a clock, or behind a web server."""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from edgevid import load
from edgevid.errors import BadVideo
from edgevid.media.sources import SourceOptions, open_source
from rigs.any_video import Recipe, ffmpeg, make
from rigs.field_pictures import field_pictures
from rigs.web import answering


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def run(edgevid, null_bundle, tmp_path):
    """Give a function that runs the model on a source; gives lines, summary and stderr."""

    def start(source, *words):
        output = tmp_path / "out.jsonl"
        done = edgevid("run", null_bundle, source, "--output", output, "--json", *words)
        assert done.returncode == 0, done.stderr
        return lines(output), json.loads(done.stdout), done.stderr

    return start


@contextmanager
def web(folder: Path):
    """A web server that can seek and, for ``snapshot.jpg``, counts requests."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            content = Path(self.translate_path(self.path)).read_bytes()
            start, _, end = self.headers.get("Range", "bytes=0-")[6:].partition("-")
            part = content[int(start) : int(end) + 1 if end else None]
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Accept-Ranges", "bytes")
            if "Range" in self.headers:
                last = int(start) + len(part) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(part)

        def log_message(self, *_) -> None:
            pass

    handler = partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("rate", ["all", "16"])
def test_joined_recordings_are_read_whole_and_the_join_is_a_gap(run, tmp_path, rate):
    clip = make(tmp_path, Recipe(container="ts", frames=32, fps=16, b_frames=2, joined=True))
    found, summary, _ = run(clip, "--rate", rate)
    assert summary["frames"]["answered"] == summary["frames"]["captured"] == 64
    times = [one["pts_s"] for one in found]
    assert times == [pytest.approx(n / 16, abs=1e-5) for n in range(64)]
    assert [n for n, one in enumerate(found) if one.get("gap")] == [32]


def test_a_join_at_a_frame_that_is_not_stepped_is_a_gap_all_the_same(run, tmp_path):
    clip = make(tmp_path, Recipe(container="ts", frames=33, fps=16, joined=True))
    found, _, _ = run(clip, "--rate", "4")
    assert [one["index"] for one in found if one.get("gap")] == [36]


def test_avi_with_b_frames_is_answered_whole_and_in_order(run, tmp_path):
    clip = make(tmp_path, Recipe(container="avi", frames=60, b_frames=2, gop=30))
    found, summary, _ = run(clip, "--rate", "all")
    assert summary["frames"] == {
        "captured": 60,
        "answered": 60,
        "sampled_out": 0,
        "gated": 0,
        "dropped": 0,
        "failed": 0,
        "in_flight": 0,
    }
    assert all(b["pts_s"] - a["pts_s"] == pytest.approx(0.04) for a, b in pairwise(found))


def test_a_raw_stream_has_the_rate_of_its_bitstream(run, tmp_path):
    clip = make(tmp_path, Recipe(container="h264", frames=30, fps=15.0))
    found, _, told = run(clip, "--rate", "all")
    assert found[-1]["pts_s"] == pytest.approx(29 / 15, abs=1e-5)
    assert "assumed" not in told
    found, _, _ = run(clip, "--rate", "all", "--source-fps", "10")
    assert found[-1]["pts_s"] == pytest.approx(2.9)


def test_a_rate_that_is_nowhere_is_a_guess_and_said_to_be_one(run, tmp_path):
    clip = tmp_path / "fields.h264"
    clip.write_bytes(field_pictures([40 + 5 * n for n in range(20)]))
    found, summary, told = run(clip, "--rate", "all")
    assert len(found) == 20 and found[-1]["pts_s"] == pytest.approx(19 / 25)
    assert told.count("25 frames/s are assumed") == 1 and "--source-fps" in told
    assert summary["frames"]["failed"] == 0, "a second field is no failed frame"
    _, _, told = run(clip, "--rate", "all", "--source-fps", "10")
    assert "assumed" not in told
    clip.write_bytes(field_pictures([40 + 5 * n for n in range(20)], rate=15))
    found, _, told = run(clip, "--rate", "all")
    assert found[-1]["pts_s"] == pytest.approx(19 / 15, abs=1e-5) and "assumed" not in told


def test_frames_that_an_edit_list_hides_are_not_failed(run, tmp_path):
    clip = make(tmp_path, Recipe(frames=40, b_frames=2, gop=40, hidden=15))
    found, summary, _ = run(clip, "--rate", "all")
    assert summary["frames"]["failed"] == 0 and not summary["truncated"]
    assert 20 < len(found) == summary["frames"]["captured"] < 30


@pytest.mark.parametrize("kind", ["mp4", "m3u8", "ts", "h264"])
def test_a_file_over_http_drops_nothing_and_replaces_its_output(run, tmp_path, kind):
    folder = tmp_path / "www"
    folder.mkdir()
    clip = make(folder, Recipe(container="ts" if kind == "m3u8" else kind, frames=120, b_frames=2))
    if kind == "m3u8":
        ffmpeg(
            "-i",
            str(clip),
            "-c",
            "copy",
            "-hls_time",
            "1",
            "-hls_playlist_type",
            "vod",
            "-hls_list_size",
            "0",
            str(folder / "list.m3u8"),
        )
        clip = folder / "list.m3u8"
    with web(folder) as url:
        for _ in range(2):
            found, summary, _ = run(f"{url}/{clip.name}", "--rate", "all")
            assert len(found) == summary["frames"]["answered"] == 120
            assert summary["frames"]["dropped"] == 0
    assert found[-1]["pts_s"] == pytest.approx(119 / 25, abs=1e-4)


def test_a_file_that_is_not_there_over_http_ends_command_and_function(
    edgevid, null_bundle, tmp_path
):
    with answering(404) as (url, _):
        done = edgevid("run", null_bundle, f"{url}/x.mp4", "--output", tmp_path / "out.jsonl")
        assert done.returncode == 2 and "404 Not Found; check the address" in done.stderr
        with load(null_bundle) as model, pytest.raises(BadVideo, match="404 Not Found"):
            list(model.run(f"{url}/x.mp4"))


def test_a_snapshot_is_fetched_again_and_that_is_said(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x32", "-frames:v", "1", str(tmp_path / "snap.jpg"))
    told: list[str] = []
    with web(tmp_path) as url:
        source = open_source(f"{url}/snap.jpg", SourceOptions(source_fps=20), told.append)
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 5:
                source.stop()
        source.close()
    assert source.live and [f.index for f in frames] == list(range(5))
    assert all(b.pts_s - a.pts_s > 0.03 for a, b in pairwise(frames))
    assert len([line for line in told if "single images" in line]) == 1
