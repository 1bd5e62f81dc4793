"""Cameras that are shared by the tests of sources."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgevid.media.sources import SourceOptions, open_source
from rigs.proxy import Proxy
from rigs.rtsp import RtspCamera
from rigs.videos import write_camera_video
from rigs.watch import Watcher


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Videos for cameras: 25 frames/s, one every 3.3 s, one every 5 s."""
    folder = tmp_path_factory.mktemp("videos")
    return {
        "fast": write_camera_video(folder / "fast.mp4", seconds=600, fps=25),
        "leisurely": write_camera_video(folder / "leisurely.mp4", seconds=600, fps=0.3, gop_s=10),
        "slow": write_camera_video(folder / "slow.mp4", seconds=600, fps=0.2, gop_s=10),
    }


@pytest.fixture(scope="session")
def camera(videos) -> Iterator[RtspCamera]:
    """A camera with the mounts ``fast``, ``leisurely`` and ``slow``."""
    with RtspCamera(**videos) as camera:
        yield camera


@pytest.fixture
def proxy(camera) -> Iterator[Proxy]:
    """A network between us and the camera."""
    proxy = Proxy(camera.port)
    yield proxy
    proxy.close()


@pytest.fixture
def watch():
    """Give a function that opens a source and watches it; what it reported is in ``reported``."""
    open_ones: list[Watcher] = []

    def start(name: str, **options) -> Watcher:
        reported: list[str] = []
        watcher = Watcher(open_source(name, SourceOptions(**options), reported.append), reported)
        open_ones.append(watcher)
        return watcher

    yield start
    for watcher in open_ones:
        watcher.source.stop()
        watcher.source.close()
