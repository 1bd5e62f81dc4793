"""Decoding of video files with PyAV: frames with their times, what was lost named.

Frames come in the order of presentation. Nothing here knows about models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from edgevid.errors import BadInput, BadVideo
from edgevid.registry import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import FrameInput

VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm")


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame as it came: its place, its time in the stream, and when its packet arrived."""

    index: int
    pts_s: float
    captured_s: float
    """`time.perf_counter` seconds at the arrival of the packet that completed the frame."""
    decode_s: float
    """Seconds of decoding spent until this frame came out, since the last one did."""
    picture: Any


class Sampler:
    """Chooses the frames of a stream that a model of ``rate_fps`` sees; ``None`` takes all.

    Each tick of the rate is taken once, by the frame nearest to it: a frame may come early by half
    the time since the one before. Time bases that round (Matroska's milliseconds) and cameras that
    jitter then lose no frame when both rates are equal, and whole ratios are met evenly.
    """

    TIE_TICKS = 1e-6  # of two frames equally near, the later; not what rounding makes of it

    def __init__(self, rate_fps: float | None) -> None:
        self._rate = rate_fps
        self._start_s: float | None = None
        self._before_s = 0.0
        self._last = -1

    def take(self, pts_s: float) -> bool:
        """Say whether the frame at ``pts_s`` seconds is one of them."""
        if self._rate is None:
            return True
        if self._start_s is None:
            self._start_s = self._before_s = pts_s
        early_s = min(pts_s - self._before_s, 1 / self._rate) / 2
        self._before_s = pts_s
        tick = int((pts_s - self._start_s + early_s) * self._rate - self.TIE_TICKS)
        if tick <= self._last:
            return False
        self._last = tick
        return True


class FileSource:
    """Frames of one file, in order, none dropped; iterate over it once, then close it."""

    live = False

    def __init__(self, file: Path | IO[bytes], name: str | None = None) -> None:
        av = need("av", "runner")
        self.name = name or (str(file) if isinstance(file, Path) else "video in memory")
        try:
            self._container: Any = av.open(
                str(file) if isinstance(file, Path) else file,
                metadata_errors="replace",  # a title in another encoding is no reason to fail
            )
        except av.FFmpegError as error:
            raise BadVideo(
                f"{self.name}: not a readable video ({_reason(error)}); "
                "give a complete file that ffmpeg can read"
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise BadVideo(f"{self.name}: has no picture track; give a file with video in it")
        self._stream: Any = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.expected = int(self._stream.frames or 0)
        self.truncated = False
        """True once it is known that frames which the file promises cannot be had."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the coded picture."""
        return int(self._stream.codec_context.height), int(self._stream.codec_context.width)

    @property
    def rate_fps(self) -> float:
        """The average rate that the file declares; 0 where it does not."""
        return float(self._stream.average_rate or 0)

    def __iter__(self) -> Iterator[Captured]:
        import av

        arrivals: dict[int | None, float] = {}
        index = packets = 0
        mark = time.perf_counter()
        for packet in self._packets():
            arrived = time.perf_counter()
            if packet.size:
                packets += 1
                arrivals[packet.pts] = arrived
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                self.truncated = True
                continue
            for picture in pictures:
                now = time.perf_counter()
                yield Captured(
                    index,
                    self._time_s(picture, index),
                    arrivals.pop(picture.pts, arrived),
                    now - mark,
                    picture,
                )
                index += 1
                mark = time.perf_counter()
        self.truncated = self.truncated or packets < self.expected
        if not index:
            raise BadVideo(f"{self.name}: no frame could be decoded; is the file complete?")

    def _packets(self) -> Iterator[Any]:
        """Demultiplex; a file that breaks off in the middle ends here, marked."""
        import av

        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError:
            self.truncated = True
            with_flush = av.Packet()
            with_flush.stream = self._stream
            yield with_flush

    def _time_s(self, picture: Any, index: int) -> float:
        if picture.pts is not None and picture.time_base is not None:
            return float(picture.pts * picture.time_base)
        return index / (self.rate_fps or 25.0)

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def __enter__(self) -> FileSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_file(name: str) -> FileSource:
    """Open the video file ``name``; raises `BadInput` where there is none, `BadVideo`."""
    path = Path(name)
    if not path.exists():
        raise BadInput(f"{name}: no such file; give a video file")
    if path.is_dir():
        raise BadInput(f"{name}: is a folder; give a video file")
    return FileSource(path)


def read_clip(file: Path | IO[bytes], frame: FrameInput) -> NDArray[np.uint8]:
    """Decode, sample and scale a whole file: uint8 ``(frames, height, width, 3)``.

    Raises `BadVideo` where the file is unreadable, has no frames, or is truncated.
    """
    import numpy as np

    from edgevid.media.geometry import Geometry

    geometry, sampler = Geometry(frame), Sampler(frame.rate_fps)
    with FileSource(file) as source:
        kept = [
            geometry.apply(captured.picture)[0].copy()
            for captured in source
            if sampler.take(captured.pts_s)
        ]
        if source.truncated:
            raise BadVideo(f"{source.name}: truncated after {len(kept)} frames; copy it again")
    return np.stack(kept)


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error)
