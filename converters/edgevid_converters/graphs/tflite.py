"""The graph of a ``.tflite`` file: the types of tensors determine what an operator computes in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from edgevid import registry
from edgevid_converters.graphs.graph import FLOAT, HALF, MOVES, PORT, WEIGHTS, Graph, Node
from edgevid_converters.lowering.tflite.converter import MOVES as MOVING
from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds, parse
from edgevid_converters.lowering.tflite.integers import PRODUCTS


def read(files: Mapping[str, bytes]) -> Graph:
    """Read the first graph of the file; operators that a compiler fused are one."""
    registry.need("ai_edge_litert", "runner")
    model = parse(files["tflite"])
    graph, names = model.subgraphs[0], kinds(model)
    taken, given = _ports(model, graph)
    nodes: list[Node] = []
    makers: dict[int, int] = {}
    for name, tensor in taken:
        makers[tensor] = len(nodes)
        nodes.append(Node("input", name, PORT))
    for operator in graph.operators:
        node = _node(model, graph, names[operator.opcodeIndex], operator, makers, nodes)
        makers |= {int(i): len(nodes) for i in operator.outputs}
        nodes.append(node)
    nodes += [Node("output", name, PORT, (makers[t],)) for name, t in given if t in makers]
    return Graph(tuple(nodes))


def _ports(model: Table, graph: Table) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return names and tensors of inputs and outputs; names of the signature, if there is one."""
    if model.signatureDefs:
        signature = model.signatureDefs[0]
        sides = (signature.inputs, signature.outputs)
        one, two = ([(p.name.decode(), int(p.tensorIndex)) for p in side] for side in sides)
        return sorted(one), sorted(two)
    one, two = (
        [(graph.tensors[int(i)].name.decode(errors="replace"), int(i)) for i in side]
        for side in (graph.inputs, graph.outputs)
    )
    return one, two


def _node(
    model: Table,
    graph: Table,
    kind: str,
    operator: Table,
    makers: Mapping[int, int],
    nodes: Sequence[Node],
) -> Node:
    inputs = [int(i) for i in operator.inputs if int(i) >= 0]
    values = [makers[i] for i in inputs if i in makers and nodes[makers[i]].computes != WEIGHTS]
    unpacked = [i for i in inputs if i in makers and nodes[makers[i]].computes == WEIGHTS]
    stored = [i for i in inputs if i not in makers]
    outputs = [graph.tensors[int(i)] for i in operator.outputs]
    name = outputs[0].name.decode(errors="replace") if outputs else kind
    weights: str | None = None
    if kind in PRODUCTS and len(inputs) > 1:
        weights = f"tensor {inputs[1]}"
        if inputs[1] in stored:
            weights = f"buffer {graph.tensors[inputs[1]].buffer}"
        elif inputs[1] not in unpacked:
            weights = f"values of {name}"  # a product of two values shares nothing
    types = {graph.tensors[i].type for i in stored}
    computes = _computes(kind, outputs, types) if values else WEIGHTS
    return Node(kind, name, computes, tuple(makers[i] for i in inputs if i in makers), weights)


def _computes(kind: str, outputs: Collection[Table], constants: Collection[int]) -> str:
    from ai_edge_litert import schema_py_generated as schema

    types = schema.TensorType
    if kind in MOVING:
        return MOVES
    given = {tensor.type for tensor in outputs}
    if given & {types.FLOAT16, types.FLOAT32, types.FLOAT64}:
        return HALF if kind in PRODUCTS and types.INT8 in constants else FLOAT
    if given & {types.INT8, types.UINT8}:
        return "int8"
    return "int16" if types.INT16 in given else "integers"
