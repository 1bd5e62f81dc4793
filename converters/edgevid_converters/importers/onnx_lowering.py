"""ONNX models written in TensorFlow, operator by operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput, reason_of
from edgevid_converters.importers.onnx_operators import (
    FOLDED,
    REMEDIES,
    TABLE,
    OnnxNode,
    Operand,
    Unsupported,
    Value,
)
from edgevid_converters.importers.onnx_operators.elementwise import chosen
from edgevid_converters.importers.onnx_patterns import fused
from edgevid_converters.lowering.onnx_nodes import all_nodes, node_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

STANDARD = ("", "ai.onnx")
OTHERWISE = "convert it for OpenVINO: -f openvino"


class NotLowered(BadInput):
    """An operator cannot be lowered; the message names it, its node and a remedy."""


class OnnxGraph:
    """Calls an ONNX model's operators in TensorFlow.

    What depends only on constants and fixed shapes is computed at once, and a condition that is
    known then chooses its branch.
    """

    def __init__(self, model: Any) -> None:
        """Take an ONNX model whose inputs have fixed shapes.

        Raises:
            NotLowered: It has an operator that cannot be lowered.
        """
        self._model = model = fused(model)
        self._opset = max(
            (one.version for one in model.opset_import if one.domain in STANDARD), default=1
        )
        for node in all_nodes(model.graph):
            if node.op_type not in TABLE and node.op_type not in FOLDED:
                raise _refused(node, "it is not among the operators that edgevid lowers")

    def __call__(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Compute the outputs.

        Args:
            inputs: Input name -> a tensor in the order of the ONNX model, or stored in another.

        Returns:
            Output name -> its tensor.

        Raises:
            NotLowered: An operator's use cannot be lowered.
        """
        scope: dict[str, Operand | None] = dict(inputs)
        return {name: _value(scope[name]) for name in self._run(self._model.graph, scope)}

    def _run(self, graph: Any, scope: dict[str, Operand | None]) -> list[str]:
        """Compute a graph into ``scope``; returns the names of its outputs."""
        from onnx import numpy_helper

        for one in graph.initializer:
            scope[one.name] = numpy_helper.to_array(one)
        outputs = [one.name for one in graph.output]
        readers = _readers(graph)
        for node in graph.node:
            if any(readers[name] for name in node.output if name):
                found = self._outputs(node, scope, readers)
                scope.update(zip(node.output, found, strict=False))
            for name in node.input:
                readers[name] -= 1
        return outputs

    def _outputs(
        self, node: Any, scope: dict[str, Operand | None], readers: Mapping[str, int]
    ) -> Sequence[Operand | None]:
        inputs = tuple(scope.get(name) if name else None for name in node.input)
        if node.op_type == "If":
            return self._branch(node, inputs[0], scope)
        if not any(isinstance(one, Value) for one in inputs):
            return _computed(node, inputs, self._model)
        if node.op_type not in TABLE:
            raise _refused(node, "it depends on the model's input")
        used = tuple(bool(name and readers[name]) for name in node.output)
        import tensorflow as tf

        given = OnnxNode(node.op_type, self._opset, inputs, _attributes(node), used)
        try:
            with tf.name_scope(_scope(node)):
                found = TABLE[node.op_type](given)
        except Unsupported as error:
            raise _refused(node, str(error)) from None
        except (ValueError, TypeError, IndexError, KeyError, AssertionError) as error:
            raise _refused(node, f"TensorFlow rejects it ({reason_of(error)})") from None
        return found if isinstance(found, tuple) else (found,)

    def _branch(
        self, node: Any, test: Operand | None, scope: Mapping[str, Operand | None]
    ) -> list[Operand | None]:
        """Compute the branch of an If that a constant chooses, or both, and choose at run time."""
        assert test is not None
        if not isinstance(test, Value):
            return self._inside(node, bool(test.reshape(-1)[0]), scope)
        found: list[Operand | None] = []
        for one, other in zip(
            *(self._inside(node, which, scope) for which in (True, False)), strict=True
        ):
            assert one is not None and other is not None
            if one.shape != other.shape:
                raise _refused(
                    node,
                    "its branches give different sizes, and its condition depends on the input",
                )
            found.append(chosen(test, one, other))
        return found

    def _inside(
        self, node: Any, which: bool, scope: Mapping[str, Operand | None]
    ) -> list[Operand | None]:
        name = "then_branch" if which else "else_branch"
        branch = next(one.g for one in node.attribute if one.name == name)
        inner = dict(scope)
        return [inner[output] for output in self._run(branch, inner)]


def _value(operand: Operand | None) -> Value:
    from edgevid_converters.importers.onnx_operators.value import constant

    assert operand is not None
    return operand if isinstance(operand, Value) else Value.natural(constant(operand))


def _readers(graph: Any) -> Counter[str]:
    """Count how often each tensor is read, graphs inside nodes and outputs included."""
    found = Counter(one.name for one in graph.output)
    for node in graph.node:
        found.update(node.input)
        inner = [one.g for one in node.attribute if one.HasField("g")]
        for part in inner:
            found.update(one.name for one in part.output)
            for deep in all_nodes(part):
                found.update(deep.input)
    return found


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _computed(node: Any, inputs: Sequence[Operand | None], model: Any) -> list[NDArray[Any]]:
    """Compute a node whose inputs are all known."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    known = {name: one for name, one in zip(node.input, inputs, strict=True) if name}
    names = [name for name in node.output if name]
    given = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(one.dtype), one.shape
        )
        for name, one in known.items()
        if isinstance(one, np.ndarray)
    ]
    graph = onnx.helper.make_graph(
        [node], "constant", given, [onnx.ValueInfoProto(name=name) for name in names]
    )
    opsets = [one for one in model.opset_import if one.domain in STANDARD]
    part = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    try:
        found = dict(zip(names, ReferenceEvaluator(part).run(names, known), strict=True))
    except Exception as error:  # noqa: BLE001 - every operator of the reference has its own errors
        raise _refused(node, f"its constants cannot be computed ({reason_of(error)})") from None
    return [np.asarray(found[name]) if name else np.zeros(0) for name in node.output]


def _scope(node: Any) -> str:
    """Return a node's name as TensorFlow allows it, so that layers are found again."""
    name = "".join(
        c if c.isascii() and (c.isalnum() or c in "_.-/") else "_" for c in node_name(node)
    )
    return f"{name.strip('/_.-') or node.op_type}/"


def _refused(node: Any, why: str) -> NotLowered:
    remedy = REMEDIES.get(node.op_type)
    advice = f"{remedy}, or {OTHERWISE}" if remedy else OTHERWISE
    return NotLowered(
        f"operator {node.op_type} (node {node_name(node)!r}) cannot be lowered to TFLite: {why}; "
        f"{advice}"
    )
