"""A model in its owner's runtime, and through the bare converters, each in its own process.

    python -m matrix.owner reference|tflite|openvino TASK.json      (in benchmarks/)

TASK.json has ``kind``, ``path``, ``inputs`` and ``calibration`` (``.npz``, one row per step),
``state`` (input -> output) and ``out``, an ``.npz`` of the outputs of each step by name.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Step = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Named inputs to named outputs."""


def main() -> None:
    mode, file = sys.argv[1:]
    task = json.loads(Path(file).read_text())
    made = {"reference": _reference, "tflite": _bare_tflite, "openvino": _bare_openvino}[mode](task)
    for name, (names, step) in made.items():
        rows = list(_loop(task, names, step))
        stacked = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        np.savez(f"{task['out']}-{name}.npz", **stacked)


def _loop(task: Any, names: list[str], step: Step) -> Iterator[dict[str, Any]]:
    """Run the steps; an output that the task feeds back is the next step's input."""
    given = np.load(task["inputs"])
    values = given["x"]
    state = {name: given[f"state_{name}"] for name in task["state"]}
    data = next((name for name in names if name not in state), None)
    for row in values:
        feed = {data: row} if data is not None else {}
        outputs = step({**feed, **state})
        state = {name: outputs[output] for name, output in task["state"].items()}
        yield outputs


def _reference(task: Any) -> dict[str, tuple[list[str], Step]]:
    return {"reference": _OWN[task["kind"]](task["path"])}


def _keras(path: str) -> tuple[list[str], Step]:
    import keras

    model = keras.models.load_model(path)
    return ["x"], lambda feed: {"logits": np.asarray(model(feed["x"], training=False))}


def _saved_model(path: str) -> tuple[list[str], Step]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures[next(iter(loaded.signatures))]
    (name,) = signature.structured_input_signature[1]

    def step(feed: Mapping[str, Any]) -> dict[str, Any]:
        found = signature(**{name: tf.constant(feed[name])})
        return {key: value.numpy() for key, value in found.items()}

    step.__dict__["keep"] = loaded
    return [name], step


def _onnx(path: str) -> tuple[list[str], Step]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = [one.name for one in session.get_outputs()]

    def step(feed: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(outputs, session.run(None, dict(feed)), strict=True))

    return [one.name for one in session.get_inputs()], step


def _tflite(path: str) -> tuple[list[str], Step]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def step(feed: Mapping[str, Any]) -> dict[str, Any]:
        waiting = dict(feed)
        if len(inputs) == 1 and -1 in inputs[0]["shape_signature"]:  # it takes any size
            (values,) = feed.values()
            interpreter.resize_tensor_input(inputs[0]["index"], np.moveaxis(values, 1, -1).shape)
            interpreter.allocate_tensors()
            inputs[:] = interpreter.get_input_details()
        for one in inputs:
            interpreter.set_tensor(one["index"], _fitting(one, waiting))
        interpreter.invoke()
        return {one["name"]: _real(one, interpreter.get_tensor(one["index"])) for one in outputs}

    return [one["name"] for one in inputs], step


def _fitting(port: Any, waiting: dict[str, Any]) -> Any:
    """The value of a port: by name, else the one with its number of elements, in its layout."""
    size = int(np.prod(port["shape"]))
    name = port["name"] if port["name"] in waiting else _of_size(waiting, size)
    values = waiting.pop(name)
    if values.shape != tuple(port["shape"]):
        values = np.moveaxis(values, 1, -1).reshape(port["shape"])
    scale, zero = port["quantization"]
    if scale:
        values = np.clip(np.round(values / scale) + zero, *_limits(port["dtype"]))
    return values.astype(port["dtype"])


def _of_size(waiting: Mapping[str, Any], size: int) -> str:
    return next(name for name, values in waiting.items() if values.size == size)


def _limits(dtype: Any) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return limits.min, limits.max


