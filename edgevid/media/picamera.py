"""The Raspberry Pi's camera: ``picamera:``, ``picamera:1?size=1280x720&fps=30``.

The system's own program encodes H.264 on the way to a pipe: ``rpicam-vid``, on older systems
``libcamera-vid``. Built to its documented interface; not yet proven on hardware.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

from edgevid.children import environment, python_module
from edgevid.errors import BadInput
from edgevid.media.connection import Opened
from edgevid.media.live import LiveSource
from edgevid.media.sources import Reason, Say, SourceOptions, Unavailable
from edgevid.media.v4l2 import read_wishes
from edgevid.registry import need

NAME = re.compile(r"picamera:(?P<number>\d*)(?:\?(?P<wishes>.*))?")
WISHES = {"size": ("", r"\d{2,4}x\d{2,4}"), "fps": ("", r"\d+(\.\d+)?")}
PROGRAMS = ("rpicam-vid", "libcamera-vid")
INSTALL = "run: sudo apt-get install rpicam-apps"
PIPE = ("--codec", "h264", "--inline", "--flush", "--nopreview", "--timeout", "0", "--output", "-")
# The Pi 5 encodes in software, and that way has to be told the format of a pipe.
PIPE_FORMAT = "--libav-format"
HELP_S, END_S = 5.0, 0.7


def open_picamera(name: str, options: SourceOptions, say: Say) -> LiveSource:
    """Read the Pi camera ``name``; raises `BadInput` where the name is not one."""
    return LiveSource(PiCamera(name), options, say)


class PiCamera:
    """One camera; see `connection.Camera`."""

    def __init__(self, name: str) -> None:
        need("av", "runner")
        found = NAME.fullmatch(name)
        if found is None:
            raise BadInput(f"{name}: not a Pi camera; give picamera: or picamera:0?size=1280x720")
        self.name = name
        wishes = {"size": "1280x720", "fps": "30"}
        wishes |= read_wishes(name, found["wishes"], WISHES)
        width, _, height = wishes["size"].partition("x")
        self.fps = wishes["fps"]
        place = ("--camera", found["number"] or "0", "--width", width, "--height", height)
        self.arguments = [*place, "--framerate", self.fps, *PIPE]

    def connection(self) -> Recording:
        """Give one run of the program."""
        return Recording(self)


class Recording:
    """One run of the program; see `connection.Connection`."""

    def __init__(self, camera: PiCamera) -> None:
        self._camera = camera
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended = False

    def open(self, open_s: float, read_s: Any) -> Opened:
        """Start the program and open its pipe."""
        import av

        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise Unavailable(Reason.NOT_FOUND, f"{PROGRAMS[0]} is not installed; {INSTALL}")
        child = self._start([program, *self._camera.arguments, *_pipe_format(program)])
        options = {"framerate": self._camera.fps, "probesize": "32", "fpsprobesize": "0"}
        try:
            container: Any = av.open(child.stdout, format="h264", options=options)
        except av.FFmpegError:
            name = Path(program).name
            raise Unavailable(
                Reason.ENDED, f"{name} gives no pictures; is a camera there?"
            ) from None
        return Opened(container, clockless=True)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise Unavailable(Reason.ENDED, "not wanted any more")
            self._child = subprocess.Popen(
                python_module("edgevid.children", *command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # what is read is what is there, not a full buffer
                env=environment(),
            )
            return self._child

    def end(self) -> None:
        """End the program: politely, for it holds the camera, but surely."""
        with self._lock:
            self._ended = True
            child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _pipe_format(program: str) -> list[str]:
    try:
        said = subprocess.run([program, "--help"], capture_output=True, timeout=HELP_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [PIPE_FORMAT, "h264"] if PIPE_FORMAT.encode() in said.stdout else []
