"""A tfjs graph model as a TensorFlow SavedModel, by executing its nodes once under tf.function.

    python -m matrix.tfjs MODEL.json OUT_FOLDER OUTPUT...      (in benchmarks/)

Only the operators of CenterNet's network are known; its decoding of boxes is left out by naming the
outputs before it.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def save(graph: Path, out: Path, outputs: Sequence[str]) -> None:
    """Write the SavedModel.

    Args:
        graph: The ``.json``, with its weights next to it.
        out: The folder to write.
        outputs: Names of the nodes to emit.

    Raises:
        KeyError: An operator or an output is unknown.
    """
    import tensorflow as tf

    document = json.loads(graph.read_text())
    nodes = {node["name"]: node for node in document["modelTopology"]["node"]}
    weights = _weights(document["weightsManifest"], graph.parent)
    (placeholder,) = (node for node in nodes.values() if node["op"] == "Placeholder")
    shape = [int(dim["size"]) for dim in placeholder["attr"]["shape"]["shape"]["dim"]]
    module = tf.Module()

    def step(images: Any) -> dict[str, Any]:
        values = {placeholder["name"]: images, **weights}
        return {name.rpartition("/")[2]: _value(name, nodes, values) for name in outputs}

    specification = tf.TensorSpec(shape, tf.float32, name="images")
    module.step = tf.function(step, input_signature=[specification])
    tf.saved_model.save(module, str(out), signatures={"serving_default": module.step})


def _value(name: str, nodes: Mapping[str, Any], values: dict[str, Any]) -> Any:
    """Compute a node and everything before it, without recursion."""
    waiting = [name]
    while waiting:
        node = nodes[waiting[-1]]
        missing = [one for one in node["input"] if one not in values]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        given = [values[one] for one in node["input"]]
        values[node["name"]] = _OPERATORS[node["op"]](node.get("attr", {}), *given)
    return values[name]


def _weights(manifest: Sequence[Any], folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for group in manifest:
        content = b"".join((folder / path).read_bytes() for path in group["paths"])
        place = 0
        for one in group["weights"]:
            stored = one.get("quantization", {}).get("dtype", one["dtype"])
            count = math.prod(one["shape"])
            values = np.frombuffer(content, stored, count, place)
            place += values.nbytes
            found[one["name"]] = values.astype(one["dtype"]).reshape(one["shape"])
    return found


def _numbers(attributes: Mapping[str, Any], key: str) -> list[int]:
    return [int(one) for one in attributes[key]["list"].get("i", [])]


def _text(value: str) -> str:
    return base64.b64decode(value).decode()


def _fused(attributes: Mapping[str, Any], value: Any, bias: Sequence[Any]) -> Any:
    """Apply what tfjs fused to a convolution: a bias, then an activation."""
    import tensorflow as tf

    remaining = list(bias)
    for one in attributes.get("fused_ops", {}).get("list", {}).get("s", []):
        name = _text(one)
        if name == "BiasAdd":
            value = value + remaining.pop(0)
        else:
            value = {"Relu": tf.nn.relu, "Relu6": tf.nn.relu6}[name](value)
    return value


def _convolution(attributes: Mapping[str, Any], x: Any, weights: Any, *bias: Any) -> Any:
    import tensorflow as tf

    value = tf.nn.conv2d(
        x,
        weights,
        _numbers(attributes, "strides"),
        _text(attributes["padding"]["s"]),
        dilations=_numbers(attributes, "dilations"),
    )
    return _fused(attributes, value, bias)


def _depthwise(attributes: Mapping[str, Any], x: Any, weights: Any, *bias: Any) -> Any:
    import tensorflow as tf

    value = tf.nn.depthwise_conv2d(
        x,
        weights,
        _numbers(attributes, "strides"),
        _text(attributes["padding"]["s"]),
        dilations=_numbers(attributes, "dilations")[1:3],
    )
    return _fused(attributes, value, bias)


def _resize(attributes: Mapping[str, Any], x: Any, size: Any) -> Any:
    import tensorflow as tf

    return tf.raw_ops.ResizeBilinear(
        images=x,
        size=size,
        align_corners=attributes["align_corners"]["b"],
        half_pixel_centers=attributes["half_pixel_centers"]["b"],
    )


def _mean(attributes: Mapping[str, Any], x: Any, axes: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(x, axes, keepdims=attributes["keep_dims"]["b"])


def _operator(name: str) -> Callable[..., Any]:
    def apply(_: Mapping[str, Any], *values: Any) -> Any:
        import tensorflow as tf

        return getattr(tf.nn if name.startswith("relu") else tf, name)(*values)

    return apply


def _concatenation(_: Mapping[str, Any], *values: Any) -> Any:
    import tensorflow as tf

    return tf.concat(values[:-1], int(values[-1]))


_OPERATORS: dict[str, Callable[..., Any]] = {
    "_FusedConv2D": _convolution,
    "Conv2D": _convolution,
    "FusedDepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNative": _depthwise,
    "ResizeBilinear": _resize,
    "Mean": _mean,
    "ConcatV2": _concatenation,
    "Mul": _operator("multiply"),
    "Add": _operator("add"),
    "Sub": _operator("subtract"),
    "Relu": _operator("relu"),
    "Relu6": _operator("relu6"),
    "Sigmoid": _operator("sigmoid"),
    "Identity": _operator("identity"),
    "Reshape": _operator("reshape"),
}


if __name__ == "__main__":
    save(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
