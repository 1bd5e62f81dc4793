"""ONNX to SavedModel by onnx2tf, which moves channels to the end; runs in a child of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput, MissingExtra
from edgevid.registry import install_line, need
from edgevid_converters.child_process import ChildFailed, Limits, ask, limited
from edgevid_converters.importers.onnx_folding import folded
from edgevid_converters.importers.onnx_plain import plain
from edgevid_converters.importers.preprocessing import Preprocessing
from edgevid_converters.importers.tensors import sizes
from edgevid_converters.library_errors import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevid_converters.importers.imported import NativeModel

NAME = "onnx2tf"
CLOSE = 1e-3
"""Largest difference of an output whose place and axes are looked for, as a share of its range."""
LEAST_S, NODE_S = 120.0, 1.0
LEAST_MB, WEIGHTS = 3072, 40
"""Time and memory that onnx2tf gets: it tries transposes until the values fit, and where none do
it takes minutes and gigabytes to fail."""


def lacks(kinds: set[str]) -> str | None:
    """Return an operator of a model that onnx2tf has no code for; None if it has all."""
    found = find_spec(NAME)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "ops"
    return next((kind for kind in sorted(kinds) if not (folder / f"{kind}.py").is_file()), None)


def convert(model: Any, preprocessing: Preprocessing, folder: Path) -> Path:
    """Convert a plain ONNX model to a SavedModel, in a child process with limits of its own.

    Args:
        model: The model, with fixed shapes. Its inputs and outputs get the names ``input_0`` and
            ``output_0`` and so on, which any library can read.
        preprocessing: Maps the contract's tensors to the model's.
        folder: Where files go.

    Raises:
        MissingExtra: onnx2tf is not installed.
        BadInput: It cannot convert an operator, crashed, or exceeded its limits.
    """
    import onnx

    # Not imported here: it loads TensorFlow and raises the recursion limit.
    if find_spec(NAME) is None:
        raise MissingExtra(install_line(f"package {NAME}", "onnx"))
    kept = [one.own for one in preprocessing.tensor_inputs]
    kept += [one.input for one in preprocessing.images if one.layout != "nchw"]
    names = {one.name: f"input_{at}" for at, one in enumerate(model.graph.input)}
    file = folder / "model.onnx"
    onnx.save(_renamed(model, names), file)
    weights = sum(len(one.raw_data) for one in model.graph.initializer) >> 20
    limits = Limits(LEAST_S + NODE_S * len(model.graph.node), LEAST_MB + WEIGHTS * weights)
    task = {
        "do": "onnx2tf",
        "model": str(file),
        "kept": [names[name] for name in kept],
        "out": str(folder / "made"),
    }
    try:
        with limited(limits):
            ask(NAME, task, read=(), write=folder)
    except ChildFailed as error:  # its remedies are for the limits that the user sets
        raise BadInput(f"it {error.failure}") from None
    return folder / "made"


def _renamed(model: Any, names: Mapping[str, str]) -> Any:
    """Copy a model with other names for its inputs, and plain ones for its outputs."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy = onnx.compose.add_prefix(copy, "model/", rename_nodes=False)
    graph = copy.graph
    front = [
        onnx.helper.make_node("Identity", [name], [f"model/{old}"], f"take_{name}")
        for old, name in names.items()
    ]
    back = [
        onnx.helper.make_node("Identity", [one.name], [f"output_{at}"], f"give_{at}")
        for at, one in enumerate(graph.output)
    ]
    for one in graph.input:
        one.name = names[one.name.removeprefix("model/")]
    for at, one in enumerate(graph.output):
        one.name = f"output_{at}"
    core = list(graph.node)
    del graph.node[:]
    graph.node.extend([*front, *core, *back])
    return copy


def onnx2tf_task(task: Mapping[str, Any]) -> dict[str, Any]:
    """Do the work of `convert`, in the child process.

    Raises:
        BadInput: onnx2tf cannot convert an operator.
    """
    onnx = need("onnx", "onnx")
    file = Path(task["model"])
    simple = plain(_simplified(onnx.load(file)))
    onnx.save(simple, file)
    with _offline(file.parent) as onnx2tf:
        try:
            onnx2tf.convert(
                input_onnx_file_path=str(file),
                output_folder_path=task["out"],
                not_use_onnxsim=True,
                output_signaturedefs=True,
                keep_shape_absolutely_input_names=task["kept"] or None,
                verbosity="error",
                non_verbose=True,
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it raises whatever broke, or exits
            raise BadInput(f"it cannot lower {_blamed(error)}") from None
    return {}


def _simplified(model: Any) -> Any:
    """Simplify a model by onnxsim; as it is, if that fails."""
    onnxsim = need("onnxsim", "onnx")
    try:
        simple, _ = onnxsim.simplify(model)
    except Exception as error:  # noqa: BLE001 - C++ errors of all kinds; folding alone may do
        print(f"onnxsim left the model as it is: {first_line(error)}", file=sys.stderr)
        return folded(model)
    return simple


@contextmanager
def _offline(folder: Path) -> Iterator[Any]:
    """Run onnx2tf in a folder of its own, without its download of sample images."""
    import numpy as np

    limit = sys.getrecursionlimit()
    # Its import sets the limit so high that deep recursion would crash the process.
    onnx2tf = need("onnx2tf.onnx2tf", "onnx")

    def pictures() -> NDArray[np.float32]:
        return np.random.default_rng(0).random((20, 128, 128, 3), np.float32)

    before = Path.cwd()
    onnx2tf.download_test_image_data = pictures
    os.chdir(folder)
    try:
        yield onnx2tf
    finally:
        os.chdir(before)
        sys.setrecursionlimit(limit)


def _blamed(error: BaseException) -> str:
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
        return f"operator {kind} (node {name!r})"
    return f"the model ({first_line(error)})"


class Core:
    """The SavedModel of onnx2tf, called with the ONNX model's names and shapes."""

    def __init__(
        self, function: Any, model: Any, reference: NativeModel, preprocessing: Preprocessing
    ) -> None:
        self._function, self._reference, self._preprocessing = function, reference, preprocessing
        self._places = {one.name: at for at, one in enumerate(model.graph.input)}
        self._orders: dict[str, tuple[str, tuple[int, ...]]] = {}

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Call it with the ONNX model's inputs, images with channels last."""
        import tensorflow as tf

        given = self._raw(inputs)
        return {
            own: tf.transpose(given[name], order) for own, (name, order) in self._orders.items()
        }

    def _raw(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        known = self._function.structured_input_signature[1]
        listed = list(known)
        taken = {
            _matching(f"input_{self._places[name]}", listed): value
            for name, value in inputs.items()
        }
        given: dict[str, Any] = self._function(**taken)
        return given

    def match(self) -> None:
        """Find which output is which, and the order of their axes, by comparing values.

        Raises:
            BadInput: No output has the values of one of the model.
        """
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
        raise BadInput(f"its output {own!r} {sizes(expected.shape)} differs by {error:.3g}")
    return name, order
