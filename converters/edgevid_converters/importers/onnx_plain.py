"""ONNX operators that onnx2tf lacks or converts wrongly, rewritten with plain ones.

An LSTM or GRU in a step takes one time step, so it is a few products and no loop. Anything more (a
longer sequence, two directions, other activations, peepholes) is left to onnx2tf, which converts it
or names it. A Slice along several axes, which onnx2tf mixes up once channels have moved, becomes
one Slice per axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SINCE = 11
"""First operator set whose Slice, Gemm and Reshape take the arguments used here."""
PLAIN = {"hidden_size", "linear_before_reset"}
"""Attributes that are handled here; any other must have its neutral value."""
NEUTRAL = {"direction": b"forward", "input_forget": 0, "layout": 0}
ACTIVATIONS = {"LSTM": [b"Sigmoid", b"Tanh", b"Tanh"], "GRU": [b"Sigmoid", b"Tanh"]}


def plain(model: Any) -> Any:
    """Rewrite these operators; the result computes the same.

    Args:
        model: An ONNX model with fixed shapes; one of an operator set in which these operators mean
            something else is returned as it is.

    Returns:
        A copy.
    """
    import onnx

    if any(one.version < SINCE for one in model.opset_import if one.domain in ("", "ai.onnx")):
        return model
    copy = onnx.shape_inference.infer_shapes(model)
    constants = _constants(copy.graph)
    shapes = _shapes(copy.graph)
    kept: list[Any] = []
    for node in copy.graph.node:
        written = _recurrent(node, constants, shapes) or _sliced(node, constants)
        if written is None:
            kept.append(node)
            continue
        kept += written.nodes
        copy.graph.initializer.extend(written.weights)
    del copy.graph.node[:], copy.graph.value_info[:]
    copy.graph.node.extend(kept)
    return copy


@dataclass
class _Written:
    """The nodes that replace one node."""

    node: Any
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def constant(self, value: NDArray[Any]) -> str:
        """Add a constant; returns its name."""
        from onnx import numpy_helper

        name = f"{self._name}/constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def whole(self, *values: int) -> str:
        """Add a list of integers; returns its name."""
        import numpy as np

        return self.constant(np.array(values, np.int64))

    def then(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        from onnx import helper

        name = f"{self._name}/{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out or name], name, **attributes))
        return out or name

    @property
    def _name(self) -> str:
        return str(self.node.name or self.node.output[0])


def _sliced(node: Any, constants: Mapping[str, Any]) -> _Written | None:
    """Write a Slice along several axes as one Slice per axis."""
    from onnx import numpy_helper

    if node.op_type != "Slice" or any(name not in constants for name in node.input[1:] if name):
        return None
    starts, ends, axes, steps = (
        numpy_helper.to_array(constants[name]).tolist() if name else []
        for name in (_input(node, index) for index in (1, 2, 3, 4))
    )
    count = len(starts)
    if count < 2:
        return None
    written, source = _Written(node), node.input[0]
    places = zip(starts, ends, axes or range(count), steps or [1] * count, strict=True)
    for index, bounds in enumerate(places):
        out = node.output[0] if index == count - 1 else ""
        source = written.then("Slice", source, *(written.whole(n) for n in bounds), out=out)
    return written


@dataclass
class _Cell(_Written):
    """The nodes that replace one time step of an LSTM or GRU.

    ``w`` (gates * hidden, input) multiplies the input, ``r`` (gates * hidden, hidden) the state,
    and ``b`` (2, gates * hidden) is added to both.
    """

    w: NDArray[np.float32] = field(kw_only=True)
    r: NDArray[np.float32] = field(kw_only=True)
    b: NDArray[np.float32] = field(kw_only=True)
    batch: int = 1
    reset_after: bool = False

    @property
    def hidden(self) -> int:
        """Size of the state."""
        return int(self.r.shape[1])

    def flat(self, index: int) -> str:
        """Remove the first axis of an input, which is one time step or one direction.

        A missing input is zeros ``(batch, hidden)``.
        """
        import numpy as np

        name = _input(self.node, index)
        if not name:
            return self.constant(np.zeros((self.batch, self.hidden), np.float32))
        width = self.w.shape[1] if index == 0 else self.hidden
        return self.then("Reshape", name, self.whole(self.batch, width))

    def product(self, source: str, matrix: NDArray[Any], bias: NDArray[Any]) -> str:
        """Multiply an input by the matrix of all gates: ``(batch, rows)``."""
        return self.then("Gemm", source, self.constant(matrix), self.constant(bias), transB=1)

    def gate(self, gates: str, place: int, squash: str = "") -> str:
        """Take one gate out of a product, and apply its activation."""
        bounds = (place * self.hidden, (place + 1) * self.hidden, 1)
        part = self.then("Slice", gates, *(self.whole(n) for n in bounds))
        return self.then(squash, part) if squash else part

    def give(self, hidden: str, cell: str = "") -> None:
        """Set the outputs: all time steps, the last state, the last cell."""
        one = [1, self.batch, self.hidden]
        for value, shape, index in ((hidden, [1, *one], 0), (hidden, one, 1), (cell, one, 2)):
            listed = self.node.output
            if len(listed) > index and listed[index]:
                self.then("Reshape", value, self.whole(*shape), out=listed[index])


def _lstm(cell: _Cell) -> None:
    """Gates in the order i, o, f, c."""
    import numpy as np

    state, before = cell.flat(5), cell.flat(6)
    gates = cell.then(
        "Add",
        cell.product(cell.flat(0), cell.w, cell.b.sum(0)),
        cell.product(state, cell.r, np.zeros_like(cell.b[0])),
    )
    let_in, let_out, keep = (cell.gate(gates, place, "Sigmoid") for place in range(3))
    new = cell.then("Mul", let_in, cell.gate(gates, 3, "Tanh"))
    after = cell.then("Add", cell.then("Mul", keep, before), new)
    cell.give(cell.then("Mul", let_out, cell.then("Tanh", after)), after)


def _gru(cell: _Cell) -> None:
    """Gates in the order z, r, h; the reset comes before or after the product of the state."""
    import numpy as np

    state, two = cell.flat(5), 2 * cell.hidden
    new = cell.product(cell.flat(0), cell.w, cell.b[0])
    if cell.reset_after:
        old = cell.product(state, cell.r, cell.b[1])
        summed = cell.then("Add", cell.gate(new, 0), cell.gate(old, 0))
        reset = cell.then("Sigmoid", cell.then("Add", cell.gate(new, 1), cell.gate(old, 1)))
        past = cell.then("Mul", reset, cell.gate(old, 2))
    else:
        old = cell.product(state, cell.r[:two], cell.b[1][:two])
        summed = cell.then("Add", cell.gate(new, 0), cell.gate(old, 0))
        reset = cell.then("Sigmoid", cell.then("Add", cell.gate(new, 1), cell.gate(old, 1)))
        past = cell.product(cell.then("Mul", reset, state), cell.r[two:], cell.b[1][two:])
    keep = cell.then("Sigmoid", summed)
    fresh = cell.then("Tanh", cell.then("Add", cell.gate(new, 2), past))
    rest = cell.then("Sub", cell.constant(np.ones(1, np.float32)), keep)
    cell.give(cell.then("Add", cell.then("Mul", rest, fresh), cell.then("Mul", keep, state)))


# ---------------------------------------------------------------- what is one moment


def _recurrent(
    node: Any, constants: Mapping[str, Any], shapes: Mapping[str, Sequence[int | None]]
) -> _Cell | None:
    """Write one time step of a plain LSTM or GRU; None for anything else."""
    import numpy as np
    from onnx import helper, numpy_helper

    if node.op_type not in ACTIVATIONS:
        return None
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    shape = shapes.get(node.input[0], ())
    if not _is_plain(node, attributes) or len(shape) != 3 or shape[0] != 1 or shape[1] is None:
        return None
    names = [name for name in (_input(node, index) for index in (1, 2, 3)) if name]
    if any(name not in constants for name in names):
        return None
    w, r, *b = (numpy_helper.to_array(constants[name]) for name in names)
    if w.dtype != np.float32:
        return None
    both = b[0].reshape(2, -1) if b else np.zeros((2, w.shape[1]), np.float32)
    after = bool(attributes.get("linear_before_reset"))
    cell = _Cell(node, w=w[0], r=r[0], b=both, batch=shape[1], reset_after=after)
    (_lstm if node.op_type == "LSTM" else _gru)(cell)
    return cell


def _is_plain(node: Any, attributes: Mapping[str, Any]) -> bool:
    if any(_input(node, index) for index in (4, 7)):  # lengths of sequences, peepholes
        return False
    usual = {**NEUTRAL, "activations": ACTIVATIONS[node.op_type]}
    return all(
        name in PLAIN or (name in usual and value == usual[name])
        for name, value in attributes.items()
    )


def _input(node: Any, index: int) -> str:
    return str(node.input[index]) if len(node.input) > index else ""


def _constants(graph: Any) -> dict[str, Any]:
    """Return the constants of a graph by name, as ONNX stores them."""
    stored = {one.name: one for one in graph.initializer}
    for node in graph.node:
        for one in node.attribute if node.op_type == "Constant" else ():
            if one.name == "value":
                stored[node.output[0]] = one.t
    return stored


def _shapes(graph: Any) -> dict[str, tuple[int | None, ...]]:
    """Return the shape of each tensor as far as known."""
    return {
        one.name: tuple(
            int(size.dim_value) if size.HasField("dim_value") else None
            for size in one.type.tensor_type.shape.dim
        )
        for one in (*graph.input, *graph.value_info, *graph.output)
    }
