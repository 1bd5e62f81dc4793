"""Video files: decoding with PyAV in presentation order, with what is missing or damaged counted.

Nothing here depends on a model.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from edgevid.errors import READABLE, BadInput, BadVideo, EnvironmentFailed
from edgevid.files import is_special
from edgevid.media import ffmpeg
from edgevid.media.decode import Arrivals, Decoder, hardware, is_incomplete, video_stream
from edgevid.media.sampling import Sampler, Skipper
from edgevid.media.sources import Report, SourceAddress, SourceOptions, SourcePlugin
from edgevid.media.timeline import GUESSED, StreamTiming, Timeline, declared_fps, timing_of
from edgevid.registry import need
from edgevid.results import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import FrameInput

DEFAULTS = SourceOptions()


class FileSource:
    """Frames of one file, in order, none dropped.

    Attributes:
        name: What people see.
        arrivals: Counts of the packets so far.
        expected: The number of frames that the file declares; 0 if it declares none.
        truncated: Whether frames that the file promises cannot be had.
        pixel_aspect: Width of a pixel by its height as the file declares it. Images keep their
            pixels.
    """

    live = False
    due_s = math.inf
    """A file waits for its reader, so it cannot promise a frame at any time."""

    def __init__(
        self,
        file: Path | IO[bytes],
        name: str | None = None,
        options: SourceOptions = DEFAULTS,
        report: Report | None = None,
    ) -> None:
        """Open the file.

        Args:
            file: A path, or an open binary file.
            name: What people see; by default the path.
            options: How to read it.
            report: Gets a line if the rate of the file is a guess.

        Raises:
            BadVideo: The file is not a readable video.
            MissingExtra: PyAV is not installed.
        """
        av = need("av", "runner")
        self.name = name or (str(file) if isinstance(file, Path) else "video in memory")
        self._is_pipe = isinstance(file, Path) and is_special(file)
        accelerated, self._decoder_name = hardware(options.decoder)
        try:
            if isinstance(file, Path):
                container = ffmpeg.open_input(_plain(file), ffmpeg.FILE, **accelerated)
            else:
                container = ffmpeg.open_input(file, ffmpeg.MEMORY, **accelerated)
        except BadVideo as error:
            raise BadVideo(f"{self.name}: {error}") from None
        except av.FFmpegError as error:
            _check_memory(self.name, error)
            if isinstance(error, PermissionError):
                raise BadVideo(f"{self.name}: {error.strerror}; {READABLE}") from error
            raise BadVideo(
                f"{self.name}: not a readable video ({ffmpeg.why_not_opened(error)}); "
                "use a complete file that ffmpeg can read"
            ) from error
        self._begin(container, options, report)

    def _begin(self, container: Any, options: SourceOptions, report: Report | None) -> None:
        """Prepare to decode an open container."""
        self._container, self._options, self._report = container, options, report
        self._stream: Any = video_stream(container)
        if self._stream is None:
            container.close()
            raise BadVideo(f"{self.name}: has no video track; use a file with video in it")
        if self._stream.codec_context is None:
            container.close()
            raise BadVideo(
                f"{self.name}: no decoder for its codec; use a complete file in a common format"
            )
        self._stream.thread_type = "AUTO" if options.frame_threads else "SLICE"
        self.arrivals = Arrivals()
        self.pixel_aspect = float(self._stream.sample_aspect_ratio or 1)
        self._declared_fps = declared_fps(self._stream)  # a closed stream cannot be asked
        self._codec = str(self._stream.codec_context.name)
        timeline = Timeline(live=False)
        timeline.begin(timing_of(container, self._stream, options.source_fps))
        self._decoder = Decoder(
            self._stream, self.arrivals, timeline, skip_loop_filter=options.skip_loop_filter
        )
        self._frames_read = self._read()
        self._first: Frame | None = None
        self._size: tuple[int, int] | None = None
        self._stopped = threading.Event()
        self._ended = False
        self.expected = int(self._stream.frames or 0)
        self.truncated = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its upright images in pixels; decodes the first one to know them.

        Raises:
            BadVideo: No frame can be decoded.
        """
        if self._size is None:
            self._first = next(self._frames_read, None)
        if self._size is None:
            raise self._no_frame()
        return self._size

    @property
    def timing(self) -> StreamTiming:
        """What times its frames."""
        return self._decoder.timeline.timing

    @property
    def rate_fps(self) -> float:
        """Frames per second, declared by the file or timing its frames; 0 if that is unknown."""
        by_stamps = self.timing.origin == "stamps"
        return self._declared_fps if by_stamps else self.timing.rate_fps

    @property
    def turned(self) -> bool:
        """Whether images were turned upright by the file's orientation, once one was decoded."""
        return self._decoder.is_turned

    def __iter__(self) -> Iterator[Frame]:
        first, self._first = self._first, None
        shown = 0
        for frame in self._frames_read if first is None else chain([first], self._frames_read):
            shown += 1
            if shown == 2 and self.timing.origin == "guess" and self._report:
                self._report(f"{self.name}: {GUESSED}")
            yield frame
            if self._stopped.is_set():
                break
        self._decoder.end()
        self._ended = True
        if self._stopped.is_set():
            return
        self.truncated = self.truncated or is_incomplete(self._stream, self._decoder.packets)
        if not shown:
            raise self._no_frame()

    def _no_frame(self) -> BadVideo:
        if self._is_pipe:
            return BadVideo(
                f"{self.name}: no frame could be decoded from this pipe; give the file, since "
                "an MP4 whose index is at its end cannot be read from a pipe"
            )
        if not self._stream.codec_context.width:
            return BadVideo(
                f"{self.name}: no frame could be decoded; use a complete file with images of at "
                f"most {ffmpeg.MAX_SIDE}x{ffmpeg.MAX_SIDE} pixels"
            )
        return BadVideo(f"{self.name}: no frame could be decoded; is the file complete?")

    def _read(self) -> Iterator[Frame]:
        import av

        decoder, skipper = self._decoder, Skipper(self._options.rate_fps)
        skips = self._options.rate_fps is not None
        index = 0
        mark = time.perf_counter()
        for packet in self._packets():
            if self._stopped.is_set():
                return
            stamp = decoder.admit(packet, time.perf_counter())
            level = "DEFAULT"
            if skips:
                predict = decoder.timeline.predict
                level = skipper.level(predict(stamp), predict(stamp, dts=True))
            try:
                for image, arrived_s, pts_s, since_s, cut in decoder.take(
                    packet, stamp, level, needed=level == "DEFAULT"
                ):
                    if cut:
                        skipper.forget()
                    skipper.shown(pts_s)
                    decode_s = time.perf_counter() - mark
                    width, height = int(image.width), int(image.height)
                    self._size = height, width
                    yield Frame(
                        image=image,
                        width=width,
                        height=height,
                        source=self.name,
                        index=index + self.arrivals.skipped,
                        pts_s=pts_s,
                        captured_s=arrived_s,
                        decode_s=decode_s,
                        since_s=since_s,
                        cut="time" if cut else None,
                    )
                    index += 1
                    mark = time.perf_counter()
            except av.FFmpegError as error:
                coded = self._stream.codec_context
                _check_memory(self.name, error, coded.height * coded.width)
                self.truncated = True

    def _packets(self) -> Iterator[Any]:
        """Demultiplex; a file that breaks off ends here and counts as truncated."""
        import av

        try:
            yield from self._container.demux(self._stream)
        except av.FFmpegError as error:
            _check_memory(self.name, error)
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
            "size": list(self._size) if self._size else None,
            "rate_fps": self.rate_fps,
            "timed_by": self.timing.origin,
            "codec": self._codec,
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