def _real(port: Any, values: Any) -> Any:
    scale, zero = port["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values.copy()


_OWN = {"keras": _keras, "saved_model": _saved_model, "onnx": _onnx, "tflite": _tflite}


# ---------------------------------------------------------------- the bare converters


def _bare_tflite(task: Any) -> dict[str, tuple[list[str], Step]]:
    """TFLiteConverter alone; an ONNX file goes through onnx2tf first."""
    import tensorflow as tf

    if task["kind"] == "tflite":
        raise SystemExit("it is a .tflite already")
    folder = Path(tempfile.mkdtemp())
    path = task["path"]
    if task["kind"] == "onnx":
        path = _by_onnx2tf(path, np.load(task["inputs"])["x"].shape[1:], folder)

    def converter() -> Any:
        if task["kind"] == "keras":
            import keras

            return tf.lite.TFLiteConverter.from_keras_model(keras.models.load_model(path))
        return tf.lite.TFLiteConverter.from_saved_model(path)

    made = {"float32": converter().convert()}
    quantised = converter()
    quantised.optimizations = [tf.lite.Optimize.DEFAULT]
    calibration = np.load(task["calibration"])["x"]
    first_channels = task["kind"] == "onnx" and calibration.ndim == 5
    rows = [np.moveaxis(row, 1, -1) if first_channels else row for row in calibration]
    quantised.representative_dataset = lambda: ([row] for row in rows)
    quantised.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    try:
        made["int8"] = quantised.convert()
    except Exception as error:  # noqa: BLE001  a peer: whatever it raises is its result
        print(f"int8: {type(error).__name__}: {error}", file=sys.stderr)
    found = {}
    for name, content in made.items():
        file = folder / f"{name}.tflite"
        file.write_bytes(content)
        found[f"tflite-{name}"] = _tflite(str(file))
    return found


def _by_onnx2tf(path: str, shape: tuple[int, ...], folder: Path) -> str:
    """Run onnx2tf; what it would download for its own comparison is put in its place."""
    import onnx
    import onnx2tf

    os.chdir(folder)
    name = "calibration_image_sample_data_20x128x128x3_float32.npy"
    np.save(name, np.zeros((20, 128, 128, 3), np.float32))
    given = onnx.load(path, load_external_data=False).graph.input
    sizes = given[0].type.tensor_type.shape.dim
    is_open = len(given) == 1 and not all(one.dim_value for one in sizes)
    text = f"{given[0].name}:{','.join(map(str, shape))}"
    onnx2tf.convert(
        input_onnx_file_path=path,
        output_folder_path=str(folder),
        non_verbose=True,
        output_signaturedefs=True,
        copy_onnx_input_output_names_to_tflite=True,
        overwrite_input_shape=[text] if is_open else None,
    )
    return str(folder)


def _bare_openvino(task: Any) -> dict[str, tuple[list[str], Step]]:
    """`openvino.convert_model` and NNCF alone, at their defaults, computing in float32."""
    import nncf
    import openvino as ov

    given = task["path"]
    if task["kind"] == "keras":
        import keras

        folder = tempfile.mkdtemp()
        keras.models.load_model(given).export(folder, verbose=False)
        given = folder
    model = ov.convert_model(given)
    inputs = np.load(task["inputs"])
    if len(model.inputs) == 1:
        model.reshape(inputs["x"].shape[1:])
    core = ov.Core()

    def steps(one: Any) -> tuple[list[str], Step]:
        compiled = core.compile_model(one, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        def step(feed: Mapping[str, Any]) -> dict[str, Any]:
            waiting = dict(feed)
            ports = {}
            for index, port in enumerate(compiled.inputs):
                names = port.get_names() & waiting.keys()
                size = int(np.prod(port.get_shape())) if port.partial_shape.is_static else 0
                name = names.pop() if names else _of_size(waiting, size)
                ports[index] = waiting.pop(name)
            found = compiled(ports)
            return {_name(port): found[port] for port in compiled.outputs}

        return [_name(port) for port in compiled.inputs], step

    made = {"openvino-float32": steps(model)}
    if len(model.inputs) == 1:
        rows = np.load(task["calibration"])["x"]
        made["openvino-int8"] = steps(nncf.quantize(model, nncf.Dataset(list(rows))))
    return made


def _name(port: Any) -> str:
    names = sorted(port.get_names())
    return names[0] if names else f"port{port.get_index()}"


if __name__ == "__main__":
    main()
