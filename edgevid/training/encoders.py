"""Networks from one picture to one embedding: uint8 ``(N, H, W, 3)`` -> float32 ``(N, D)``.

Scaling to 0..1 is arithmetic and so lives inside the graph. Every layer here is exact in integer
arithmetic after conversion: ReLU, and batch normalisation that folds into the product before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from edgevid.training import Tensor

Sizes = tuple[int, int]
MOMENTUM = 0.9
"""Of batch normalisation's running statistics: with keras' 0.99 they lag by hundreds of steps, and
a model that has learned looks as if it had not, for epochs, or for good on a few hundred clips."""


def article(size: Sizes, embedding: int) -> keras.Model:
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


def compact(size: Sizes, embedding: int) -> keras.Model:
    """A strided convolution and two depthwise-separable ones, down to a grid of 1/8; then two ways.

    ``where``, five eighths of the embedding, comes from the flattened grid: where a thing is in
    one frame is what motion is made of. ``what``, the rest, comes from one more separable layer
    averaged over the picture: shape, tilt and size, wherever the thing is.
    """
    what = embedding * 3 // 8
    picture, *scale = _picture(size)
    start = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv")
    grid = _chain(picture, [*scale, *_normalised(start, "conv")])
    grid = _chain(grid, [*_separable(32, "separable1"), *_separable(32, "separable2")])
    flat = layers.Flatten(name="flatten")(grid)
    deep = _chain(grid, _separable(96, "separable3", strides=1))
    mean = layers.GlobalAveragePooling2D(name="mean")(deep)
    both = [
        _chain(flat, _bounded(embedding - what, "where")),
        _chain(mean, _bounded(what, "what")),
    ]
    return keras.Model(picture, layers.Concatenate(name="embedding")(both), name="encoder")


Encoder = Callable[[Sizes, int], keras.Model]
ENCODERS: dict[str, Encoder] = {"article": article, "compact": compact}
"""Size of model -> its encoder. A new one is one function and one row."""


def _picture(size: Sizes) -> list[Any]:
    return [
        layers.Input((*size, 3), dtype="uint8", name="picture"),
        layers.Rescaling(1 / 255, name="scale"),
    ]


def _normalised(product: keras.Layer, name: str) -> list[keras.Layer]:
    return [product, _norm(f"{name}_norm"), layers.ReLU(name=f"{name}_relu")]


def _bounded(width: int, name: str) -> list[keras.Layer]:
    """A dense layer whose output keeps to -1..1.

    A memory lives on small differences between embeddings, and in int8 the smallest difference is a
    127th of the largest value: an unbounded embedding cost 4 points of accuracy in our trials, this
    one none. Normalisation starts at half width, so that little is cut off at first.
    """
    return [
        layers.Dense(width, use_bias=False, name=name),
        _norm(f"{name}_norm", gamma=0.5),
        layers.Activation("hard_tanh", name=f"{name}_bounded"),
    ]


def _norm(name: str, gamma: float = 1.0) -> keras.Layer:
    start = keras.initializers.Constant(gamma)
    return layers.BatchNormalization(momentum=MOMENTUM, gamma_initializer=start, name=name)


def _chain(tensor: Tensor, several: Sequence[keras.Layer]) -> Tensor:
    for layer in several:
        tensor = layer(tensor)
    return tensor


def _separable(filters: int, name: str, strides: int = 2) -> list[keras.Layer]:
    depth = layers.DepthwiseConv2D(
        3, strides=strides, padding="same", use_bias=False, name=f"{name}_depth"
    )
    point = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_point")
    return [*_normalised(depth, f"{name}_depth"), *_normalised(point, f"{name}_point")]
