"""Decoding of video files with PyAV: frames with their times, what was lost named.

Frames come in the order of presentation. Nothing here knows about models.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgevid.errors import BadInput, BadVideo
from edgevid.media.decode import Arrivals, Decoder, hardware, seconds
from edgevid.media.sampling import Sampler, Skipper
from edgevid.media.sources import Say, SourceOptions
from edgevid.registry import need

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import FrameInput

PLAIN = SourceOptions()
VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm")


__all__ = ["Arrivals", "Captured", "FileSource", "Sampler", "open_file", "read_clip"]


@dataclass(frozen=True, slots=True)
class Captured:
    """One frame as it came: its place, its time in the stream, and when its packet arrived."""

    index: int
    """Its number in the stream, from 0; frames that were left undecoded count, lost ones don't."""
    pts_s: float
    """Seconds in the stream; they never go back within one source."""
    captured_s: float
    """`time.perf_counter` seconds at the arrival of the packet that completed the frame."""
    decode_s: float
    """Seconds of decoding spent until this frame came out, since the last one did."""
    picture: Any
    since_s: float | None = None
    """Seconds since the frame before it in the stream, which may not have been decoded."""
    cut: str | None = None
    """Why it does not simply continue the frame before: ``reconnect``, ``time``, ``codec``."""


class FileSource:
    """Frames of one file, in order, none dropped; iterate over it once, then close it."""

    live = False
    due_s = math.inf  # a file waits for whoever reads it, so it can promise nothing

    def __init__(
        self,
        file: Path | IO[bytes],
        name: str | None = None,
        options: SourceOptions = PLAIN,
    ) -> None:
        av = need("av", "runner")
        self.name = name or (str(file) if isinstance(file, Path) else "video in memory")
        accelerated, self._decoder_name = hardware(options.decoder)
        try:
            self._container: Any = av.open(
                str(file) if isinstance(file, Path) else file,
                metadata_errors="replace",  # a title in another encoding is no reason to fail
                **accelerated,
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
        if self._stream.codec_context is None:
            self._container.close()
            raise BadVideo(f"{self.name}: no decoder knows its codec; give a complete, usual file")
        self._stream.thread_type = "AUTO" if options.frame_threads else "SLICE"
        self.arrivals = Arrivals()
        self._decoder = Decoder(self._stream, self.arrivals, options)
        self._skipper, self._skips = Skipper(options.rate_fps), options.rate_fps is not None
        self._stopped = threading.Event()
        self._ended = False
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

        shown = 0
        mark = time.perf_counter()
        for packet in self._packets():
            if self._stopped.is_set():
                break
            level = "DEFAULT"
            if self._skips:
                times = seconds(packet.pts, packet), seconds(packet.dts, packet)
                level = self._skipper.level(*times)
            try:
                for picture, arrived_s, since_s in self._decoder.take(
                    packet, level, needed=level == "DEFAULT"
                ):
                    index = shown + self.arrivals.skipped
                    pts_s = seconds(picture.pts, picture)
                    if pts_s is None:
                        pts_s = index / (self.rate_fps or 25.0)
                    else:
                        self._skipper.shown(pts_s)
                    now = time.perf_counter()
                    yield Captured(index, pts_s, arrived_s, now - mark, picture, since_s)
                    shown += 1
                    mark = time.perf_counter()
                    if self._stopped.is_set():
                        break
            except av.FFmpegError:
                self.truncated = True
        self._decoder.end()
        self._ended = True
        if self._stopped.is_set():
            return
        self.truncated = self.truncated or self._decoder.packets < self.expected
        if not shown:
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

    def stop(self) -> None:
        """End the iteration at the next frame; from any thread."""
        self._stopped.set()

    def status(self) -> dict[str, Any]:
        """Say how it is, as plain data."""
        return {
            "state": "ended" if self._ended else "open",
            "reason": None,
            "detail": "",
            "reconnects": 0,
            "size": list(self.size),
            "rate_fps": self.rate_fps,
            "codec": self._stream.codec_context.name,
            "decoder": self._decoder_name,
        }

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_file(name: str, options: SourceOptions = PLAIN, say: Say = print) -> FileSource:
    """Open the video file ``name``; raises `BadInput` where there is none, `BadVideo`."""
    path = Path(name)
    if not path.exists():
        raise BadInput(f"{name}: no such file; give a video file")
    if path.is_dir():
        raise BadInput(f"{name}: is a folder; give a video file")
    return FileSource(path, options=options)


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
            if sampler.take(captured.pts_s, captured.since_s)
        ]
        if source.truncated:
            raise BadVideo(f"{source.name}: truncated after {len(kept)} frames; copy it again")
    return np.stack(kept)


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error)
