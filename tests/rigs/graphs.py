"""Small steps whose outputs are known, among them graphs that accelerators are known to get wrong.

LiteRT's GPU accelerator has computed each of `CASES` wrongly without an error; see
LiteRT#8619 and the LiteRT samples' pull request 198. All weights are constants, so that the graphs
are what they seem. `write_all` loads TensorFlow and is for a process of its own:

    python -m rigs.graphs FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgevid.bundle import Artifact
from edgevid.contract import Contract, FrameInput, Output, StateTensor
from edgevid.testing.runtime import GraphCase

Case = Callable[[Any, Any, Any], tuple[Any, Any]]
"""Takes TensorFlow, a frame and a state; returns the output and the next state."""

SIDE, STEPS, WIDTH = 8, 4, 6
STATE = (1, STEPS, WIDTH)
OUTPUT = (1, WIDTH)
CONTRACT = Contract(
    task="raw",
    inputs=(FrameInput("frame", SIDE, SIDE),),
    outputs=(Output("out", OUTPUT),),
    labels=(),
    rate_fps=10.0,
    temporal="carry",
    states=(StateTensor("s", STATE),),
)


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = {"filter": (3, 3, 3, WIDTH), "matrix": (3, WIDTH), "square": (WIDTH, WIDTH)}
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def _embedded(tf: Any, frame: Any) -> Any:
    """(1, WIDTH) from a frame."""
    means = tf.reduce_mean(tf.cast(frame, tf.float32) / 255.0, axis=[1, 2])
    return tf.tanh(means @ weights()["matrix"])


def _moved(tf: Any, frame: Any, state: Any) -> Any:
    """The state with the new embedding at its end."""
    return tf.concat([state[:, 1:], _embedded(tf, frame)[:, None]], axis=1)


def plain(tf: Any, frame: Any, state: Any) -> tuple[Any, Any]:
    """A product, a window of embeddings, and their mean."""
    after = _moved(tf, frame, state)
    return tf.nn.softmax(tf.reduce_mean(after, axis=1) @ weights()["square"]), after


def passed_through(tf: Any, frame: Any, state: Any) -> tuple[Any, Any]:
    """The state is an output as it is, and is computed with, too."""
    return _embedded(tf, frame) + tf.reduce_mean(state, axis=1), tf.identity(state)


def sum_is_output(tf: Any, frame: Any, state: Any) -> tuple[Any, Any]:
    """The state plus something is an output."""
    after = state + _embedded(tf, frame)[:, None]
    return after[:, 0], after


def emitted_convolution(tf: Any, frame: Any, state: Any) -> tuple[Any, Any]:
    """A convolution is an output and is computed with, too."""
    values = tf.cast(frame, tf.float32) / 255.0
    made = tf.nn.conv2d(values, weights()["filter"], strides=4, padding="SAME")
    return tf.reduce_mean(tf.nn.relu(made), axis=[1, 2]), tf.reshape(made, STATE) + 0 * state


def running_sum(tf: Any, frame: Any, state: Any) -> tuple[Any, Any]:
    """A cumulative sum of rank 2."""
    after = _moved(tf, frame, state)
    return tf.cumsum(tf.reduce_mean(after, axis=1), axis=1), after


def reversed_parts(tf: Any, frame: Any, state: Any) -> tuple[Any, Any]:
    """A split whose parts are joined in reverse."""
    after = _moved(tf, frame, state)
    first, second = tf.split(tf.reduce_mean(after, axis=1), 2, axis=1)
    return tf.concat([second, first], axis=1), after


def _attended(tf: Any, values: Any) -> Any:
    weighed = values @ weights()["square"]
    return tf.nn.softmax(tf.matmul(weighed, values, transpose_b=True)) @ values


def attention_rank_3(tf: Any, frame: Any, state: Any) -> tuple[Any, Any]:
    """Attention over (1, T, C)."""
    after = _moved(tf, frame, state)
    return _attended(tf, after)[:, -1], after


def attention_rank_4(tf: Any, frame: Any, state: Any) -> tuple[Any, Any]:
    """The same over (1, 1, T, C)."""
    after = _moved(tf, frame, state)
    return _attended(tf, after[:, None])[:, 0, -1], after


CASES: tuple[Case, ...] = (
    plain,
    passed_through,
    sum_is_output,
    emitted_convolution,
    running_sum,
    reversed_parts,
    attention_rank_3,
    attention_rank_4,
)


def write_all(folder: Path) -> None:
    """Write each case as a SavedModel, a ``.tflite`` and what eager TensorFlow computes."""
    rng = np.random.default_rng(4)
    frame = rng.integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.uint8)
    state = rng.normal(0, 1, STATE).astype(np.float32)
    folder.mkdir(parents=True)
    for case in CASES:
        _write(folder / case.__name__, case, frame, state)


def _write(path: Path, case: Case, frame: np.ndarray, state: np.ndarray) -> None:
    import tensorflow as tf

    frames = tf.TensorSpec(frame.shape, tf.uint8, name="frame")
    states = tf.TensorSpec(state.shape, tf.float32, name="state_s")

    @tf.function(input_signature=[frames, states])
    def step(frame: Any, state_s: Any) -> dict[str, Any]:
        out, after = case(tf, frame, state_s)
        return {"out": tf.identity(out), "next_s": tf.identity(after)}

    module = tf.Module()
    module.step = step
    tf.saved_model.save(module, str(path), signatures={"serving_default": step})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path))
    path.with_suffix(".tflite").write_bytes(converter.convert())
    out, after = case(tf, tf.constant(frame), tf.constant(state))
    values = {"frame": frame, "state": state, "out": out.numpy(), "after": after.numpy()}
    np.savez(path.with_suffix(".npz"), **values)


def read_cases(folder: Path) -> list[GraphCase]:
    """The cases that `write_all` wrote, as TFLite artifacts."""
    found = []
    for case in CASES:
        values = np.load(folder / f"{case.__name__}.npz")
        found.append(
            GraphCase(
                name=case.__name__,
                contract=CONTRACT,
                artifact=Artifact("tflite-float32", "tflite", "float32"),
                files={"tflite": (folder / f"{case.__name__}.tflite").read_bytes()},
                inputs={"frame": values["frame"]},
                state={"s": values["state"]},
                outputs={"out": values["out"], "next_s": values["after"]},
            )
        )
    return found


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
