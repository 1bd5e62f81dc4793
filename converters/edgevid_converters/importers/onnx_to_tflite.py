"""ONNX to TFLite in two independent ways, tried in order and judged against ONNX Runtime.

edgevid's own operators come first: they take seconds, name what they lack, and leave channels where
convolutions want them. onnx2tf comes second, for models with other operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import BadInput, ConverterFailed
from edgevid.evidence import LoweringAttempt
from edgevid_converters.child_process import ask
from edgevid_converters.importers import onnx_by_onnx2tf, tensorflow_step
from edgevid_converters.importers.graph_rewrite import named_by_signature
from edgevid_converters.importers.imported import take_step
from edgevid_converters.importers.onnx_lowering import OTHERWISE, NotLowered, OnnxGraph
from edgevid_converters.importers.onnx_operators import FOLDED, REMEDIES, Value
from edgevid_converters.importers.preprocessing import Preprocessing
from edgevid_converters.lowering.onnx_nodes import all_nodes
from edgevid_converters.lowering.tflite.converter import saved_model_to_tflite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid_converters.importers.imported import NativeModel

CLOSE, CLOSE_FLOAT16 = 1e-3, 2e-2
"""Largest difference from ONNX Runtime, as a share of an output's range where that exceeds 1."""
SAME_INTEGERS = 0.95
"""Least share of equal values of an output of integers: ties may be decided otherwise."""
TRIALS = 3
OWN, ONNX2TF = "operators", "onnx2tf"


@dataclass(frozen=True)
class LoweredOnnx:
    """A model that one of the ways has lowered.

    Attributes:
        saved_model: The step as a SavedModel.
        tflite: The step as a float32 ``.tflite``.
        attempts: What was tried; the last one succeeded.
    """

    saved_model: Path
    tflite: Path
    attempts: tuple[LoweringAttempt, ...]


@dataclass(frozen=True)
class _Task:
    """What each way gets: see `lower`."""

    model: Any
    reference: NativeModel
    preprocessing: Preprocessing
    contract: Contract

    @property
    def channels_last(self) -> Preprocessing:
        """The preprocessing for a model that takes its images with channels last."""
        images = tuple(
            one if one.is_clip else replace(one, layout="nhwc") for one in self.preprocessing.images
        )
        return replace(self.preprocessing, images=images, constants=())


def lower(
    model: Any,
    reference: NativeModel,
    preprocessing: Preprocessing,
    contract: Contract,
    folder: Path,
) -> LoweredOnnx:
    """Lower a model by the first way whose float32 ``.tflite`` gives the model's answers.

    Args:
        model: The ONNX model, plain and with fixed shapes (see `onnx_folding.folded`).
        reference: The model in ONNX Runtime.
        preprocessing: Maps the contract's tensors.
        contract: The contract.
        folder: Where the files go.

    Raises:
        BadInput: No way lowers it; the message names operator, node and remedy.
    """
    task = _Task(model, reference, preprocessing, contract)
    attempts: list[LoweringAttempt] = []
    for way, lowering in ((OWN, _by_operators), (ONNX2TF, _by_onnx2tf)):
        place = folder / way
        place.mkdir(parents=True, exist_ok=True)
        try:
            saved = lowering(task, place)
            tflite = place / "model.tflite"
            tflite.write_bytes(named_by_signature(saved_model_to_tflite(saved)))
            difference = _proven(task, tflite)
        except (BadInput, ConverterFailed) as error:
            attempts.append(LoweringAttempt(way, failure=str(error)))
            if isinstance(error, NotLowered) and _is_hopeless(model):
                raise BadInput(str(error)) from None
            continue
        attempts.append(LoweringAttempt(way, difference=float(f"{difference:.3g}")))
        return LoweredOnnx(saved, tflite, tuple(attempts))
    raise BadInput(_summary(attempts))


def _summary(attempts: list[LoweringAttempt]) -> str:
    first, second = (str(one.failure).removesuffix(f"; {OTHERWISE}") for one in attempts)
    return f"{first}; onnx2tf fails too: {second}; {OTHERWISE}"


def _is_hopeless(model: Any) -> bool:
    """Whether the second way cannot help: it lacks an operator, or would guess a size."""
    kinds = {node.op_type for node in all_nodes(model.graph)}
    return bool(kinds & (set(REMEDIES) - set(FOLDED))) or onnx_by_onnx2tf.lacks(kinds) is not None


# ---------------------------------------------------------------- the ways


