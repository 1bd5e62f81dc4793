"""Video files: decoding with PyAV in presentation order, with what is missing or damaged counted.

Nothing here depends on a model.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgevid.errors import BadInput, BadVideo
from edgevid.media.decode import Arrivals, Decoder, hardware, seconds
from edgevid.media.sampling import Sampler, Skipper
from edgevid.media.sources import Report, SourceAddress, SourceOptions, SourcePlugin
from edgevid.registry import need
from edgevid.results import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import FrameInput

DEFAULTS = SourceOptions()
FALLBACK_FPS = 25.0
"""The rate of a file that has neither time stamps nor a declared rate."""
VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm")


class FileSource:
    """Frames of one file, in order, none dropped.

    Attributes:
        name: What people see.
        arrivals: Counts of the packets so far.
        expected: The number of frames that the file declares; 0 if it declares none.
        truncated: Whether frames that the file promises cannot be had.
    """

    live = False
    due_s = math.inf
    """A file waits for its reader, so it cannot promise a frame at any time."""

    def __init__(
        self,
        file: Path | IO[bytes],
        name: str | None = None,
        options: SourceOptions = DEFAULTS,
    ) -> None:
        """Open the file.

        Args:
            file: A path, or an open binary file.
            name: What people see; by default the path.
            options: How to read it.

        Raises:
            BadVideo: The file is not a readable video.
            MissingExtra: PyAV is not installed.
        """
        av = need("av", "runner")
        self.name = name or (str(file) if isinstance(file, Path) else "video in memory")
        self._options = options
        accelerated, self._decoder_name = hardware(options.decoder)
        try:
            self._container: Any = av.open(
                _plain(file) if isinstance(file, Path) else file,
                metadata_errors="replace",  # a title in another encoding is no reason to fail
                **accelerated,
            )
        except av.FFmpegError as error:
            raise BadVideo(
                f"{self.name}: not a readable video ({_reason(error)}); "
                "use a complete file that ffmpeg can read"
            ) from error
        if not self._container.streams.video:
            self._container.close()
            raise BadVideo(f"{self.name}: has no video track; use a file with video in it")
        self._stream: Any = self._container.streams.video[0]
        if self._stream.codec_context is None:
            self._container.close()
            raise BadVideo(
                f"{self.name}: no decoder for its codec; use a complete file in a common format"
            )
        self._stream.thread_type = "AUTO" if options.frame_threads else "SLICE"
        self.arrivals = Arrivals()
        self._decoder = Decoder(
            self._stream, self.arrivals, skip_loop_filter=options.skip_loop_filter
        )
        self._stopped = threading.Event()
        self._ended = False
        self.expected = int(self._stream.frames or 0)
        self.truncated = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the coded image in pixels."""
        return int(self._stream.codec_context.height), int(self._stream.codec_context.width)

    @property
    def rate_fps(self) -> float:
        """The average rate that the file declares in frames per second; 0 if it declares none."""
        return float(self._stream.average_rate or 0)

    def __iter__(self) -> Iterator[Frame]:
        shown = 0
        for frame in self._frames():
            shown += 1
            yield frame
            if self._stopped.is_set():
                break
        self._decoder.end()
        self._ended = True
        if self._stopped.is_set():
            return
        self.truncated = self.truncated or self._decoder.packets < self.expected
        if not shown:
            raise BadVideo(f"{self.name}: no frame could be decoded; is the file complete?")

    def _frames(self) -> Iterator[Frame]:
        import av

        skipper = Skipper(self._options.rate_fps)
        skips = self._options.rate_fps is not None
        index = 0
        mark = time.perf_counter()
        for packet in self._packets():
            if self._stopped.is_set():
                return
            level = "DEFAULT"
            if skips:
                level = skipper.level(seconds(packet.pts, packet), seconds(packet.dts, packet))
            try:
                for image, arrived_s, since_s in self._decoder.take(
                    packet, level, needed=level == "DEFAULT"
                ):
                    number = index + self.arrivals.skipped
                    pts_s = seconds(image.pts, image)
                    if pts_s is None:
                        pts_s = number / (self.rate_fps or FALLBACK_FPS)
                    else:
                        skipper.shown(pts_s)
                    decode_s = time.perf_counter() - mark
                    yield Frame(
                        image=image,
                        width=int(image.width),
                        height=int(image.height),
                        source=self.name,
                        index=number,
                        pts_s=pts_s,
                        captured_s=arrived_s,
                        decode_s=decode_s,
                        since_s=since_s,
                    )
                    index += 1
                    mark = time.perf_counter()
            except av.FFmpegError:
                self.truncated = True

    def _packets(self) -> Iterator[Any]:
        """Demultiplex; a file that breaks off ends here and counts as truncated."""
        import av

        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError:
            self.truncated = True
            flush = av.Packet()
            flush.stream = self._stream
            yield flush

    def stop(self) -> None:
        """End the iteration at the next frame, from any thread."""
        self._stopped.set()

    def status(self) -> dict[str, Any]:
        """The state as plain data; see `edgevid.media.sources.Source.status`."""
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
        """Close the file."""
        self._container.close()

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plain(file: Path) -> str:
    """The path such that FFmpeg takes no part of it for a protocol, as in ``12:30:05.mp4``."""
    return str(file) if file.is_absolute() else f"./{file}"


def open_file(name: str | Path, options: SourceOptions = DEFAULTS) -> FileSource:
    """Open a video file.

    Args:
        name: Its path.
        options: How to read it.

    Returns:
        The source.

    Raises:
        BadInput: There is no such file.
        BadVideo: The file is not a readable video.
    """
    path = Path(name)
    if not path.exists():
        raise BadInput(f"{name}: no such file; give a video file")
    if path.is_dir():
        raise BadInput(f"{name}: is a folder; give a video file")
    return FileSource(path, options=options)


def _open(address: SourceAddress, options: SourceOptions, report: Report) -> FileSource:
    return open_file(address.target, options)


FILE = SourcePlugin(_open, "clip.mp4", finite=True, local="file")


def read_clip(file: Path | IO[bytes], frame: FrameInput, rate_fps: float) -> NDArray[np.uint8]:
    """Decode, sample and scale a whole file.

    Args:
        file: A path, or an open binary file.
        frame: The size and fit that the model expects.
        rate_fps: Frames to keep per second.

    Returns:
        RGB images, uint8 (frames, height, width, 3).

    Raises:
        BadVideo: The file is unreadable, has no frames, or is truncated.
    """
    import numpy as np

    from edgevid.media.preprocessing import Preprocessor

    preprocessor, sampler = Preprocessor(frame), Sampler(rate_fps)
    with FileSource(file) as source:
        kept = [
            preprocessor.apply(one.image)[0].copy()
            for one in source
            if sampler.take(one.pts_s, one.since_s)
        ]
        if source.truncated:
            raise BadVideo(f"{source.name}: truncated after {len(kept)} frames; copy it again")
    return np.stack(kept)


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error)
