"""Whether a stream is live or finite is decided once, after it is open: files lose no frame."""

import http.server
import json
import os
import threading
from functools import partial

import pytest

from rigs.service import holds

SLOW = {"EDGEVID_NULL": json.dumps({"latency_ms": 30})}


@pytest.fixture
def address(video):
    """A web server of the standard library, with the folder of the video."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = partial(Quiet, directory=video.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_address[1]}/{video.name}"
        web.shutdown()


def run(edgevid, *words):
    done = edgevid("run", *words, "--rate", "all", "--json", env={**os.environ, **SLOW})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("remote", [True, False])
def test_a_file_loses_no_frame_however_slow_the_engine_is(
    edgevid, null_bundle, video, address, tmp_path, remote
):
    out = tmp_path / "results.jsonl"
    source = address if remote else video
    summary = run(edgevid, null_bundle, source, "--output", out)
    assert summary["frames"]["captured"] == summary["frames"]["answered"] == 40
    assert summary["frames"]["dropped"] == 0
    assert holds(summary["frames"])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(40))
    assert not any("captured_unix_s" in line for line in lines)


def test_a_sink_that_is_slower_than_the_stall_limit_breaks_no_remote_file(
    edgevid, null_bundle, address, tmp_path
):
    """The connection is not silent only because nobody reads it."""
    summary = run(
        *(edgevid, null_bundle, address, "--stall-s", "0.02", "--output", tmp_path / "out.jsonl")
    )
    assert summary["frames"]["answered"] == 40
