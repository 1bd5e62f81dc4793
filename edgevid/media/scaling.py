"""Scaling of decoded images to RGB with the filter that a model's contract names.

libswscale does it through FFmpeg's own filter graph, which works alike in every version of PyAV
that devices have, and takes colour matrix and range from each image's tags; without tags it assumes
BT.601 and limited range, as FFmpeg does. RGB comes as three planes: packed RGB would have only half
the columns of colour. Accurate rounding gives the same pixels with and without SIMD.

Filters:
    area: The mean of what each pixel covers; larger sizes are interpolated linearly.
    bilinear-antialias: A triangle of twice that width, as Pillow's BILINEAR.
    bilinear: The four nearest pixels, as OpenCV's INTER_LINEAR; libswscale has no such filter.
    nearest: One pixel, as OpenCV's INTER_NEAREST.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.contract import Resize

    Planes: TypeAlias = tuple[NDArray[np.uint8], ...]

CHANNELS = 1, 2, 0
"""The channel of RGB of each plane: FFmpeg's order is green, blue, red."""
PLANAR = {
    **{f"{kind}420p{deep}": (2, 2) for kind, deep in (("yuv", ""), ("yuvj", ""), ("yuv", "10le"))},
    **{f"{kind}422p{deep}": (1, 2) for kind, deep in (("yuv", ""), ("yuvj", ""), ("yuv", "10le"))},
    **{f"{kind}440p{deep}": (2, 1) for kind, deep in (("yuv", ""), ("yuvj", ""), ("yuv", "10le"))},
    "yuv411p": (1, 4),
    "yuvj411p": (1, 4),
}
"""Formats with a plane for each colour -> how many rows and how many columns share one."""
UNPACKED = {
    "yuva420p": "yuv420p",
    "nv12": "yuv420p",
    "p010le": "yuv420p10le",
    **dict.fromkeys(("yuyv422", "uyvy422"), "yuv422p"),
}
"""Formats that share planes, and one in `PLANAR` with the same values."""
SHARED = {**PLANAR, **{packed: PLANAR[kind] for packed, kind in UNPACKED.items()}}
"""Rows and columns that share a colour in all of them."""
SHARING = {
    (2, 2): "420",
    (1, 2): "422",
    (2, 1): "440",
    (1, 4): "411",
    (1, 1): "444",
}
"""Rows and columns that share a colour -> how planar formats are called."""
TAGS = "colorspace", "color_range", "color_primaries", "color_trc"
FULL_RANGE, BT601 = 2, (2, 5, 6)
"""FFmpeg's numbers of tags; 2 is a matrix that is not stated."""
EXACT = "accurate_rnd+bitexact+full_chroma_int+full_chroma_inp"


class Scaler(Protocol):
    """Scales images of one stream."""

    def scale(self, image: Any, size: tuple[int, int]) -> Planes:
        """Scale an image and convert it to RGB.

        Args:
            image: An `av.VideoFrame` of any size and pixel format.
            size: Height and width to scale to, in pixels.

        Returns:
            Green, blue and red, each uint8 (height, width), valid until the next call.
        """


class SwscaleGraph:
    """A filter of libswscale; keeps its tables while the images' size and format stay.

    Args:
        filter_name: libswscale's name of the filter, such as ``area``.
    """

    def __init__(self, filter_name: str) -> None:
        self._filter = filter_name
        self._key: tuple[Any, ...] | None = None
        self._graph: Any = None
        self._repeater = ColourRepeater()

    def scale(self, image: Any, size: tuple[int, int]) -> Planes:
        """See `Scaler.scale`."""
        height, width = size
        image = self._repeater.repeat(image, size)
        key = (image.width, image.height, image.format.name, _loses_range(image), size)
        if key != self._key:
            self._graph, self._key = self._build(image, size), key
        self._graph.push(image)
        scaled = self._graph.pull()
        return tuple(_pixels(plane)[:height, :width] for plane in scaled.planes)

    def _build(self, image: Any, size: tuple[int, int]) -> Any:
        kind, source = image.format.name, (image.height, image.width)
        steps = []
        if max(_repeats(kind, source, size)) > 1:  # PyAV 10, ten times as slowly
            steps.append((source, _range_kept(image, "neighbor"), _unshared(kind)))
        return _graph(
            image, [*steps, (size, "neighbor" if size == source else self._filter, "gbrp")]
        )


