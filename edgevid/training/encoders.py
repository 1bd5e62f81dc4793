"""Encoders: from one image, uint8 (N, H, W, 3), to one embedding, float32 (N, D).

Scaling to 0..1 is part of the graph. All layers convert to integer arithmetic without extra error:
ReLU, and batch normalisation that folds into the product before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from edgevid.training import Tensor

Sizes = tuple[int, int]
MOMENTUM = 0.9
"""Momentum of batch normalisation's running statistics.

With Keras' 0.99 they lag by hundreds of steps: on val a trained model looks untrained for epochs,
or forever on a few hundred clips.
"""


def article(size: Sizes, embedding: int) -> keras.Model:
    """A small convolutional network as in textbooks.

    Two 3x3 convolutions (32 and 64 filters) with ReLU and 2x2 max pooling, and one dense layer.

    Args:
        size: Height and width of the images in pixels.
        embedding: Width of the embedding.

    Returns:
        The encoder, from uint8 (N, H, W, 3) to float32 (N, embedding).
    """
    return keras.Sequential(
        [
            *_image(size),
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
    """A strided convolution and two depthwise-separable ones down to 1/8 size, then two branches.

    ``where``, five eighths of the embedding, comes from the flattened grid: motion consists of
    positions over time. ``what``, the rest, comes from another separable layer averaged over the
    image: shape, tilt and size, independent of position. Separable layers: Howard et al.,
    "MobileNets", 2017.

    Args:
        size: Height and width of the images in pixels.
        embedding: Width of the embedding.

    Returns:
        The encoder, from uint8 (N, H, W, 3) to float32 (N, embedding).
    """
    what = embedding * 3 // 8
    image, *scale = _image(size)
    start = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv")
    grid = _chain(image, [*scale, *_normalised(start, "conv")])
    grid = _chain(grid, [*_separable(32, "separable1"), *_separable(32, "separable2")])
    flat = layers.Flatten(name="flatten")(grid)
    deep = _chain(grid, _separable(96, "separable3", strides=1))
    mean = layers.GlobalAveragePooling2D(name="mean")(deep)
    both = [
        _chain(flat, _bounded(embedding - what, "where")),
        _chain(mean, _bounded(what, "what")),
    ]
    return keras.Model(image, layers.Concatenate(name="embedding")(both), name="encoder")


Encoder = Callable[[Sizes, int], keras.Model]
ENCODERS: dict[str, Encoder] = {"article": article, "compact": compact}
"""Size of a model -> its encoder. To add one, write one function and one row."""


def _image(size: Sizes) -> list[Any]:
    return [
        layers.Input((*size, 3), dtype="uint8", name="picture"),
        layers.Rescaling(1 / 255, name="scale"),
    ]


def _normalised(product: keras.Layer, name: str) -> list[keras.Layer]:
    return [product, _norm(f"{name}_norm"), layers.ReLU(name=f"{name}_relu")]


def _bounded(width: int, name: str) -> list[keras.Layer]:
    """A dense layer with outputs within -1..1.

    A recurrent head relies on small differences between embeddings, and the smallest difference in
    int8 is 1/127 of the largest value. In our trials an unbounded embedding cost 4 percentage
    points of accuracy, this one none. Normalisation starts with a gain of 0.5, so that little is
    clipped at first.
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
