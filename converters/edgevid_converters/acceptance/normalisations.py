"""Usual ways to normalise pixels, tried to name the one that an owner's outputs call for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgevid_converters.importers.preprocessing import ImageMapping, Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE = 123.68, 116.779, 103.939
USUAL: tuple[tuple[float, tuple[float, ...], tuple[float, ...]], ...] = (
    (1.0, (0.0,), (1.0,)),
    (255.0, (0.0,), (1.0,)),
    (127.5, (1.0,), (1.0,)),
    (255.0, *IMAGENET),
    (1.0, CAFFE, (1.0,)),
)
"""Scale, mean and std, for red, green and blue: 0 to 255, 0 to 1, -1 to 1, torchvision's, and
Caffe's."""


@dataclass(frozen=True)
class Rescaling:
    """Turns what a contract's normalisation makes into what another one would have made.

    Attributes:
        factors: One for all channels, or one for each in the model's order.
        offsets: As ``factors``; added to the products.
        axis: The axis of the channels.
    """

    factors: tuple[float, ...]
    offsets: tuple[float, ...]
    axis: int

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the model's input under the other normalisation.

        Args:
            values: The input under the contract's, float ``(1, H, W, C)`` or ``(1, C, H, W)``.

        Returns:
            An array of the same shape and dtype.
        """
        import numpy as np

        shape = [1] * values.ndim
        shape[self.axis] = -1
        first, second = (np.reshape(one, shape) for one in (self.factors, self.offsets))
        moved: NDArray[Any] = (values * first + second).astype(values.dtype)
        return moved


def movable_image(preprocessing: Preprocessing | None) -> ImageMapping | None:
    """Return the image of a model whose only input is one picture in colour and in floats."""
    if preprocessing is None or len(preprocessing.images) != 1 or preprocessing.tensor_inputs:
        return None
    (image,) = preprocessing.images
    if image.is_clip or image.colour == "grey" or not image.dtype.startswith("float"):
        return None
    return image


def others(image: ImageMapping) -> Iterator[tuple[Mapping[str, str], Rescaling]]:
    """Give the usual normalisations but the contract's own: settings, and how to get there.

    Args:
        image: The image as the contract has it.
    """
    axis = 1 if image.channels_first else 3
    for scale, mean, std in USUAL:
        if image.colour == "bgr":
            mean, std = mean[::-1], std[::-1]
        wanted = _factors(replace(image, scale=scale, mean=mean, std=std))
        own = _factors(image)
        factors = tuple(b / a for (a, _), (b, _) in zip(own, wanted, strict=True))
        pairs = zip(own, wanted, factors, strict=True)
        offsets = tuple(b - factor * a for (_, a), (_, b), factor in pairs)
        # Within 2 % of each other: (pixel - 127) / 128 and pixel / 127.5 - 1 are one way.
        reach = max(abs(255 * first) for first, _ in wanted)
        if all(abs(factor - 1) < 0.02 for factor in factors) and all(
            abs(offset) < 0.02 * reach for offset in offsets
        ):
            continue
        texts = {"scale": (scale,), "mean": mean, "std": std}
        yield (
            {name: _toml(values) for name, values in texts.items()},
            Rescaling(factors, offsets, axis),
        )


def _factors(image: ImageMapping) -> list[tuple[float, float]]:
    """Factor and offset of a pixel, for each of three channels."""
    first, second = (values * 3 if len(values) == 1 else values for values in image.factors)
    return list(zip(first, second, strict=True))


def _toml(values: tuple[float, ...]) -> str:
    return str(values[0]) if len(values) == 1 else f"[{', '.join(map(str, values))}]"
