"""Joins of values of different sizes at the end of a model: one int8 scale cannot hold them."""

from __future__ import annotations

from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds, parse, value_range

UNEQUAL = 8.0
"""How much larger one part's range is than another's for the join to stay in float: the smaller one
would lose three of its eight bits."""
JOIN = "CONCATENATION"
MOVED = frozenset({JOIN, "EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE"})


def unequal_joins(ranges: bytes) -> frozenset[str]:
    """Find the operators that join unequal parts of an output, and those that move it afterwards.

    A detector's boxes in pixels and scores up to 1 in one tensor are such parts: with one scale all
    scores become 0. In float each part keeps the scale of its own layer, and nothing is computed.

    Args:
        ranges: A float model that knows the range of each tensor.

    Returns:
        The outputs of these operators, by name.
    """
    model = parse(ranges)
    names, graph = kinds(model), model.subgraphs[0]
    makers = {int(i): operator for operator in graph.operators for i in operator.outputs}
    readers: dict[int, int] = {int(i): 1 for i in graph.outputs}
    for operator in graph.operators:
        for index in operator.inputs:
            readers[int(index)] = readers.get(int(index), 0) + 1
    found: set[str] = set()
    for output in graph.outputs:
        moved: list[str] = []
        at = int(output)
        while at in makers and names[makers[at].opcodeIndex] in MOVED and readers[at] == 1:
            operator = makers[at]
            moved.append(graph.tensors[at].name.decode())
            if names[operator.opcodeIndex] == JOIN:
                if _is_unequal([graph.tensors[int(i)] for i in operator.inputs]):
                    found |= set(moved)
                break
            at = int(operator.inputs[0])
    return frozenset(found)


def _is_unequal(parts: list[Table]) -> bool:
    sizes = [_largest(part) for part in parts]
    known = [size for size in sizes if size]
    return bool(known) and max(known) > UNEQUAL * min(known)


def _largest(tensor: Table) -> float:
    """Return the largest absolute value that a tensor had; 0 if unknown."""
    low, high = value_range(tensor) or (0.0, 0.0)
    return max(abs(low), abs(high))
