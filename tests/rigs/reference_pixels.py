"""What pixels should be, computed by other code than edgevid's: numpy in floating point.

YUV becomes RGB by the standards' equations, and RGB is scaled by sums over what each pixel covers.
Images are float arrays (height, width, 3), RGB from 0 to 255, not rounded. Colours outside of RGB's
range are clipped at the end.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

# Weights of red and blue in luma: H.273, table 4.
WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
}
SUBSAMPLING = {
    "yuv420p": (2, 2),
    "yuv422p": (1, 2),
    "yuv444p": (1, 1),
    "yuv440p": (2, 1),
    "yuv411p": (1, 4),
}
GREY = 114


def planes_of(image: Any) -> list[np.ndarray]:
    """Give Y, U and V of an `av.VideoFrame` as float arrays of the image's size, from 0 to 255.

    Colour is repeated over the pixels that share it. Formats: those of `SUBSAMPLING`, their
    ``yuvj`` twins and ten-bit forms.
    """
    name = image.format.name.replace("yuvj", "yuv").removesuffix("10le")
    deep = image.format.name.endswith("10le")
    planes = []
    for index, plane in enumerate(image.planes):
        kind, size = (np.uint16, 2) if deep else (np.uint8, 1)
        rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // size)
        values = rows[: plane.height, : plane.width].astype(float) / (4 if deep else 1)
        if index:
            down, along = SUBSAMPLING[name]
            values = values.repeat(down, 0).repeat(along, 1)
        planes.append(values[: image.height, : image.width])
    return planes


def to_rgb(
    planes: list[np.ndarray], matrix: str = "smpte170m", full_range: bool = False
) -> np.ndarray:
    """Convert Y, U and V to RGB, not clipped."""
    red, blue = WEIGHTS[matrix]
    y, u, v = planes
    if full_range:
        y, u, v = y / 255, (u - 128) / 255, (v - 128) / 255
    else:
        y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    r = y + 2 * (1 - red) * v
    b = y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], -1) * 255


def to_yuv(rgb: np.ndarray, matrix: str, full_range: bool) -> list[np.ndarray]:
    """Convert RGB to Y, U and V from 0 to 255, not rounded."""
    red, blue = WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    if full_range:
        return [y * 255, u * 255 + 128, v * 255 + 128]
    return [y * 219 + 16, u * 224 + 128, v * 224 + 128]


def weights_of(name: str, old: int, new: int) -> np.ndarray:
    """Give the weights, (new, old), of a filter along one axis."""
    ratio = old / new
    pixels = np.arange(old)
    starts = np.arange(new)[:, None] * ratio
    centres = starts + ratio / 2
    if name == "nearest":
        picked = cv2.resize(pixels[None].astype(float), (new, 1), interpolation=cv2.INTER_NEAREST)
        return (pixels == picked[0, :, None]).astype(float)
    if name == "area" and ratio > 1:
        weights = np.minimum(pixels + 1, starts + ratio) - np.maximum(pixels, starts)
        weights = weights.clip(0)
    else:
        reach = max(ratio, 1.0) if name == "bilinear-antialias" else 1.0
        inside = centres if name == "bilinear-antialias" else centres.clip(0.5, old - 0.5)
        weights = (1 - np.abs(pixels + 0.5 - inside) / reach).clip(0)
    return weights / weights.sum(1, keepdims=True)


def resized(rgb: np.ndarray, size: tuple[int, int], name: str = "area") -> np.ndarray:
    """Scale an image with one of the contract's filters."""
    rows, columns = (weights_of(name, o, n) for o, n in zip(rgb.shape[:2], size, strict=True))
    return np.einsum("ij,jlc->ilc", rows, np.einsum("kl,jlc->jkc", columns, rgb))


def fitted(rgb: np.ndarray, size: tuple[int, int], fit: str, name: str = "area") -> np.ndarray:
    """Scale and fit an image as Ultralytics' ``LetterBox`` and centre crops do, and clip it."""
    (tall, wide), (height, width) = rgb.shape[:2], size
    if fit == "stretch":
        return resized(rgb, size, name).clip(0, 255)
    gains = height / tall, width / wide
    gain = min(gains) if fit == "letterbox" else max(gains)
    new_width, new_height = max(1, round(wide * gain)), max(1, round(tall * gain))
    inner = resized(rgb, (new_height, new_width), name).clip(0, 255)
    if fit == "letterbox":
        left, top = (width - new_width) / 2, (height - new_height) / 2
        left, top = round(left - 0.1), round(top - 0.1)
        out = np.full((height, width, 3), float(GREY))
        out[top : top + new_height, left : left + new_width] = inner
        return out
    top, left = (inner.shape[0] - height) // 2, (inner.shape[1] - width) // 2
    return inner[top : top + height, left : left + width]