def _graph(image: Any, steps: Sequence[tuple[tuple[int, int], str, str]]) -> Any:
    """FFmpeg's filter graph that scales images like one.

    Args:
        image: An `av.VideoFrame`.
        steps: For each, height and width in pixels, libswscale's filter, and the pixel format.
    """
    from av.filter import Graph

    graph = Graph()
    nodes = [
        graph.add(
            "buffer",
            f"video_size={image.width}x{image.height}:pix_fmt={image.format.name}"
            ":time_base=1/1000:pixel_aspect=1/1",
        ),
    ]
    for (height, width), name, kind in steps:
        scale = graph.add("scale", f"{width}:{height}:flags={EXACT}+{name}")
        nodes += [scale, graph.add("format", kind)]
    nodes.append(graph.add("buffersink"))
    for first, second in pairwise(nodes):
        first.link_to(second)
    graph.configure()
    return graph


def _range_kept(image: Any, name: str) -> str:
    """A filter from one YUV format to another that leaves the range as it is."""
    return f"{name}:out_range=full" if _loses_range(image) else name


class ColourRepeater:
    """Repeats colours over the rows and columns that share them, as OpenCV does: not smoothed.

    libswscale interpolates between colours where they are enlarged.
    """

    def __init__(self) -> None:
        self._unpacker: Any = None
        self._unpacks: tuple[Any, ...] = ()
        self._image: Any = None
        self._made: tuple[int, int, str] | None = None

    def repeat(self, image: Any, size: tuple[int, int]) -> Any:
        """Repeat the colours of an image before it is scaled.

        Args:
            image: An `av.VideoFrame`.
            size: Height and width that it will be scaled to.

        Returns:
            An `av.VideoFrame`, valid until the next call; ``image`` if nothing is to be repeated.
        """
        source = (image.height, image.width)
        down, along = _repeats(image.format.name, source, size)
        if (down, along) == (1, 1) or not hasattr(image, "color_range"):  # PyAV 10 has no tags
            return image
        image = self._unpacked(image)
        target = self._target(image, down, along)
        dtype = np.uint16 if image.format.name.endswith("10le") else np.uint8
        for index, (old, new) in enumerate(zip(image.planes, target.planes, strict=True)):
            values, onto = _values(old, dtype), _values(new, dtype)
            if index:
                _repeat(values, onto, down, along)
            else:
                onto[:] = values
        return target

    def _unpacked(self, image: Any) -> Any:
        """The image with a plane for each colour."""
        kind, source = UNPACKED.get(image.format.name), (image.height, image.width)
        if kind is None:
            return image
        name = _range_kept(image, "neighbor")
        if self._unpacks != (source, image.format.name, name):
            self._unpacker = _graph(image, [(source, name, kind)])
            self._unpacks = source, image.format.name, name
        self._unpacker.push(image)
        return self._unpacker.pull()

    def _target(self, image: Any, down: int, along: int) -> Any:
        """An image of the same size and tags that shares less colour."""
        from av import VideoFrame

        name, (rows, columns) = image.format.name, PLANAR[image.format.name]
        kind = name.replace(SHARING[rows, columns], SHARING[rows // down, columns // along])
        wanted = (image.width, image.height, kind)
        if self._made != wanted:
            self._image, self._made = VideoFrame(*wanted), wanted
        for tag in TAGS:
            if hasattr(image, tag):
                setattr(self._image, tag, getattr(image, tag))
        return self._image


class PixelSampler:
    """Picks or mixes pixels of the whole image without an average: ``nearest`` and ``bilinear``.

    Args:
        sample: `nearest` or `bilinear`, applied to each plane in turn.
    """

    def __init__(
        self, sample: Callable[[NDArray[np.uint8], tuple[int, int]], NDArray[np.uint8]]
    ) -> None:
        self._whole = SwscaleGraph("neighbor")
        self._sample = sample

    def scale(self, image: Any, size: tuple[int, int]) -> Planes:
        """See `Scaler.scale`."""
        planes = self._whole.scale(image, (image.height, image.width))
        return tuple(self._sample(plane, size) for plane in planes)


def nearest(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale as OpenCV's INTER_NEAREST: the pixel at ``floor(i * source / size)``.

    Args:
        plane: uint8 (H, W).
        size: Height and width of the result in pixels.

    Returns:
        uint8 of that size.
    """
    (height, width), (new_height, new_width) = plane.shape, size
    return plane[_picked(height, new_height)][:, _picked(width, new_width)]


def bilinear(plane: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale as OpenCV's INTER_LINEAR: mix the four pixels around ``(i + 0.5) * source / size``.

    Args:
        plane: uint8 (H, W).
        size: Height and width of the result in pixels.

    Returns:
        uint8 of that size.
    """
    (top, bottom, down), (left, right, along) = (
        _neighbours(old, new) for old, new in zip(plane.shape, size, strict=True)
    )
    upper, lower = plane[top], plane[bottom]
    above = _mix(np.take(upper, left, axis=1), np.take(upper, right, axis=1), along)
    below = _mix(np.take(lower, left, axis=1), np.take(lower, right, axis=1), along)
    mixed = _mix(above, below, down[:, None]) + np.float32(0.5)
    return mixed.astype(np.uint8)


def _picked(old: int, new: int) -> NDArray[np.intp]:
    """The pixel that each new one copies; the reciprocal of a reciprocal, as OpenCV computes it."""
    return np.minimum((np.arange(new) * (1 / (new / old))).astype(np.intp), old - 1)


def _neighbours(
    old: int, new: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Both neighbours of each new pixel, and the weight of the second."""
    centres = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    first = centres.astype(np.intp)
    return first, np.minimum(first + 1, old - 1), (centres - first).astype(np.float32)


def _mix(
    first: NDArray[Any], second: NDArray[Any], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    left = first.astype(np.float32)
    return left + (second - left) * weight


def scaler(resize: Resize) -> Scaler:
    """Return a scaler for one stream.

    Args:
        resize: The filter's name in the contract.
    """
    if resize == "nearest":
        return PixelSampler(nearest)
    if resize == "bilinear":
        return PixelSampler(bilinear)
    return SwscaleGraph("area" if resize == "area" else "bilinear")


def _repeats(kind: str, old: tuple[int, int], new: tuple[int, int]) -> tuple[int, int]:
    """Over how many rows and columns to repeat a colour.

    Where scaling would enlarge it, and where the last ones are shared by fewer pixels, which
    libswscale does not know: it stretches colours by up to half a pixel. Elsewhere 1.
    """
    shared = SHARED.get(kind, (1, 1))
    down, along = (
        by if (old != new and by * b > a) or a % by else 1
        for by, a, b in zip(shared, old, new, strict=True)
    )
    return down, along


def _unshared(kind: str) -> str:
    """The planar format that has a colour for each pixel of a format in `SHARED`."""
    return f"yuv{'j' * ('j' in kind)}444p{'10le' * ('10' in kind)}"


def _repeat(source: NDArray[Any], target: NDArray[Any], down: int, along: int) -> None:
    """Fill ``target`` with the values of ``source``, each of them ``down`` x ``along`` times."""
    if along == 2:  # five times as fast as `numpy.repeat`
        pairs = {1: np.uint16, 2: np.uint32}[source.itemsize]
        doubled = np.multiply(source, (1 << 8 * source.itemsize) + 1, dtype=pairs)
        source = doubled.view(source.dtype)[:, : target.shape[1]]
    elif along > 1:
        source = source.repeat(along, axis=1)[:, : target.shape[1]]
    for row in range(down):
        rows = target[row::down]
        rows[:] = source[: len(rows)]


def _loses_range(image: Any) -> bool:
    """Whether FFmpeg limits the range on the way to another YUV format, which costs precision.

    It does for images tagged as full range and BT.601 (or no matrix). PyAV 10 does not show tags.
    """
    full = getattr(image, "color_range", 0) == FULL_RANGE
    return bool(full and getattr(image, "colorspace", 0) in BT601)


def _values(plane: Any, dtype: Any) -> NDArray[Any]:
    """The values of a plane without the padding of its rows, (height, width)."""
    rows = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)
    return rows[: plane.height, : plane.width]


def _pixels(plane: Any) -> NDArray[np.uint8]:
    """The rows of a plane with their padding, uint8 (rows, line size)."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
