"""Upright images: rotation and mirroring as FFmpeg's own tools apply them.

Phones record as the sensor lies and note in the file how to turn the image: a display matrix, or
an EXIF orientation in still images. libav's decoders leave that to their caller.
"""

from __future__ import annotations

import math
import struct
from typing import Any

Matrix = tuple[int, int, int, int]
"""The display matrix without translation and projection: ``a b`` and ``c d``, in units of 1/65536.
A pixel at ``(x, y)`` is shown at ``(a x + c y, b x + d y)``."""

ONE = 1 << 16
UPRIGHT: Matrix = (ONE, 0, 0, ONE)
EXIF: dict[int, Matrix] = {
    2: (-ONE, 0, 0, ONE),
    3: (-ONE, 0, 0, -ONE),
    4: (ONE, 0, 0, -ONE),
    5: (0, ONE, ONE, 0),
    6: (0, ONE, -ONE, 0),
    7: (0, -ONE, -ONE, 0),
    8: (0, -ONE, ONE, 0),
}
"""Orientation of EXIF -> display matrix; 1 is upright."""


def filters(matrix: Matrix) -> tuple[tuple[str, str], ...]:
    """The filters that turn an image upright, as in FFmpeg's ``-autorotate``.

    Args:
        matrix: The display matrix.

    Returns:
        Name and arguments of each of libavfilter's filters, in order; none if it is upright.
    """
    a, b, c, d = matrix
    if not (a or c) or not (b or d):
        return ()
    theta = round(math.degrees(math.atan2(b / math.hypot(b, d), a / math.hypot(a, c))), 3) % 360
    if abs(theta - 90) < 1:
        return (("transpose", "cclock_flip" if c > 0 else "clock"),)
    if abs(theta - 180) < 1:
        flips = (("hflip", ""),) if a < 0 else ()
        return (*flips, ("vflip", "")) if d < 0 else flips
    if abs(theta - 270) < 1:
        return (("transpose", "clock_flip" if c < 0 else "cclock"),)
    if 1 < theta < 359:
        return (("rotate", f"{theta}*PI/180"),)
    return (("vflip", ""),) if d < 0 else ()


def exif_matrix(data: bytes) -> Matrix:
    """The orientation of a JPEG, PNG or WebP.

    Args:
        data: The whole file.

    Returns:
        Its display matrix.
    """
    for mark, skip in ((b"Exif\0\0", 6), (b"eXIf", 4), (b"EXIF", 8)):
        if (at := data.find(mark)) >= 0:
            return EXIF.get(_orientation(data[at + skip : at + skip + (1 << 16)]), UPRIGHT)
    return UPRIGHT


def _orientation(tiff: bytes) -> int:
    """The tag ``Orientation`` in the first directory of a TIFF header; 1 if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}4xI", tiff)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(min(count, 512)):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, at + 2 + 12 * entry)
            if tag == 0x0112:
                return int(value)
    except struct.error:
        pass
    return 1


class Upright:
    """Turns the images of one stream upright.

    An image is turned by libavfilter in its own pixel format. Where nothing is to be turned, the
    cost is a comparison per frame.
    """

    def __init__(self, stream: Any) -> None:
        """Prepare for a stream; nothing is turned until its first image says so.

        Args:
            stream: The `av` video stream.
        """
        self._stream = stream
        self._rotation: int | None = None
        self._size: tuple[int, int, str] | None = None
        self._graph: Any = None
        self.filters: tuple[tuple[str, str], ...] = ()

    def turn(self, image: Any, still: Any = None) -> Any:
        """Turn an image if its stream, or its own tag, says so.

        Args:
            image: An `av.VideoFrame`.
            still: The packet of a still image, which may have an EXIF tag.

        Returns:
            The image, or a turned one with the same time stamps.
        """
        rotation = getattr(image, "rotation", 0)
        if rotation != self._rotation or still is not None:
            self._rotation = rotation
            matrix = self._matrix(image, still)
            # A note inside the stream comes with key frames and holds until the next one.
            holds = matrix is None and not image.key_frame
            if not holds and (now := filters(matrix or UPRIGHT)) != self.filters:
                self.filters, self._graph = now, None
        return self._turned(image) if self.filters else image

    def _matrix(self, image: Any, still: Any) -> Matrix | None:
        try:
            matrix = image.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV does not know the kind of EXIF's data
            return None if still is None else exif_matrix(bytes(still))
        if matrix is not None:
            a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
            return a, b, c, d
        # FFmpeg before 6.1 keeps the container's matrix to itself; PyAV gives its angle.
        sides = getattr(self._stream, "side_data", None) or {}
        if "DISPLAYMATRIX" not in sides:
            return None
        angle = math.radians(float(sides["DISPLAYMATRIX"]))
        across, down = round(ONE * math.cos(angle)), round(ONE * math.sin(angle))
        return across, -down, down, across

    def _turned(self, image: Any) -> Any:
        size = (image.width, image.height, image.format.name)
        if self._graph is None or size != self._size:
            self._graph, self._size = self._built(image), size
        source, sink = self._graph[1:]
        source.push(image)
        turned = sink.pull()
        turned.pts, turned.time_base = image.pts, image.time_base
        return turned

    def _built(self, image: Any) -> tuple[Any, Any, Any]:
        from av.filter import Graph

        graph = Graph()
        source = graph.add_buffer(
            width=image.width,
            height=image.height,
            format=image.format,
            time_base=self._stream.time_base,
        )
        last = source
        for name, arguments in self.filters:
            following = graph.add(name, arguments or None)
            last.link_to(following)
            last = following
        sink = graph.add("buffersink")
        last.link_to(sink)
        graph.configure()
        return graph, source, sink
