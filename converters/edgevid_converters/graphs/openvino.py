"""The graph of an OpenVINO IR: what rounds the inputs of a product determines its type."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from edgevid import registry
from edgevid_converters.graphs.graph import FLOAT, HALF, MOVES, PORT, WEIGHTS, Graph, Node
from edgevid_converters.lowering.openvino.converter import MOVES as MOVING
from edgevid_converters.lowering.openvino.converter import OpenVINO
from edgevid_converters.lowering.openvino.integers import PRODUCTS
from edgevid_converters.lowering.openvino.integers import Node as Native


def read(files: Mapping[str, bytes]) -> Graph:
    """Read the graph; `OpenVINO.float_ops` decides what computes in float."""
    openvino = registry.need("openvino", "openvino")
    model = openvino.Core().read_model(model=files["xml"], weights=files["bin"])
    floats = {operator.name for operator in OpenVINO().float_ops(files)}
    nodes: list[Node] = []
    places: dict[str, int] = {}
    for native in model.get_ordered_ops():
        name = native.get_friendly_name()
        if native.get_type_name() == "Constant":
            continue
        places[name] = len(nodes)
        nodes.append(_node(native, floats, places, nodes))
    return Graph(tuple(nodes))


def _node(
    native: Native, floats: Collection[str], places: Mapping[str, int], nodes: Sequence[Node]
) -> Node:
    kind, name = native.get_type_name(), native.get_friendly_name()
    sources = [value.get_node().get_friendly_name() for value in native.input_values()]
    above = tuple(places[source] for source in sources if source in places)
    if kind == "Parameter":
        return Node("input", _port(native), PORT)
    if kind == "Result":
        return Node("output", _port(native), PORT, above)
    if all(nodes[place].computes == WEIGHTS for place in above):
        return Node(kind, name, WEIGHTS, above)
    if kind not in PRODUCTS:
        computes = MOVES if kind in MOVING else FLOAT if name in floats else "integers"
        return Node(kind, name, computes, above)
    second = sources[1]
    unpacked = second not in places or nodes[places[second]].computes == WEIGHTS
    weights = f"weights {second}" if unpacked else f"values of {name}"
    if name not in floats:
        return Node(kind, name, "int8", above, weights)
    to_dynamic = unpacked and _is_in_bytes(native.input_value(1).get_node())
    return Node(kind, name, HALF if to_dynamic else FLOAT, above, weights)


def _port(native: Native) -> str:
    """Return the public name of an input or output."""
    port = native.output(0) if native.get_type_name() == "Parameter" else native.input_value(0)
    return str(min(port.get_names(), default=native.get_friendly_name()))


def _is_in_bytes(native: Native) -> bool:
    """Whether weights are unpacked from a constant of 8-bit integers or smaller."""
    while native.get_type_name() != "Constant":
        native = native.input_value(0).get_node()
    element = native.get_element_type()
    return bool(element.is_integral() and element.bitwidth <= 8)
