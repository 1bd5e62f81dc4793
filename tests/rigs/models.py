"""One tiny classifier in every kind of file, with the same weights in all; and some of memory.

`write_all` and `answer_all` are for a process of their own: they load what is heavy.

    python -m rigs.models FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

HEIGHT, WIDTH, LABELS = 20, 24, ("dog", "cat", "cow")
MEAN, STD, SCALE = (0.40, 0.50, 0.55), (0.20, 0.30, 0.25), 255.0
CONTRACT = f"""task = "classification"
labels = {list(LABELS)}
rate_fps = 10

[[input]]
kind = "frame"
colour = "bgr"
scale = {SCALE}
mean = {list(MEAN)}
std = {list(STD)}
"""
FILES = ("keras.keras", "older.h5", "saved", "onnx.onnx", "lite.tflite", "ir.xml")


def weights() -> dict[str, np.ndarray]:
    """A convolution (3, 3, 3, 4) with stride 2, a mean, a product (4, 3)."""
    rng = np.random.default_rng(5)
    shapes = {"kernel": (3, 3, 3, 4), "bias": (4,), "last": (4, 3), "shift": (3,)}
    return {name: rng.normal(0, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


def frames() -> np.ndarray:
    """Three frames uint8 (3, 1, H, W, 3), whose channels differ much."""
    rng = np.random.default_rng(6)
    noise = rng.integers(0, 100, (3, 1, HEIGHT, WIDTH, 3))
    return (noise + np.array([150, 60, 0])).astype(np.uint8)


def expected(frame: np.ndarray) -> np.ndarray:
    """The scores (1, 3) of one frame (1, H, W, 3), in numpy alone."""
    w = {name: value.astype(np.float64) for name, value in weights().items()}
    x = (frame[0, :, :, ::-1] / SCALE - np.array(MEAN)) / np.array(STD)
    rows, columns = (HEIGHT - 3) // 2 + 1, (WIDTH - 3) // 2 + 1
    out = np.zeros((rows, columns, 4))
    for i in range(rows):
        for j in range(columns):
            patch = x[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            out[i, j] = np.tensordot(patch, w["kernel"], 3) + w["bias"]
    logits = np.maximum(out, 0).mean((0, 1)) @ w["last"] + w["shift"]
    raised = np.exp(logits - logits.max())
    return (raised / raised.sum())[None]


# ---------------------------------------------------------------- ONNX, by hand


def onnx_model(nodes, inputs, outputs, constants=None, opset: int = 17):
    """An ONNX model of nodes; inputs and outputs are name -> shape, float32."""
    from onnx import TensorProto, helper, numpy_helper

    def info(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(*one) for one in inputs.items()],
        [info(*one) for one in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("of.mine", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=9)


def onnx_classifier(batch=1):
    """The classifier, with its channels in front, and two open sizes where ``batch`` is None."""
    from onnx import helper

    w = weights()
    constants = {**w, "kernel": np.ascontiguousarray(w["kernel"].transpose(3, 2, 0, 1))}
    nodes = [
        helper.make_node("Conv", ["frame", "kernel", "bias"], ["a"], "conv", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "pool"),
        helper.make_node("Flatten", ["c"], ["d"], "flat"),
        helper.make_node("Gemm", ["d", "last", "shift"], ["logits"], "last"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "soft", axis=-1),
    ]
    # its own input is called as the contract's, which must do no harm
    sizes = [HEIGHT, WIDTH] if batch else ["height", "width"]
    return onnx_model(
        nodes, {"frame": [batch, 3, *sizes]}, {"probabilities": [batch, 3]}, constants
    )


def onnx_listener():
    """A memory of sound: state' = tanh(0.5 state + mean of the piece), level = |state'| of it."""
    from onnx import helper

    nodes = [
        helper.make_node("ReduceMean", ["samples"], ["m"], "mean", axes=[1], keepdims=1),
        helper.make_node("Mul", ["h", "half"], ["k"], "keep"),
        helper.make_node("Add", ["k", "m"], ["s"], "sum"),
        helper.make_node("Tanh", ["s"], ["hn"], "squash"),
        helper.make_node("Abs", ["hn"], ["level"], "size"),
    ]
    shapes = {"samples": ["batch", 16], "h": [1, 1]}
    constants = {"half": np.float32([0.5])}
    return onnx_model(nodes, shapes, {"level": [1, 1], "hn": [1, 1]}, constants)


PAIR_WEIGHTS = np.float32(np.linspace(-1, 1, 14).reshape(7, 2))


def onnx_pair():
    """A frame and a vector: state' = 0.5 state + (mean of each channel, vector) times weights."""
    from onnx import helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["channels"], "flatten"),
        helper.make_node("Concat", ["channels", "speed"], ["both"], "concat", axis=1),
        helper.make_node("MatMul", ["both", "weights"], ["product"], "matmul"),
        helper.make_node("Mul", ["h", "half"], ["k"], "keep"),
        helper.make_node("Add", ["k", "product"], ["hn"], "sum"),
        helper.make_node("Identity", ["hn"], ["out"], "copy"),
    ]
    shapes = {"image": [1, 3, 8, 8], "speed": [1, 4], "h": [1, 2]}
    constants = {"half": np.float32([0.5]), "weights": PAIR_WEIGHTS}
    return onnx_model(nodes, shapes, {"out": [1, 2], "hn": [1, 2]}, constants)


