"""ONNX models made plain: shapes known, constants computed, decided branches put in place.

Exporters leave arithmetic on shapes, branches on constants and functions of their own in a model.
A converter that meets these fails or guesses, so both ways to TFLite and OpenVINO get a model
without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from edgevid_converters.lowering.onnx_nodes import node_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

STANDARD = ("", "ai.onnx")
MOST_ROUNDS = 100
RANDOM = frozenset(
    {"Bernoulli", "Multinomial"}
    | {f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")}
)
KEPT = frozenset({"Loop", "Scan", "SequenceMap", "QuantizeLinear"})
"""Operators that are left alone: loops, and the mark of a quantised weight."""
RESTORING = frozenset({"DequantizeLinear"})
"""What makes floats of weights that are stored as integers."""


def folded(model: Any, *, integers: bool = False) -> Any:
    """Make a model plain; it computes the same.

    Args:
        model: An ONNX model whose inputs have fixed shapes.
        integers: Leave weights that are stored as integers as they are, for a converter that
            computes with them. Otherwise they become floats.

    Returns:
        A copy, with inferred shapes.
    """
    copy = _inlined(model)
    del copy.graph.value_info[:]
    kept = RESTORING if integers else frozenset[str]()
    for _ in range(MOST_ROUNDS):
        copy = inferred(copy)
        changed = _fold_constants(copy, kept) | _place_branches(copy)
        _drop_unused(copy.graph)
        if not changed:
            break
    return inferred(copy)


def _inlined(model: Any) -> Any:
    """Copy a model with the functions that it defines itself put in place."""
    import onnx
    import onnx.inliner

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return onnx.inliner.inline_local_functions(copy) if copy.functions else copy


def inferred(model: Any) -> Any:
    """Add the shapes that follow from the inputs; without those that contradict themselves."""
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError):
        return model


# ---------------------------------------------------------------- constants


def _fold_constants(model: Any, kept: frozenset[str]) -> bool:
    """Replace nodes whose inputs are known; returns whether there were any."""
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    known = {one.name for one in graph.initializer}
    shapes = known_shapes(graph)
    computed: list[Any] = []
    rest: list[Any] = []
    for node in graph.node:
        if node.op_type in ("Shape", "Size") and (shape := shapes.get(node.input[0])) is not None:
            found = _of_shape(node, shape)
            graph.initializer.append(
                numpy_helper.from_array(np.array(found, np.int64), node.output[0])
            )
            known.add(node.output[0])
        elif node.op_type not in kept and _is_constant(node, known):
            computed.append(node)
            known |= set(node.output)
        else:
            rest.append(node)
    if len(rest) == len(graph.node):
        return False
    needed = {name for node in rest for name in _read_by(node)}
    needed |= {one.name for one in graph.output}
    made = {name for node in computed for name in node.output if name}
    values = _computed(model, computed, sorted(made & needed))
    if values is None:
        rest = [node for node in graph.node if node in rest or node in computed]
        values = {}
    del graph.node[:]
    graph.node.extend(rest)
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in values.items())
    return bool(values) or len(rest) < len(computed) + len(rest)


def _of_shape(node: Any, shape: tuple[int, ...]) -> Any:
    """Return what Shape or Size gives for a known shape."""
    from math import prod

    if node.op_type == "Size":
        return prod(shape)
    bounds = {one.name: one.i for one in node.attribute}
    return shape[bounds.get("start", 0) : bounds.get("end")]


def _is_constant(node: Any, known: set[str]) -> bool:
    if node.op_type in RANDOM | KEPT or node.domain not in STANDARD:
        return False
    if any(one.HasField("g") or one.graphs for one in node.attribute):
        return False
    return all(name in known for name in node.input if name)


def _computed(model: Any, nodes: Iterable[Any], names: list[str]) -> dict[str, NDArray[Any]] | None:
    """Compute constants in ONNX Runtime; None if it cannot."""
    import onnx
    import onnxruntime

    if not names:
        return {}
    listed = list(nodes)
    read = {name for node in listed for name in node.input}
    stored = [one for one in model.graph.initializer if one.name in read]
    outputs = [onnx.ValueInfoProto(name=name) for name in names]
    graph = onnx.helper.make_graph(listed, "constants", [], outputs, stored)
    opsets = [one for one in model.opset_import if one.domain in STANDARD]
    part = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            part.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return dict(zip(names, session.run(names, {}), strict=True))
    except Exception:  # noqa: BLE001 - its errors have no common class; the nodes stay
        return None


# ---------------------------------------------------------------- branches


def _place_branches(model: Any) -> bool:
    """Put the branch of each If that a constant decides in its place."""
    from onnx import numpy_helper

    graph = model.graph
    stored = {one.name: one for one in graph.initializer}
    nodes: list[Any] = []
    changed = False
    for node in graph.node:
        if node.op_type != "If" or node.input[0] not in stored:
            nodes.append(node)
            continue
        chosen = bool(numpy_helper.to_array(stored[node.input[0]]).reshape(-1)[0])
        branch = next(
            one.g
            for one in node.attribute
            if one.name == ("then_branch" if chosen else "else_branch")
        )
        nodes += _placed(node, branch, graph)
        changed = True
    if changed:
        del graph.node[:]
        graph.node.extend(nodes)
    return changed


def _placed(node: Any, branch: Any, graph: Any) -> list[Any]:
    """Return a branch's nodes with names of their own; its weights go to ``graph``."""
    import onnx

    prefix = f"{node_name(node)}/"
    inner = onnx.GraphProto()
    inner.CopyFrom(branch)
    _rename(inner, {}, prefix)
    graph.initializer.extend(inner.initializer)
    outputs = zip(inner.output, node.output, strict=True)
    ends = [
        onnx.helper.make_node("Identity", [one.name], [name], f"{prefix}{name}")
        for one, name in outputs
        if name
    ]
    return [*inner.node, *ends]


def _rename(graph: Any, outer: Mapping[str, str], prefix: str) -> None:
    """Rename everything that a graph defines; ``outer`` are new names around it."""
    names = dict(outer)
    own = [one.name for one in (*graph.initializer, *graph.input)]
    own += [name for node in graph.node for name in node.output if name]
    names |= {name: prefix + name for name in own}
    for one in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        one.name = names.get(one.name, one.name)
    for node in graph.node:
        node.name = prefix + node_name(node)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for one in node.attribute:
            for part in [one.g] if one.HasField("g") else one.graphs:
                _rename(part, names, prefix)


# ---------------------------------------------------------------- the graph


def known_shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor whose sizes are all known."""
    found = {one.name: tuple(one.dims) for one in graph.initializer}
    for one in (*graph.input, *graph.value_info, *graph.output):
        kind = one.type.tensor_type
        if not one.type.HasField("tensor_type") or not kind.HasField("shape"):
            continue
        if all(size.HasField("dim_value") for size in kind.shape.dim):
            found.setdefault(one.name, tuple(size.dim_value for size in kind.shape.dim))
    return found


def _read_by(node: Any) -> set[str]:
    """Return every tensor that a node or a graph inside it reads."""
    found = set(node.input)
    for one in node.attribute:
        for part in [one.g] if one.HasField("g") else one.graphs:
            found |= {output.name for output in part.output}
            for inner in part.node:
                found |= _read_by(inner)
    return found


def _drop_unused(graph: Any) -> None:
    """Remove nodes and weights that no output needs."""
    needed = {one.name for one in graph.output}
    kept: list[Any] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= _read_by(node)
    weights = [one for one in graph.initializer if one.name in needed]
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(reversed(kept))
    if len(weights) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(weights)
