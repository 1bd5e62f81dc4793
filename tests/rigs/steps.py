"""Tiny steps as SavedModels: one that is easy to bring to integers, and some that are not.

python -m rigs.steps FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SIZE = 8
NAMES = ("easy", "loop", "normalised", "spatial")
"""``loop`` has a GRU that is not unrolled, ``normalised`` Keras' LayerNormalization, ``spatial`` a
Conv3D."""
RUINED = 1
"""The convolution of ``easy`` in which one channel of the output is far larger than the others."""


def frames(count: int = 40) -> np.ndarray:
    """Random pictures, uint8 (count, 1, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (count, 1, SIZE, SIZE, 3), dtype=np.uint8)


def main(folder: Path) -> None:
    """Write all of them below ``folder``."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(0)
    picture = keras.Input((SIZE, SIZE, 3), batch_size=1)

    def scores(x):
        return keras.Model(picture, layers.Dense(3, activation="softmax")(x))

    def save(name, model):
        def step(frame):
            return {"scores": model(tf.cast(frame, tf.float32) / 255.0)}

        archive = keras.export.ExportArchive()
        archive.track(model)
        signature = [tf.TensorSpec((1, SIZE, SIZE, 3), tf.uint8, name="frame")]
        archive.add_endpoint("serving_default", step, signature)
        archive.write_out(str(folder / name), verbose=False)

    x = picture
    for number in range(3):
        x = layers.Conv2D(6, 3, padding="same", activation="relu", name=f"conv{number}")(x)
    easy = scores(layers.GlobalAveragePooling2D()(x))
    _ruin(easy)
    save("easy", easy)
    rows = layers.Reshape((SIZE, SIZE * 3))(picture)
    save("loop", scores(layers.GRU(4, unroll=False)(rows)))
    x = layers.LayerNormalization()(layers.Conv2D(4, 3)(picture))
    save("normalised", scores(layers.GlobalAveragePooling2D()(x)))
    x = layers.Conv3D(2, 3, activation="relu")(layers.Reshape((SIZE, SIZE, 3, 1))(picture))
    save("spatial", scores(layers.Flatten()(x)))


def _ruin(model) -> None:
    """Let one channel be a thousand times as large, and weigh a thousandth in what follows."""
    one, following = (model.get_layer(f"conv{RUINED + n}") for n in range(2))
    kernel, bias = one.get_weights()
    kernel[..., 0] *= 1000
    one.set_weights([kernel, bias])
    kernel, bias = following.get_weights()
    kernel[:, :, 0] /= 1000
    following.set_weights([kernel, bias])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