# ---------------------------------------------------------------- all of them


def write_all(folder: Path) -> None:
    """Write the classifier as every kind of file, each with its contract beside it."""
    import keras
    import onnx
    import openvino
    import tensorflow as tf
    from keras import layers

    folder.mkdir(parents=True)
    w = weights()
    image = layers.Input((HEIGHT, WIDTH, 3), name="picture")
    x = layers.Conv2D(4, 3, 2, activation="relu", name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="last")(x))
    model.get_layer("conv").set_weights([w["kernel"], w["bias"]])
    model.get_layer("last").set_weights([w["last"], w["shift"]])
    model.save(folder / "keras.keras")
    model.save(folder / "older.h5")
    model.export(folder / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    (folder / "lite.tflite").write_bytes(converter.convert())
    onnx.save(onnx_classifier(), folder / "onnx.onnx")
    openvino.save_model(
        openvino.convert_model(folder / "onnx.onnx"), folder / "ir.xml", compress_to_fp16=False
    )
    for name in FILES:
        (folder / f"{name.partition('.')[0]}.contract.toml").write_text(CONTRACT)
    _write_remembering(folder)


def _write_remembering(folder: Path) -> None:
    """A Keras step with memory and logits, whose inputs and outputs have names of their own."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    image = layers.Input((16, 16, 3), name="img")
    before = layers.Input((5,), name="mem")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(image))
    after = layers.Dense(5, activation="tanh", name="mem_out")(layers.Concatenate()([x, before]))
    logits = layers.Dense(2, name="logits")(after)
    model = keras.Model({"mem": before, "img": image}, {"logits": logits, "mem_out": after})
    model.save(folder / "memory.keras")
    (folder / "memory.contract.toml").write_text(
        'task = "classification"\nlabels = ["in", "out"]\nframes = 3\n'
        'rate_fps = 10\n[[input]]\nkind = "frame"\nscale = 100\n'
        '[[state]]\nname = "m"\ninput = "mem"\noutput = "mem_out"\n'
        '[[output]]\nname = "scores"\noutput = "logits"\nsoftmax = true\n'
    )


def answer_all(folder: Path) -> None:
    """What each model answers itself, and lowered to each form in each format, on `frames`.

    ``answers.npz``: ``<file>`` and ``<file>/<form>/<format>`` -> scores (3, 3).
    """
    from edgevid import registry, runtimes
    from edgevid_converters import importers

    answers = {}
    for name in FILES:
        source = described(folder / name)
        model = importers.load(source)
        answers[name] = np.concatenate([model.step({"frame": f})["scores"] for f in frames()])
        for form in model.forms:
            with tempfile.TemporaryDirectory() as place:
                lowered = model.lower(form, Path(place))
                for kind in registry.names("converter"):
                    converter = registry.load("converter", kind)()
                    if form not in converter.forms:
                        continue
                    files = converter.convert(lowered, form, {}, "float32")
                    engine = runtimes.get(kind).load(files, source.contract)
                    given = [engine.step({"frame": f}, {})[0]["scores"] for f in frames()]
                    answers[f"{name}/{form}/{kind}"] = np.concatenate(given)
    np.savez(folder / "answers.npz", **answers)


def described(path: Path, contract: Path | None = None):
    """What `sources.describe` gives, found out in this process."""
    from edgevid.contract import Contract
    from edgevid_converters import importers
    from edgevid_converters.importers import contract_toml, imported
    from edgevid_converters.importers.preprocessing import Preprocessing

    kind = importers.kind_of(path)
    file = contract or contract_toml.default_contract_path(path)
    told = imported.describe_task({"kind": kind, "model": str(path), "contract_file": str(file)})
    return importers.SourceModel(
        kind,
        path,
        Contract.from_json(told["contract"]),
        preprocessing=Preprocessing.from_json(told["preprocessing"]),
    )


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
    answer_all(Path(sys.argv[1]))
