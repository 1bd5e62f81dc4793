"""What a hostile file or a local user can make FFmpeg do."""

from __future__ import annotations

import ast
import io
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import edgevid
from edgevid.errors import BadVideo
from edgevid.media import ffmpeg
from edgevid.media.video import FileSource, open_file
from rigs.need import need_program

PROJECT = Path(edgevid.__file__).parent.parent
READS_ALL = """
import edgevid, av
for device in "default", "hw:0", "plug:null", "pulse":
    try:
        av.open(device, format="alsa")
    except av.FFmpegError:
        pass
try:
    av.open("https://127.0.0.1:9/", timeout=1)
except av.FFmpegError:
    pass
"""
OPENED = re.compile(r'^[^"]*\("(/[^"]*)"|AT_FDCWD, "(/[^"]*)"', re.MULTILINE)


def opened_by(program: str, tmp_path: Path) -> set[str]:
    """The absolute paths that a Python program opens, looks at or executes."""
    log = tmp_path / "trace"
    command = [need_program("strace", "strace"), "-f", "-qq", "-e", "trace=%file", "-o", str(log)]
    own = {name: value for name, value in os.environ.items() if name not in edgevid.LIBRARY_FILES}
    subprocess.run([*command, sys.executable, "-c", program], env=own, cwd="/", capture_output=True)
    found = {one or other for one, other in OPENED.findall(log.read_text())}
    assert any("libasound" in path for path in found), "PyAV was not loaded"
    return found


def anybody_may_write(path: Path) -> bool:
    """Whether the path, or the nearest existing folder above it, is world-writable."""
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    return bool(there.stat().st_mode & 0o002) and there.is_dir()


def test_nothing_is_read_where_every_user_can_write(tmp_path):
    """The wheel's libraries have their build folder, below /tmp, compiled in."""
    found = opened_by(READS_ALL, tmp_path)
    assert "/usr/share/alsa/alsa.conf" in found
    ours = (PROJECT, tmp_path, Path(sys.prefix))
    doubtful = [
        path
        for path in map(Path, found)
        if not any(path == one or path in one.parents or one in path.parents for one in ours)
        and path.parts[1:2] not in (("dev",), ("proc",))
        and anybody_may_write(path)
    ]
    assert not [path for path in doubtful if path.exists() is False or path.is_file()]


def test_only_one_function_opens_videos():
    """All readers go through the allow-lists of formats and protocols, and the limit on pixels."""
    others = []
    for folder in (PROJECT / "edgevid", PROJECT / "converters"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "av.open"):
                    continue
                writes = len(node.args) > 1 and ast.unparse(node.args[1]) == "'w'"
                if not writes and path.name != "ffmpeg.py":
                    others.append(f"{path}:{node.lineno}")
    assert not others


# ---------------------------------------------------------------- formats and protocols

SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video %d RTP/AVP 96\n"


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_session_description_binds_no_port(tmp_path, in_memory):
    """It is a clip's content, in a bundle or a file."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1] & ~1
    content = SDP % port + b"a=rtpmap:96 H264/90000\n"
    file = tmp_path / "clip.mp4"
    file.write_bytes(content)
    with pytest.raises(BadVideo, match="playlists and stream descriptions are not opened"):
        FileSource(io.BytesIO(content) if in_memory else file)


def web_that_listens():
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.2)
    return listening


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"),
        ("v.mp4", "ffconcat version 1.0\nfile '{url}'\n"),
    ],
    ids=["hls", "concat"],
)
def test_a_playlist_in_a_file_fetches_nothing(tmp_path, name, content):
    with web_that_listens() as web:
        url = f"http://127.0.0.1:{web.getsockname()[1]}/secret.ts"
        file = tmp_path / name
        file.write_text(content.format(url=url))
        with pytest.raises(BadVideo, match="playlists"):
            open_file(file)
        with pytest.raises(TimeoutError):
            web.accept()


# ---------------------------------------------------------------- the size of images


def huge(path: Path, codec: str) -> Path:
    """A small file of images of 10,000 x 10,000 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width = stream.height = 10_000
        stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "gray"}.get(codec, "yuv420p")
        stream.options = {"preset": "ultrafast"} if codec == "libx264" else {}
        image = av.VideoFrame(10_000, 10_000, stream.pix_fmt)
        for plane in image.planes:
            plane.update(np.zeros(plane.buffer_size, np.uint8))
        for packet in [*stream.encode(image), *stream.encode(image), *stream.encode()]:
            container.mux(packet)
    return path


@pytest.mark.parametrize(("codec", "name"), [("libx264", "v.mp4"), ("png", "v.avi")])
def test_huge_images_are_refused_before_they_take_memory(tmp_path, codec, name):
    path = huge(tmp_path / name, codec)
    assert path.stat().st_size < 1 << 20
    program = """
import resource, sys
from edgevid.media import ffmpeg
from edgevid.media.hls import parse
from edgevid.media.logins import moved
from edgevid.media.network import NetworkEndpoint
from edgevid.media.sources import SourceOptions, open_source
from edgevid.media.unavailable import Unavailable
from edgevid.errors import BadVideo
from edgevid.media.video import open_file
import av, numpy
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    with open_file(sys.argv[1]) as source:
        list(source)
except BadVideo as error:
    print(peak() - before, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    grown_kb, _, error = done.stdout.strip().partition(" ")
    assert int(grown_kb) < 80_000, "a decoder allocated such an image"
    assert "8192x8192" in error, done.stdout


def test_the_largest_video_of_today_is_allowed():
    assert ffmpeg.MAX_PIXELS >= 7680 * 4320
