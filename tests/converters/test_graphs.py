"""Graphs read from artifacts: each operator once, in the colour of what it computes in."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest

from edgevid.evidence import OperatorCount
from edgevid_converters import graphs
from edgevid_converters.graphs.draw import LEGEND, common, draw, label, look, short
from edgevid_converters.graphs.graph import Graph, Node
from edgevid_converters.graphs.layout import MOST_OPERATORS, condense_graph, ranks
from edgevid_converters.lowering.openvino.integers import PRODUCTS as OPENVINO_PRODUCTS
from edgevid_converters.lowering.tflite.flatbuffer import kinds, parse
from edgevid_converters.lowering.tflite.integers import PRODUCTS as TFLITE_PRODUCTS

PRODUCTS = {"openvino": OPENVINO_PRODUCTS, "tflite": TFLITE_PRODUCTS}
# What the IR calls otherwise than OpenVINO's own nodes.
SPOKEN = {"ReLU": "Relu", "SoftMax": "Softmax"}


def operators_in(files) -> Counter:
    """Count the kinds of operators by other means than `graphs`."""
    if "tflite" in files:
        model = parse(files["tflite"])
        names = kinds(model)
        return Counter(names[op.opcodeIndex] for op in model.subgraphs[0].operators)
    listed = [layer.get("type") for layer in ElementTree.fromstring(files["xml"]).iter("layer")]
    return Counter(SPOKEN.get(k, k) for k in listed if k not in ("Const", "Parameter", "Result"))


EXPECTED = {  # what products compute in
    "float32": "float32",
    "float16": "float32",
    "dynamic": "float32, int8 weights",
    "int8": "int8",
    "int16x8": "int16",
}


@pytest.mark.parametrize("name", [f"tflite-{quantize}" for quantize in EXPECTED] + [
    f"openvino-{quantize}" for quantize in EXPECTED if quantize != "int16x8"
])  # fmt: skip
def test_each_operator_is_in_one_box_of_the_right_colour(lowered, name):
    format_name, _, quantize = name.partition("-")
    files = lowered.files(name)
    graph = graphs.read(format_name, files)
    there = operators_in(files)
    assert Counter(node.kind for node in graph.operators) == there
    products = [node for node in graph.nodes if node.is_product]
    assert len(products) == sum(there[kind] for kind in PRODUCTS[format_name])
    found = {node.computes for node in products}
    small = {"float32"} if quantize == "dynamic" else set()  # few weights are not worth bytes
    assert EXPECTED[quantize] in found and found - small == {EXPECTED[quantize]}
    boxes = condense_graph(graph)
    drawn = Counter(dict(sum((Counter(dict(box.kinds)) for box in boxes.boxes), Counter())))
    ports = Counter(node.kind for node in graph.nodes if not node.computes)
    weights = Counter(node.kind for node in graph.nodes if node.computes == "weights")
    assert drawn - ports == there - weights
    looks = {look(box) for box in boxes.boxes}
    assert looks <= set(LEGEND) and "floats kept" not in looks
    assert ("integers" in looks) == (quantize in ("int8", "int16x8"))
    assert ("halves" in looks) == (quantize == "dynamic")
    ports_named = {box.names[0] for box in boxes.boxes if look(box) == "port"}
    contract = lowered.source.contract
    assert ports_named == {
        *(one.name for one in contract.inputs),
        *(output.name for output in contract.outputs),
    } | {name for state in contract.states for name in (state.input_name, state.output_name)}
    result = graphs.table(graph)
    assert Counter({row.kind: 0 for row in result}).keys() == there.keys()
    assert sum(row.count for row in result) == sum(there.values())


def test_layers_kept_by_a_repair_are_marked(lowered):
    graph = graphs.read("tflite", lowered.files("tflite-int8"))
    product = next(node for node in graph.nodes if node.is_product)
    svg, boxes = draw(graph, [product.name], "a <title>")
    assert sum(box.kept for box in boxes.boxes) == 1
    assert svg.count("kept") == 1 and "a &lt;title&gt;" in svg
    assert "<rect" in svg and "script" not in svg


def chain(*kinds_and_computes, weights=True) -> Graph:
    nodes = [Node("input", "frame", "")]
    for number, (kind, computes) in enumerate(kinds_and_computes):
        product = f"w{number}" if kind == "CONV" and weights else None
        nodes.append(Node(kind, f"{kind}{number}", computes, (number,), product))
    return Graph((*nodes, Node("output", "scores", "", (len(nodes) - 1,))))


def test_runs_end_where_a_product_begins_or_the_precision_changes():
    first = (("CONV", "int8"), ("ADD", "int8"), ("RESHAPE", "moves"))
    graph = chain(*first, ("CONV", "int8"), ("TANH", "float32"))
    made = [(box.computes, box.kinds) for box in condense_graph(graph).boxes]
    assert made == [
        ("", (("input", 1),)),
        ("int8", (("CONV", 1), ("ADD", 1), ("RESHAPE", 1))),
        ("int8", (("CONV", 1),)),
        ("float32", (("TANH", 1),)),
        ("", (("output", 1),)),
    ]


def test_similar_boxes_of_a_wide_row_are_merged():
    nodes = [Node("input", "frame", "")]
    nodes += [Node("TANH", f"t{k}", "float32", (0,)) for k in range(6)]
    nodes += [Node("CONCAT", "c", "moves", tuple(range(1, 7)))]
    boxes = condense_graph(Graph(tuple(nodes)))
    assert [box.kinds for box in boxes.boxes] == [
        (("input", 1),),
        (("TANH", 6),),
        (("CONCAT", 1),),
    ]
    assert boxes.down == ((0, 1), (1, 2)) and not boxes.back


def test_a_large_graph_is_drawn_by_layers_and_a_loop_leads_back():
    nodes = [Node("input", "frame", "")]
    for _ in range(MOST_OPERATORS // 2 + 1):  # one recurrent product, unrolled, and its float rest
        nodes.append(Node("MATMUL", f"m{len(nodes)}", "int8", (len(nodes) - 1,), "shared"))
        nodes.append(Node("TANH", f"t{len(nodes)}", "float32", (len(nodes) - 1,)))
    boxes = condense_graph(Graph(tuple(nodes)))
    count = MOST_OPERATORS // 2 + 1
    assert boxes.by_layer
    assert [box.kinds for box in boxes.boxes] == [
        (("input", 1),),
        (("MATMUL", count),),
        (("TANH", count),),
    ]
    assert boxes.down == ((0, 1), (1, 2)) and boxes.back == ((2, 1),)
    assert 'class="again"' in draw(Graph(tuple(nodes)))[0]


def test_operators_that_unpack_weights_are_not_drawn():
    nodes = (
        Node("input", "frame", ""),
        Node("DEQUANTIZE", "d", "weights"),
        Node("CONV", "c", "float32", (0, 1), "unpacked"),
    )
    boxes = condense_graph(Graph(nodes))
    assert [box.kinds for box in boxes.boxes] == [(("input", 1),), (("CONV", 1),)]
    assert graphs.table(Graph(nodes))[1] == OperatorCount("DEQUANTIZE", "weights", 1)


def test_an_input_is_right_above_its_user():
    assert ranks(5, [(0, 2), (2, 3), (3, 4), (1, 4)]) == [0, 2, 1, 2, 3]


def test_labels_are_short():
    assert common(["a/b/c", "x;a/b/d/e", "a/b/f"]) == "a/b/" and common(["a", "b"]) == ""
    assert short("a/b;step/take/conv_1/Relu", "step/take/") == "conv_1/Relu"
    assert short("x" * 60).startswith("…") and len(short("x" * 60)) == 40
    graph = chain(("CONV", "int8"), *((f"KIND_{k}", "int8") for k in range(40)))
    (box,) = (box for box in condense_graph(graph).boxes if box.computes)
    assert len(label(box)) <= 6 and label(box)[-1] == ("CONV0", "axis")
