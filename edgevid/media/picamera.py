"""The Raspberry Pi's camera: ``picamera:``, ``picamera:1?size=1280x720&fps=30``.

The system's own program encodes H.264 into a pipe: ``rpicam-vid``, on older systems
``libcamera-vid``. Written to its documented interface; not tested on hardware.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid.isolation.process import environment, python_module
from edgevid.media import ffmpeg
from edgevid.media.connection import OpenStream
from edgevid.media.live import ReconnectingSource
from edgevid.media.sources import Report, SourceAddress, SourceOptions, SourcePlugin, parameter
from edgevid.media.unavailable import Reason, Unavailable
from edgevid.registry import need

PROGRAMS = ("rpicam-vid", "libcamera-vid")
INSTALL = "run: sudo apt-get install rpicam-apps"
PIPE = ("--codec", "h264", "--inline", "--flush", "--nopreview", "--timeout", "0", "--output", "-")
PIPE_FORMAT = "--libav-format"
"""The Pi 5 encodes in software and then needs the format of a pipe as an option."""
HELP_S, END_S = 5.0, 0.7


@dataclass(frozen=True)
class PiCameraParameters:
    """The query of a ``picamera:`` name.

    Attributes:
        size: ``WIDTHxHEIGHT`` in pixels.
        fps: Frames per second.
    """

    size: str = parameter(r"\d{2,4}x\d{2,4}", "1280x720")
    fps: str = parameter(r"\d+(\.\d+)?", "30")


def open_picamera(
    address: SourceAddress, options: SourceOptions, report: Report
) -> ReconnectingSource:
    """Open a Pi camera.

    Args:
        address: ``picamera:``, with the camera's number after the colon if there are several.
        options: How to read it.
        report: Gets one line whenever the state of the stream changes.

    Returns:
        The source.

    Raises:
        BadInput: The address is wrong.
    """
    return ReconnectingSource(PiCamera(address), options, report)


PICAMERA = SourcePlugin(open_picamera, "picamera:0?size=1280x720", PiCameraParameters)


class PiCamera:
    """One camera; see `edgevid.media.connection.Endpoint`."""

    def __init__(self, address: SourceAddress) -> None:
        """Compose the program's arguments; raises `BadInput` if the address is wrong."""
        need("av", "runner")
        name = self.name = address.name
        if address.target and not address.target.isdecimal():
            raise BadInput(f"{name}: not a Pi camera; use picamera: or picamera:0?size=1280x720")
        width, _, height = address.parameters.size.partition("x")
        self.fps = address.parameters.fps
        image = ("--camera", address.target or "0", "--width", width, "--height", height)
        self.arguments = [*image, "--framerate", self.fps, *PIPE]

    def connection(self) -> CameraProgram:
        """Prepare one run of the program."""
        return CameraProgram(self)


class CameraProgram:
    """One run of the program; see `edgevid.media.connection.Connection`."""

    def __init__(self, camera: PiCamera) -> None:
        self._camera = camera
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended = False

    def open(self, open_s: float, read_s: Any) -> OpenStream:
        """Start the program and open its pipe; see `edgevid.media.connection.Connection.open`."""
        import av

        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise Unavailable(Reason.NOT_FOUND, f"{PROGRAMS[0]} is not installed; {INSTALL}")
        child = self._start([program, *self._camera.arguments, *_pipe_format(program)])
        options = {"framerate": self._camera.fps, "probesize": "32", "fpsprobesize": "0"}
        try:
            container = ffmpeg.open_input(child.stdout, ffmpeg.PICAMERA, options, format="h264")
        except av.FFmpegError:
            name = Path(program).name
            raise Unavailable(
                Reason.ENDED, f"{name} delivers no video; is a camera connected?"
            ) from None
        return OpenStream(container, clockless=True)

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        from edgevid.isolation.sandbox import LIMITS_ONLY

        with self._lock:
            if self._ended:
                raise Unavailable(Reason.ENDED, "no longer wanted")
            self._child = subprocess.Popen(
                python_module("edgevid.isolation.process", LIMITS_ONLY, *command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,  # read what is available instead of waiting for a full buffer
                env=environment(),
            )
            return self._child

    def end(self) -> None:
        """Terminate the program, which releases the camera; kill it if it does not end."""
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
        listed = subprocess.run(
            [program, "--help"], capture_output=True, timeout=HELP_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [PIPE_FORMAT, "h264"] if PIPE_FORMAT.encode() in listed.stdout else []