def _by_operators(task: _Task, folder: Path) -> Path:
    import tensorflow as tf

    graph = OnnxGraph(task.model)
    turned = {one.input for one in task.preprocessing.images if one.layout == "nchw"}

    def call(inputs: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: _taken(value, name in turned) for name, value in inputs.items()}
        return {name: value.stored() for name, value in graph(values).items()}

    path = folder / "saved_model"
    return tensorflow_step.write(call, tf.Module(), task.channels_last, task.contract, path)


def _taken(tensor: Any, turned: bool) -> Value:
    """Return an input in a type that the operators compute in."""
    import tensorflow as tf

    from edgevid_converters.importers.onnx_operators.value import NARROWED

    kind = NARROWED.get(tensor.dtype.name)
    tensor = tf.cast(tensor, kind) if kind else tensor
    return Value(tensor, (0, 2, 3, 1)) if turned else Value.natural(tensor)


def _by_onnx2tf(task: _Task, folder: Path) -> Path:
    import tensorflow as tf

    made = onnx_by_onnx2tf.convert(task.model, task.preprocessing, folder)
    loaded = tf.saved_model.load(str(made))
    function = loaded.signatures[tensorflow_step.SIGNATURE]
    core = onnx_by_onnx2tf.Core(function, task.model, task.reference, task.preprocessing)
    core.match()
    path = folder / "saved_model"
    return tensorflow_step.write(core, loaded, task.channels_last, task.contract, path)


# ---------------------------------------------------------------- the proof


def _proven(task: _Task, tflite: Path) -> float:
    """Run the ``.tflite`` in a child process on random inputs.

    Returns:
        The largest difference from ONNX Runtime, as a share of an output's range where that
        exceeds 1.

    Raises:
        BadInput: It is too large.
        ChildFailed: The file crashes LiteRT.
    """
    import numpy as np

    trials = [_random_step(task, number) for number in range(TRIALS)]
    folder = tflite.parent / "trials"
    folder.mkdir(exist_ok=True)
    for number, inputs in enumerate(trials):
        stored: dict[str, Any] = dict(inputs)
        np.savez(folder / f"in-{number}.npz", **stored)
    what = {"do": "tflite_steps", "model": str(tflite), "folder": str(folder), "steps": TRIALS}
    ask("running the float32 model", what, read=(tflite,), write=folder)
    worst = 0.0
    for number, inputs in enumerate(trials):
        expected = take_step(task.reference, task.preprocessing, inputs)
        with np.load(folder / f"out-{number}.npz") as found:
            for one in task.preprocessing.outputs:
                error = _difference(expected[one.name], found[one.name], one.dtype)
                worst = error if not error <= worst else worst
    if not worst <= (CLOSE_FLOAT16 if _has_float16(task.model) else CLOSE):
        raise BadInput(f"its float32 outputs differ from ONNX Runtime's by {worst:.3g}")
    return worst


def _random_step(task: _Task, number: int) -> dict[str, NDArray[Any]]:
    """Return noise for frames, and values of both signs for other tensors."""
    import numpy as np

    rng = np.random.default_rng(number)
    inputs: dict[str, NDArray[Any]] = {}
    for frame in task.contract.frame_inputs:
        inputs[frame.name] = rng.integers(0, 256, frame.shape, np.uint8)
    for clip in (one for one in task.preprocessing.images if one.is_clip):
        inputs[clip.state_input] = rng.normal(size=clip.state_shape).astype(np.float32)
    for one in task.preprocessing.tensor_inputs:
        values = rng.normal(size=one.shape).astype(np.float32)
        inputs[one.name] = values if "float" in one.dtype else np.abs(values).round()
    return inputs


def _difference(expected: NDArray[Any], found: NDArray[Any], dtype: str) -> float:
    import numpy as np

    if "float" not in dtype:
        return 0.0 if (expected == found).mean() >= SAME_INTEGERS else float("inf")
    away = np.abs(expected.astype(np.float64) - found)
    return float(away.max(initial=0.0)) / max(1.0, float(np.abs(expected).max(initial=0.0)))


def _has_float16(model: Any) -> bool:
    from onnx import TensorProto

    return any(one.data_type == TensorProto.FLOAT16 for one in model.graph.initializer)


def tflite_steps_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """Run a ``.tflite`` on the stored inputs, in the child process of `lower`."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    folder = Path(task["folder"])
    runner: Callable[..., Any] = Interpreter(task["model"], num_threads=1).get_signature_runner()
    for number in range(task["steps"]):
        with np.load(folder / f"in-{number}.npz") as inputs:
            np.savez(folder / f"out-{number}.npz", **runner(**dict(inputs)))
    return {}
