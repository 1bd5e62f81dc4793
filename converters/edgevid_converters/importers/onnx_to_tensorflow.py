"""ONNX to SavedModel by onnx2tf, which moves channels to the end; the result is checked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid.registry import need
from edgevid_converters.importers import tensorflow_step
from edgevid_converters.importers.imported import first_line
from edgevid_converters.importers.onnx_plain import plain
from edgevid_converters.importers.preprocessing import Preprocessing
from edgevid_converters.importers.tensors import sizes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid_converters.importers.imported import NativeModel

CLOSE = 1e-3
"""Largest difference from ONNX Runtime, in units of the output's own range where that exceeds 1."""


def lower(
    model: Any, reference: NativeModel, preprocessing: Preprocessing, contract: Contract, path: Path
) -> Path:
    """Convert a pinned model, and write the step around the result.

    Args:
        model: The ONNX model, with fixed shapes.
        reference: The model in ONNX Runtime.
        preprocessing: Maps the contract's tensors.
        contract: The contract.
        path: Where the SavedModel goes.

    Raises:
        BadInput: onnx2tf cannot convert an operator, or its result differs from the model.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="edgevid-onnx2tf-") as name:
        made = _converted(model, preprocessing, Path(name))
        loaded = tf.saved_model.load(str(made))
        function = loaded.signatures[tensorflow_step.SIGNATURE]
        core = _Core(function, reference, preprocessing)
        core.match()
        images = tuple(
            one if one.is_clip else replace(one, layout="nhwc") for one in preprocessing.images
        )
        preprocessing = replace(preprocessing, images=images, constants=())
        return tensorflow_step.write(core, loaded, preprocessing, contract, path)


def _converted(model: Any, preprocessing: Preprocessing, folder: Path) -> Path:
    """Simplify the model, and convert it to a SavedModel by onnx2tf."""
    onnx = need("onnx", "onnx")
    onnxsim = need("onnxsim", "onnx")
    simple, _ = onnxsim.simplify(model)
    file = folder / "model.onnx"
    simple = plain(simple)
    onnx.save(simple, file)
    kept = [one.own for one in preprocessing.tensor_inputs]
    kept += [one.input for one in preprocessing.images if one.layout != "nchw"]
    with _offline(folder) as onnx2tf:
        try:
            onnx2tf.convert(
                input_onnx_file_path=str(file),
                output_folder_path=str(folder / "made"),
                not_use_onnxsim=True,
                output_signaturedefs=True,
                keep_shape_absolutely_input_names=kept or None,
                verbosity="error",
                non_verbose=True,
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it raises whatever broke, or exits
            raise BadInput(
                f"onnx2tf cannot lower the model to TFLite{_blamed(error, simple)}; "
                "convert it for OpenVINO: -f openvino"
            ) from None
    return folder / "made"


@contextmanager
def _offline(folder: Path) -> Iterator[Any]:
    """Run onnx2tf in a folder of its own, without its download of sample images."""
    import numpy as np

    need("onnx2tf", "onnx")
    from onnx2tf import onnx2tf

    def pictures() -> NDArray[np.float32]:
        return np.random.default_rng(0).random((20, 128, 128, 3), np.float32)

    before = Path.cwd()
    onnx2tf.download_test_image_data = pictures
    os.chdir(folder)
    try:
        yield onnx2tf
    finally:
        os.chdir(before)


def _blamed(error: BaseException, model: Any) -> str:
    """Name the operator on which onnx2tf failed: the last one in the traceback."""
    trace, kind, name = error.__traceback__, "", ""
    while trace is not None:
        code, seen = trace.tb_frame.f_code, trace.tb_frame.f_locals
        if "/onnx2tf/ops/" in code.co_filename.replace(os.sep, "/"):
            kind = Path(code.co_filename).stem
            node = seen.get("graph_node")
            name = getattr(node, "name", "") or name
        elif "graph_node" in seen and not kind:
            node = seen["graph_node"]
            kind, name = getattr(node, "op", ""), getattr(node, "name", "")
        trace = trace.tb_next
    if kind:
        return f": operator {kind} (node {name!r})"
    return f" ({first_line(error)})"


class _Core:
    """The SavedModel of onnx2tf, called with the ONNX model's names and shapes."""

    def __init__(self, function: Any, reference: NativeModel, preprocessing: Preprocessing) -> None:
        self._function, self._reference, self._preprocessing = function, reference, preprocessing
        self._inputs = {name: name for name in function.structured_input_signature[1]}
        self._orders: dict[str, tuple[str, tuple[int, ...]]] = {}

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        import tensorflow as tf

        given = self._raw(inputs)
        return {
            own: tf.transpose(given[name], order) for own, (name, order) in self._orders.items()
        }

    def _raw(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        known = self._function.structured_input_signature[1]
        taken = {_matching(name, list(known)): value for name, value in inputs.items()}
        given: dict[str, Any] = self._function(**taken)
        return given

    def match(self) -> None:
        """Find which output is which, and the order of their axes, by comparing values."""
        import numpy as np
        import tensorflow as tf

        rng = np.random.default_rng(1)
        preprocessing, tensors = (
            self._preprocessing,
            {tensor.name: tensor for tensor in self._reference.inputs},
        )
        constants = {one.own: one.array() for one in preprocessing.constants}
        inputs = {
            name: rng.normal(size=shape).astype(tensors[name].dtype)  # both signs
            for name, shape in preprocessing.shapes.items()
        } | constants
        expected = self._reference.infer(inputs)
        own = {name: value for name, value in inputs.items() if name not in constants}
        for one in preprocessing.images:
            if one.layout == "nchw":
                own[one.input] = own[one.input].transpose(0, 2, 3, 1)
        given = self._raw({name: tf.constant(value) for name, value in own.items()})
        found = {name: value.numpy() for name, value in given.items()}
        for name in {one.own for one in preprocessing.outputs}:
            self._orders[name] = _nearest(name, expected[name], found)


def _matching(name: str, known: list[str]) -> str:
    """Return a name as TensorFlow writes it."""
    if name in known:
        return name
    plain = "".join(c if c.isalnum() else "_" for c in name)
    near = [k for k in known if "".join(c if c.isalnum() else "_" for c in k).strip("_") == plain]
    return near[0] if near else known[0]


def _nearest(
    own: str, expected: NDArray[Any], found: Mapping[str, NDArray[Any]]
) -> tuple[str, tuple[int, ...]]:
    import numpy as np

    best: tuple[float, str, tuple[int, ...]] = (float("inf"), "", ())
    for name, value in found.items():
        for order in permutations(range(value.ndim)):
            if tuple(value.shape[axis] for axis in order) != expected.shape:
                continue
            difference = np.abs(value.transpose(order).astype(np.float64) - expected)
            worst = float(difference.max(initial=0))
            if worst < best[0]:
                best = (worst, name, order)
    error, name, order = best
    if not error <= CLOSE * max(1.0, float(np.abs(expected).max(initial=0))):
        raise BadInput(
            f"onnx2tf's output {own!r} {sizes(expected.shape)} differs by {error:.3g}; "
            "convert the model for OpenVINO: -f openvino"
        )
    return name, order
