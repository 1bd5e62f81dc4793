"""A real RTSP camera: GStreamer's server in a process of the system's python3.

    python3 rtsp.py PORT USER PASSWORD CODEC MOUNT=FILE...     "-" for no user

It runs where GStreamer's bindings are, so it imports nothing of the project; `RtspCamera` starts
it. Each file is served from its beginning to each client, in real time.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
READY_S = 20
PAY = {
    "h264": "h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96",
    "mpeg4": "mpeg4videoparse ! rtpmp4vpay config-interval=1 name=pay0 pt=96",
}


def free_port() -> int:
    """Give a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspCamera:
    """A camera at `url(mount)` for each ``mount=file``; dies with this process."""

    def __init__(
        self,
        *,
        user: str = "",
        password: str = "",
        port: int = 0,
        codec: str = "h264",
        **mounts: Path,
    ) -> None:
        from rigs.need import missing

        probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
        if subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True).returncode:
            missing("GStreamer's RTSP server", f"run: apt-get install {PACKAGES}")
        self.port = port or free_port()
        self._command = [
            SYSTEM_PYTHON,
            __file__,
            str(self.port),
            user or "-",
            password or "-",
            codec,
            *(f"{mount}={file}" for mount, file in mounts.items()),
        ]
        self.start()

    def start(self) -> None:
        """Start it (again) on its port."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], READY_S)
        assert ready and self._process.stdout.readline() == b"ready\n", "no RTSP server"

    def kill(self) -> None:
        """End it as a power cut would, so far as a process can."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def url(self, mount: str, *, port: int | None = None, login: str = "") -> str:
        """Its address; through a proxy where ``port`` is one's."""
        return f"rtsp://{login}127.0.0.1:{port or self.port}/{mount}"

    def __enter__(self) -> RtspCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def serve(port: str, user: str, password: str, codec: str, *mounts: str) -> None:
    """Be the camera."""
    import ctypes

    import gi

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: go with whoever started this
    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    if user != "-":
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        auth.set_supported_methods(1)  # basic
        server.set_auth(auth)
    for one in mounts:
        mount, _, file = one.partition("=")
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( filesrc location={file} ! qtdemux ! {PAY[codec]} )")
        if user != "-":
            may = "viewer,media.factory.access=true,media.factory.construct=true"
            factory.add_role_from_structure(Gst.Structure.from_string(may)[0])
        server.get_mount_points().add_factory(f"/{mount}", factory)
    server.attach(None)
    loop = GLib.MainLoop()
    with contextlib.suppress(BrokenPipeError):
        os.write(1, b"ready\n")
    loop.run()


if __name__ == "__main__":
    serve(*sys.argv[1:])