def open_file(
    name: str | Path, options: SourceOptions = DEFAULTS, report: Report | None = None
) -> FileSource:
    """Open a video file.

    Args:
        name: Its path.
        options: How to read it.
        report: Gets a line if the rate of the file is a guess.

    Returns:
        The source.

    Raises:
        BadInput: There is no such file.
        BadVideo: The file is not a readable video.
    """
    path = Path(name)
    if not name:
        raise BadInput("the source is empty; give a video file, a URL or a device")
    try:
        path.stat()
    except FileNotFoundError:
        fix = "give /dev/stdin to read from a pipe" if str(name) == "-" else "give a video file"
        raise BadInput(f"{name}: no such file; {fix}") from None
    except OSError as error:  # exists() raises some of these: no permission, a name too long
        raise BadInput(f"{name}: {error.strerror}; give a video file that can be read") from None
    if path.is_dir():
        raise BadInput(f"{name}: is a folder; give a video file")
    return FileSource(path, options=options, report=report)


def _open(address: SourceAddress, options: SourceOptions, report: Report) -> FileSource:
    return open_file(address.target, options, report)


FILE = SourcePlugin(_open, "clip.mp4", finite=True, local="file")


def read_clip(
    file: Path | IO[bytes], frame: FrameInput, rate_fps: float, *, most_frames: int | None = None
) -> NDArray[np.uint8]:
    """Decode, sample and scale a whole file.

    Args:
        file: A path, or an open binary file.
        frame: The size and fit that the model expects.
        rate_fps: Frames to keep per second.
        most_frames: The most frames that an untrusted clip may have; None: no limit.

    Returns:
        RGB images, uint8 (frames, height, width, 3).

    Raises:
        BadVideo: The file is unreadable, has no frames, is truncated, or has more than
            ``most_frames`` frames or, with that limit, `MAX_CLIP_PIXELS` pixels.
    """
    import numpy as np

    from edgevid.media.preprocessing import Preprocessor

    preprocessor, sampler = Preprocessor(frame), Sampler(rate_fps)
    with FileSource(file) as source:
        kept = [
            preprocessor.apply(one.image)[0].copy()
            for one in (source if most_frames is None else _limited(source, most_frames))
            if sampler.take(one.pts_s, one.since_s)
        ]
        if source.truncated:
            raise BadVideo(f"{source.name}: truncated after {len(kept)} frames; copy it again")
    return np.stack(kept)


def _limited(source: FileSource, most_frames: int) -> Iterator[Frame]:
    """Pass frames on until there are more than a clip may have.

    Raises:
        BadVideo: There are more.
    """
    pixels = 0
    for count, one in enumerate(source, 1):
        pixels += one.width * one.height
        if count > most_frames or pixels > MAX_CLIP_PIXELS:
            raise BadVideo(
                f"{source.name}: has more than {most_frames} frames or {MAX_CLIP_PIXELS >> 20} "
                "million pixels; use a shorter or smaller clip"
            )
        yield one


MAX_CLIP_PIXELS = 1 << 30
"""The most pixels of all frames of a clip in a bundle."""
_PROBE_BYTES = 16 << 20


def _check_memory(name: str, error: Any, pixels: int = 0) -> None:
    """Raise what is no fault of the file: there is too little memory.

    An image that finds no memory is invalid data to a decoder, and a damaged file may ask for any
    amount of memory, so what an image needs is tried.

    Args:
        name: The video.
        error: An `av.FFmpegError`.
        pixels: Pixels of an image; 0 if that is not known.

    Raises:
        EnvironmentFailed: There is too little memory.
    """
    try:
        bytearray(2 * pixels or _PROBE_BYTES)
    except MemoryError:
        raise EnvironmentFailed(
            f"{name}: too little memory to decode it; close other programs, raise the limit "
            "(ulimit -v), or scale the video down"
        ) from error
