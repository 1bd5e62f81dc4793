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

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid.contract import Resize

    Planes: TypeAlias = tuple[NDArray[np.uint8], ...]

CHANNELS = 1, 2, 0
"""The channel of RGB of each plane: FFmpeg's order is green, blue, red."""
FULL_COLOUR = {
    **dict.fromkeys(("yuv420p", "yuv422p", "yuva420p", "nv12", "yuyv422", "uyvy422"), "yuv444p"),
    **dict.fromkeys(("yuvj420p", "yuvj422p"), "yuvj444p"),
    **dict.fromkeys(("yuv420p10le", "yuv422p10le", "p010le"), "yuv444p10le"),
}
"""Formats whose pixels share colours, and the same format with a colour for each pixel."""
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

    def scale(self, image: Any, size: tuple[int, int]) -> Planes:
        """See `Scaler.scale`."""
        height, width = size
        key = (image.width, image.height, image.format.name, _loses_range(image), size)
        if key != self._key:
            self._graph, self._key = self._build(image, size), key
        self._graph.push(image)
        scaled = self._graph.pull()
        return tuple(_pixels(plane)[:height, :width] for plane in scaled.planes)

    def _build(self, image: Any, size: tuple[int, int]) -> Any:
        from av.filter import Graph

        graph, kind, source = Graph(), image.format.name, (image.height, image.width)
        nodes = [
            graph.add(
                "buffer",
                f"video_size={image.width}x{image.height}:pix_fmt={kind}"
                ":time_base=1/1000:pixel_aspect=1/1",
            ),
        ]
        enlarged = any(2 * new > old for new, old in zip(size, source, strict=True))
        if size != source and enlarged and kind in FULL_COLOUR:
            # Colour is repeated over the pixels that share it, as in OpenCV: not smoothed.
            name = "neighbor:out_range=full" if _loses_range(image) else "neighbor"
            nodes += self._scale(graph, source, name, FULL_COLOUR[kind])
        name = "neighbor" if size == source else self._filter
        nodes += self._scale(graph, size, name, "gbrp")
        nodes.append(graph.add("buffersink"))
        for first, second in pairwise(nodes):
            first.link_to(second)
        graph.configure()
        return graph

    @staticmethod
    def _scale(graph: Any, size: tuple[int, int], name: str, kind: str) -> tuple[Any, Any]:
        """Scale with one of libswscale's filters and convert to a format."""
        scale = graph.add("scale", f"{size[1]}:{size[0]}:flags={EXACT}+{name}")
        return scale, graph.add("format", kind)


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


def _loses_range(image: Any) -> bool:
    """Whether FFmpeg limits the range on the way to another YUV format, which costs precision.

    It does for images tagged as full range and BT.601 (or no matrix). PyAV 10 does not show tags.
    """
    full = getattr(image, "color_range", 0) == FULL_RANGE
    return bool(full and getattr(image, "colorspace", 0) in BT601)


def _pixels(plane: Any) -> NDArray[np.uint8]:
    """The rows of a plane with their padding, uint8 (rows, line size)."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
