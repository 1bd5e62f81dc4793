"""Networks from one picture to one embedding: uint8 ``(N, H, W, 3)`` -> float32 ``(N, D)``.

Scaling to 0..1 is arithmetic and so lives inside the graph. Every layer here is exact in integer
arithmetic after conversion: ReLU, and batch normalisation that folds into the product before it.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

Sizes = tuple[int, int]
MOMENTUM = 0.9
"""Of batch normalisation's running statistics: with keras' 0.99 they lag by hundreds of steps, and
a model that has learned looks as if it had not, for epochs, or for good on a few hundred clips."""


def article(size: Sizes, embedding: int) -> keras.Sequential:
    """The reference network of the source article, up to its hidden layer.

    Two 3x3 convolutions (32 and 64) with ReLU, a 2x2 maximum after each, one dense layer.
    """
    return keras.Sequential(
        [
            *_picture(size),
            layers.Conv2D(32, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(64, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(embedding, activation="relu", name="embedding"),
        ],
        name="encoder",
    )


def compact(size: Sizes, embedding: int) -> keras.Sequential:
    """A strided convolution and two depthwise-separable ones, down to a grid of 1/8.

    The grid is flattened, not averaged: where a thing is in one frame is what motion is made of.
    """
    return keras.Sequential(
        [
            *_picture(size),
            *_normalised(
                layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv"), "conv"
            ),
            *_separable(32, "separable1"),
            *_separable(32, "separable2"),
            layers.Flatten(name="flatten"),
            layers.Dense(embedding, use_bias=False, name="dense"),
            layers.BatchNormalization(momentum=MOMENTUM, name="dense_norm"),
            layers.ReLU(name="embedding"),
        ],
        name="encoder",
    )


Encoder = Callable[[Sizes, int], keras.Sequential]
ENCODERS: dict[str, Encoder] = {"article": article, "compact": compact}
"""Size of model -> its encoder. A new one is one function and one row."""


def _picture(size: Sizes) -> list[keras.Layer]:
    return [
        layers.Input((*size, 3), dtype="uint8", name="picture"),
        layers.Rescaling(1 / 255, name="scale"),
    ]


def _normalised(product: keras.Layer, name: str) -> list[keras.Layer]:
    return [
        product,
        layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_norm"),
        layers.ReLU(name=f"{name}_relu"),
    ]


def _separable(filters: int, name: str) -> list[keras.Layer]:
    depth = layers.DepthwiseConv2D(
        3, strides=2, padding="same", use_bias=False, name=f"{name}_depth"
    )
    point = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_point")
    return [*_normalised(depth, f"{name}_depth"), *_normalised(point, f"{name}_point")]
