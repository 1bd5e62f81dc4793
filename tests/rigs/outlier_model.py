"""A classifier that is exact in float and that int8 ruins in one layer: its weights have outliers.

One input channel of that layer is always zero, so its weights have no effect; they are so large
that the scale they impose rounds the other weights to zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rigs.videos import write_video

SIZE = 16
LABELS = ("blue", "green", "red")
CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6")
OUTLIER_LAYERS = (*CONVOLUTIONS[1:], "scores")
CONTRACT = """task = "classification"
labels = ["blue", "green", "red"]
rate_fps = 15
[[input]]
kind = "frame"
scale = 255
[[output]]
name = "scores"
"""


def coloured_noise(rng: np.random.Generator, label: str, count: int) -> np.ndarray:
    """Noise with a cast of the colour that the label says, uint8 (count, SIZE, SIZE, 3)."""
    noisy = rng.integers(0, 120, (count, SIZE, SIZE, 3))
    noisy[..., ("red", "green", "blue").index(label)] += 120
    return noisy.astype(np.uint8)


def write_data(root: Path, train: int = 4, test: int = 12) -> Path:
    """Labelled clips of two frames, in the folders train and test."""
    rng = np.random.default_rng(1)
    for split, count in (("train", train), ("test", test)):
        for label in LABELS:
            for number in range(count):
                write_video(
                    root / split / label / f"{number:02}.mp4", coloured_noise(rng, label, 2)
                )
    return root


def write_outlier_model(path: Path, layer: str | None, seed: int = 0) -> Path:
    """Write the model and its contract; ``layer`` is the one to ruin, None for none.

    Weights are drawn again until the model is sure of every picture: one in doubt would change
    sides by int8's ordinary rounding, and a layer that is not planted would rightly be kept.
    """
    made = (_with_outlier(layer, 1000 * seed + number) for number in range(200))
    next(model for model in made if _margin(model) > 0.5).save(path)
    path.with_suffix(".contract.toml").write_text(CONTRACT)
    return path


def _margin(model) -> float:
    """How far the right label is ahead of the next one, in the worst of many pictures."""
    rng, worst = np.random.default_rng(7), 1.0
    for place, label in enumerate(LABELS):
        seen = coloured_noise(rng, label, 100).astype(np.float32) / 255
        scores = np.asarray(model(seen))
        others = np.delete(scores, place, 1).max(1)
        worst = min(worst, float((scores[:, place] - others).min()))
    return worst


def _with_outlier(layer: str | None, seed: int):
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    start = {"kernel_initializer": "he_normal", "activation": "relu"}
    made = [
        layers.Conv2D(12, 3, strides=1 + n % 2, padding="same", name=name, **start)
        for n, name in enumerate(CONVOLUTIONS)
    ]
    model = keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 3), name="picture"),
            *made,
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )
    names = [*CONVOLUTIONS, "scores"]
    dead = int(rng.integers(12))
    if layer is not None:
        before = model.get_layer(names[names.index(layer) - 1])
        kernel, bias = before.get_weights()
        kernel[..., dead], bias[dead] = 0, -1
        before.set_weights([kernel, bias])
    _fit_last(model, rng)
    if layer is not None:
        kernel, bias = model.get_layer(layer).get_weights()
        kernel[..., dead, :] = 1000 * np.abs(kernel).max()
        model.get_layer(layer).set_weights([kernel, bias])
    return model


def _fit_last(model, rng: np.random.Generator) -> None:
    """Solve for the last layer's weights; the others stay as chance made them."""
    import keras

    seen = np.concatenate([coloured_noise(rng, label, 60) for label in LABELS])
    wanted = np.repeat(np.eye(3), 60, 0) * 8
    features = keras.Model(model.inputs, model.layers[-2].output)([seen.astype(np.float32) / 255])
    known = np.concatenate([np.asarray(features), np.ones((len(seen), 1))], 1)
    solved = np.linalg.solve(known.T @ known + 1e-6 * np.eye(13), known.T @ wanted)
    model.layers[-1].set_weights([solved[:-1], solved[-1]])
