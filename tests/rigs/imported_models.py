"""Tiny models of the kinds that people bring: clips, grey pictures, quantised files, Keras 2.

    python -m rigs.imported_models FOLDER

writes them with their contracts, and ``answers.npz``: for each model over `frames` the outputs of
its step in its own runtime (``NAME``) and in each format (``NAME/FORM/FORMAT``), one row per step;
for clips those of the whole clip that ends at each step (``NAME/whole``).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

HEIGHT, WIDTH, LENGTH, STEPS = 16, 20, 4, 7
CLIPS = ("lstm.keras", "conv3d.h5", "lite3d.tflite", "onnx3d.onnx", "ir3d.xml", "batch.onnx")
GREY = ("grey.keras", "lgrey.tflite", "ogrey.onnx", "igrey.xml")
QUANTISED = ("inside.tflite", "uint8.tflite", "int8.tflite", "raw_uint8.tflite", "raw_int8.tflite")
KERAS_2 = ("two.h5", "zip.keras", "two_saved", "two_lstm.h5", "two_conv.h5")
HEAD = 'task = "classification"\nlabels = ["a", "b", "c"]\nrate_fps = 10\n'
FRAME = '[[input]]\nkind = "frame"\n'
SCALED = "scale = 255\nmean = 0.5\nstd = 0.25\n"


def frames() -> np.ndarray:
    """A stream, uint8 (steps, 1, H, W, 3), of pictures that differ from each other."""
    rng = np.random.default_rng(4)
    grain = rng.integers(0, 90, (STEPS, 1, HEIGHT, WIDTH, 3))
    tint = rng.integers(0, 160, (STEPS, 1, 1, 1, 3))
    return (grain + tint).astype(np.uint8)


def write_all(folder: Path) -> None:
    """Write every model with its contract."""
    import keras

    folder.mkdir(parents=True)
    keras.utils.set_random_seed(2)
    _write_clips(folder)
    _write_grey(folder)
    _write_quantised(folder)
    _write_keras_2(folder)
    for name in (*CLIPS, *GREY, *QUANTISED, *KERAS_2):
        text = HEAD + FRAME
        text += "" if name.startswith("raw") else SCALED
        text += 'colour = "grey"\n' if name in GREY else 'colour = "bgr"\n' if name in CLIPS else ""
        text += 'layout = "tchw"\n' if name == "batch.onnx" else ""
        (folder / f"{name.partition('.')[0]}.contract.toml").write_text(text)


def _lite(model, path: Path, **options) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as place:
        model.export(place, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(place)
        for key, value in options.items():
            setattr(converter, key, value)
        path.write_bytes(converter.convert())


def _onnx(path: Path, shape: list[int], weights: dict[str, np.ndarray], pool: tuple) -> None:
    import onnx
    from onnx import helper

    from rigs.models import onnx_model

    node = helper.make_node
    nodes = [node("Conv", ["video", "w"], ["a"], "conv"), node("Relu", ["a"], ["b"], "relu")]
    nodes += [*pool, node("Flatten", ["p"], ["c"], "flat")]
    nodes += [node("MatMul", ["c", "last"], ["d"], "product")]
    nodes += [node("Softmax", ["d"], ["probabilities"], "soft", axis=-1)]
    onnx.save(onnx_model(nodes, {"video": shape}, {"probabilities": [1, 3]}, weights), path)


def _ir(source: Path, path: Path) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)


def _write_clips(folder: Path) -> None:
    import keras
    from onnx import helper

    layers = keras.layers
    given = layers.Input((LENGTH, HEIGHT, WIDTH, 3), name="video")
    x = layers.TimeDistributed(layers.Conv2D(3, 3, strides=3))(given)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    last = layers.Dense(3, "softmax")(layers.LSTM(4)(x))
    keras.Model(given, last).save(folder / "lstm.keras")
    given = layers.Input((LENGTH, HEIGHT, WIDTH, 3), batch_size=1, name="video")
    x = layers.GlobalAveragePooling3D()(layers.Conv3D(4, 3, strides=(1, 3, 3))(given))
    model = keras.Model(given, layers.Dense(3, "softmax")(x))
    model.save(folder / "conv3d.h5")
    _lite(model, folder / "lite3d.tflite")
    rng = np.random.default_rng(1)

    def weights(*kernel: int) -> dict[str, np.ndarray]:
        last = rng.normal(size=(4, 3)).astype(np.float32)
        return {"w": rng.normal(0, 0.3, kernel).astype(np.float32), "last": last}

    pool = (helper.make_node("GlobalAveragePool", ["b"], ["p"], "pool"),)
    shape = [1, 3, LENGTH, HEIGHT, WIDTH]
    _onnx(folder / "onnx3d.onnx", shape, weights(4, 3, 2, 3, 3), pool)
    _ir(folder / "onnx3d.onnx", folder / "ir3d.xml")
    mean = helper.make_node("ReduceMean", ["b"], ["p"], "mean", axes=[0, 2, 3], keepdims=1)
    _onnx(folder / "batch.onnx", [LENGTH, 3, HEIGHT, WIDTH], weights(4, 3, 3, 3), (mean,))


def grey_weights() -> tuple[np.ndarray, np.ndarray]:
    """A convolution (3, 3, 1, 4) and a product (4, 3)."""
    rng = np.random.default_rng(3)
    kernel, last = rng.normal(0, 0.5, (3, 3, 1, 4)), rng.normal(0, 2, (4, 3))
    return kernel.astype(np.float32), last.astype(np.float32)


def _write_grey(folder: Path) -> None:
    import keras
    from onnx import helper

    layers, (kernel, last) = keras.layers, grey_weights()
    given = layers.Input((HEIGHT, WIDTH, 1), batch_size=1, name="picture")
    x = layers.Conv2D(4, 3, use_bias=False, activation="relu", name="conv")(given)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(given, layers.Dense(3, "softmax", use_bias=False, name="last")(x))
    model.get_layer("conv").set_weights([kernel])
    model.get_layer("last").set_weights([last])
    model.save(folder / "grey.keras")
    _lite(model, folder / "lgrey.tflite")
    weights = {"w": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), "last": last}
    pool = (helper.make_node("GlobalAveragePool", ["b"], ["p"], "pool"),)
    _onnx(folder / "ogrey.onnx", [1, 1, HEIGHT, WIDTH], weights, pool)
    _ir(folder / "ogrey.onnx", folder / "igrey.xml")


def _write_quantised(folder: Path) -> None:
    """One classifier in float (``float.keras``), and quantised in several ways."""
    import keras
    import tensorflow as tf

    layers = keras.layers
    given = layers.Input((HEIGHT, WIDTH, 3), batch_size=1, name="picture")
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(given)
    x = layers.GlobalAveragePooling2D()(x)
    wide = keras.initializers.RandomNormal(stddev=1.5, seed=1)
    model = keras.Model(given, layers.Dense(3, "softmax", kernel_initializer=wide)(x))
    model.save(folder / "float.keras")
    (folder / "float.contract.toml").write_text(HEAD + FRAME + SCALED)
    pixels = layers.Input((HEIGHT, WIDTH, 3), batch_size=1, name="pixels")
    scaled = layers.Rescaling(1 / 255 / 0.25, -0.5 / 0.25)(pixels)
    inner = keras.Model(pixels, model(scaled))

    def options(low: float, high: float, **ends) -> dict:
        def samples():
            rng, shape = np.random.default_rng(5), (1, HEIGHT, WIDTH, 3)
            for frame in frames():  # with the ends of the range, so that no pixel is cut
                extreme = rng.choice([0.0, 1.0], shape)
                share = np.where(rng.random(shape) < 0.02, extreme, frame / 255)
                yield [(low + (high - low) * share).astype(np.float32)]

        chosen = {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": samples}
        if ends:
            kept = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            chosen["target_spec"] = tf.lite.TargetSpec(supported_ops=kept)
        return chosen | {f"inference_{end}_type": one for end, one in ends.items()}

    _lite(model, folder / "inside.tflite", **options(-2, 2))
    for name in ("uint8", "int8"):
        kind = getattr(tf, name)
        for place, one, ends in (("", model, (-2, 2)), ("raw_", inner, (0, 255))):
            path = folder / f"{place}{name}.tflite"
            _lite(one, path, **options(*ends, input=kind, output=kind))


def _write_keras_2(folder: Path) -> None:
    import tf_keras

    layers = tf_keras.layers
    given = layers.Input((HEIGHT, WIDTH, 3))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2)(given) * 2.0)
    x = layers.GlobalAveragePooling2D()(x)
    model = tf_keras.Model(given, layers.Dense(3, activation="softmax")(x))
    model.save(folder / "two.h5")
    model.save(folder / "zip.keras")
    model.save(folder / "two_saved", save_format="tf")
    given = layers.Input((LENGTH, HEIGHT, WIDTH, 3))
    x = layers.TimeDistributed(layers.Conv2D(3, 3, strides=3))(given)
    x = layers.TimeDistributed(layers.GlobalAveragePooling2D())(x)
    x = layers.Bidirectional(layers.LSTM(4))(x)
    model = tf_keras.Model(given, layers.Dense(3, activation="softmax")(x))
    model.save(folder / "two_lstm.h5")
    given = layers.Input((LENGTH, HEIGHT, WIDTH, 3))
    x = layers.GlobalAveragePooling2D()(layers.ConvLSTM2D(4, 3, strides=2)(given))
    model = tf_keras.Model(given, layers.Dense(3, activation="softmax")(x))
    model.save(folder / "two_conv.h5")


def answer_all(folder: Path) -> None:
    """See the top of this file."""
    from edgevid_converters import importers
    from rigs.models import described

    answers: dict[str, np.ndarray] = {}
    for name in (*CLIPS, *GREY, *QUANTISED, *KERAS_2, "float.keras"):
        source = described(folder / name)
        model = importers.load(source)
        answers[name] = _streamed(source.contract, _Reference(model, source.contract).step)
        image = source.preprocessing.images[0]
        if image.is_clip:
            answers[f"{name}/whole"] = _whole(model, image)
        for form in importers.registry.load("importer", source.kind).forms:
            with tempfile.TemporaryDirectory() as place:
                lowered = model.lower(form, Path(place))
                answers |= _in_formats(f"{name}/{form}", lowered, form, source.contract)
    np.savez(folder / "answers.npz", **answers)


class _Reference:
    """A source model with the step of an engine."""

    def __init__(self, model, contract) -> None:
        self._model, self._contract = model, contract

    def step(self, inputs, state):
        given = self._model.step(inputs | {f"state_{n}": v for n, v in state.items()})
        return given, {s.name: given[s.output_name] for s in self._contract.states}


def _streamed(contract, step) -> np.ndarray:
    from edgevid.runtimes import zero_state

    state, rows = zero_state(contract), []
    for frame in frames():
        outputs, state = step({"frame": frame}, state)
        rows.append(outputs["scores"].copy())
        state = {name: value.copy() for name, value in state.items()}
    return np.concatenate(rows)


def _whole(model, image) -> np.ndarray:
    """What the model gives for each whole clip of the stream, prepared without a step."""
    pixels = np.concatenate(frames())
    rows = []
    for end in range(LENGTH, STEPS + 1):
        colours = pixels[end - LENGTH : end]
        colours = colours[..., ::-1] if image.colour == "bgr" else colours
        values = (colours / 255 - 0.5) / 0.25
        order = {"nthwc": (0, 1, 2, 3), "ncthw": (3, 0, 1, 2), "tchw": (0, 3, 1, 2)}[image.layout]
        clip = values.transpose(order).reshape(image.shape).astype(np.float32)
        rows.append(next(iter(model._reference.infer({image.input: clip}).values())))
    return np.concatenate(rows)


def _in_formats(name: str, lowered: Path, form: str, contract) -> dict[str, np.ndarray]:
    from edgevid import registry, runtimes

    answers = {}
    for kind in registry.names("converter"):
        converter = registry.load("converter", kind)()
        if form in converter.forms:
            files = converter.convert(lowered, form, {}, "float32")
            engine = runtimes.get(kind).load(files, contract)
            answers[f"{name}/{kind}"] = _streamed(contract, engine.step)
    return answers


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
    answer_all(Path(sys.argv[1]))
