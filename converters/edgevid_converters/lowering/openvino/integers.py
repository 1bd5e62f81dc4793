"""OpenVINO graphs in integers by NNCF, with layers that may stay in float.

Only products are quantised. The elementwise rest of an unrolled head stays in float: it is a small
part of the time, and quantising it makes the file three times larger and no faster. A layer is all
products with the same weights: the matrix of an unrolled LSTM is one, not sixteen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from edgevid.errors import BadInput
from edgevid.registry import unknown
from edgevid.runtimes.openvino import UNFUSED
from edgevid_converters.lowering.protocol import LayerError, output_error, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Steps: TypeAlias = Sequence[Mapping[str, NDArray[Any]]]

Node: TypeAlias = Any
"""A node, port or model of OpenVINO's graph, which has no public types."""

MOVED = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Nodes that only move values."""
PRODUCTS = frozenset(
    {
        "Convolution",
        "ConvolutionBackpropData",
        "GroupConvolution",
        "GroupConvolutionBackpropData",
        "MatMul",
    }
)
F32 = {"INFERENCE_PRECISION_HINT": "f32", **UNFUSED}


@dataclass(frozen=True)
class OpenVINOLayer:
    """All products with the same weights.

    Attributes:
        name: Name of the first one.
        kind: Kind of the first one.
        products: Names of all nodes.
    """

    name: str
    kind: str
    products: tuple[str, ...]


def quantize_int8(model: Node, steps: Steps, keep: Collection[str] = ()) -> Node:
    """Quantise the products on recorded steps, except for the layers named ``keep``."""
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    kinds = {node.get_type_name() for node in model.get_ops()}
    rest = sorted(kinds - PRODUCTS - {"Constant", "Parameter", "Result"})
    # By default NNCF takes the mean of each sample's extremes, which clips values that a stream
    # rarely reaches; full ranges had a tenth of the error on window models, half on carried ones.
    ranges = RangeEstimatorParametersSet.MINMAX
    return nncf.quantize(
        model,
        nncf.Dataset(steps),
        subset_size=len(steps),
        ignored_scope=nncf.IgnoredScope(
            names=sorted(operators_of(model, keep)), types=rest, validate=False
        ),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=ranges
        ),
    )


def ignored_products(model: Node) -> frozenset[str]:
    """Return the products that NNCF leaves in float on purpose, by its own ignored patterns.

    Nothing if no pattern can match, or this NNCF keeps its patterns elsewhere.
    """
    kinds = {node.get_type_name() for node in model.get_ops()}
    gated = "ReduceMean" in kinds and kinds & {"Sigmoid", "HSigmoid"}
    attends = "MatMul" in kinds and kinds & {"Softmax", "Cos"}
    if not gated and not attends:
        return frozenset()
    try:
        from nncf.common.factory import build_graph
        from nncf.common.graph.patterns.manager import PatternsManager
        from nncf.common.utils.backend import BackendType
        from nncf.parameters import TargetDevice
        from nncf.quantization.algorithms.min_max.openvino_backend import OVMinMaxAlgoBackend
        from nncf.quantization.passes import transform_to_inference_graph

        graph, backend = build_graph(model), OVMinMaxAlgoBackend()
        patterns = PatternsManager.get_full_ignored_pattern_graph(
            backend=BackendType.OPENVINO, device=TargetDevice.ANY, model_type=None
        )
        inference = transform_to_inference_graph(
            deepcopy(graph),
            backend.get_start_nodes_for_activation_path_tracing(graph),
            backend.shapeof_metatypes,
            backend.noop_metatypes,
            backend.preserved_metatypes,
            backend.inference_graph_transformations,
        )
        found = inference.find_matching_subgraphs(patterns)
    except (AttributeError, ImportError, TypeError):
        return frozenset()
    names = {node.node_name for nodes in found for node in nodes}
    products = (node for node in model.get_ops() if node.get_type_name() in PRODUCTS)
    return frozenset(node.get_friendly_name() for node in products) & names


def to_dynamic(model: Node) -> Node:
    """Store the weights of products as int8 with a scale for each channel; values stay in float."""
    import nncf

    return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)


def layers(model: Node) -> list[OpenVINOLayer]:
    """Return the layers, in order, of a float model whose equal nodes are merged."""
    grouped: dict[str, list[Node]] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in PRODUCTS:
            weights = _constant_above(node.input(1))
            key = weights.get_name() if weights else node.get_name()
            grouped.setdefault(key, []).append(node)
    return [
        OpenVINOLayer(
            found[0].get_friendly_name(),
            found[0].get_type_name(),
            tuple(node.get_friendly_name() for node in found),
        )
        for found in grouped.values()
    ]


def operators_of(model: Node, names: Collection[str]) -> frozenset[str]:
    """Return the products of the named layers.

    Raises:
        BadInput: A name is unknown.
    """
    known = {layer.name: layer for layer in layers(model)} if names else {}
    for name in names:
        if name not in known:
            raise BadInput(unknown("layer", name, known))
    return frozenset(product for name in names for product in known[name].products)


def layer_errors(model: Node, whole: Node, steps: Steps) -> list[LayerError]:
    """Measure the error of each layer alone in int8; ``whole`` is the model in int8."""
    made = {node.get_friendly_name(): node for node in whole.get_ops()}
    found = layers(model)
    some = [steps[place] for place in spread(len(steps), len(found))]
    wanted = _outputs(model, some)
    errors = []
    for layer in found:
        alone = model.clone()
        for node in alone.get_ordered_ops():
            if node.get_friendly_name() in layer.products:
                _quantise_like(node, made[node.get_friendly_name()])
        error = output_error(wanted, _outputs(alone, some))
        errors.append(LayerError(layer.name, layer.kind, error))
    return sorted(errors, key=lambda one: -one.error)


def with_layers_in_float(whole: Node, model: Node, keep: Collection[str]) -> Node | None:
    """Return a copy of an int8 model with some layers as they are in the float model.

    Unlike quantising again it measures no ranges again, and leaves every other layer as it is.

    Args:
        whole: The model in int8.
        model: The float model that it was made from.
        keep: The layers, as `layers` names them.

    Returns:
        The copy; None where a kept layer shares its rounded values with others behind a node that
        only moves values, which NNCF alone can take apart.

    Raises:
        BadInput: A name is unknown.
    """
    names = operators_of(model, keep)
    floats = {node.get_friendly_name(): node for node in model.get_ops()}
    made = whole.clone()
    found = [node for node in made.get_ordered_ops() if node.get_friendly_name() in names]
    if len(found) != len(names) or not all(_revert(n, floats, names) for n in found):
        return None
    made.validate_nodes_and_infer_types()
    return made


def _revert(node: Node, floats: Mapping[str, Node], names: Collection[str]) -> bool:
    """Give a quantised product its float inputs and bias; False if others would change too."""
    from openvino import opset13 as ops

    like = floats[node.get_friendly_name()]
    for port, own in zip(node.inputs(), like.inputs(), strict=True):
        rounded = _rounding_above(port)
        if _constant_above(own) is not None:
            value = ops.constant(_value_of(own))
            port.replace_source_output(value.output(0))
        elif rounded is not None:
            while (above := port.get_source_output().get_node()) != rounded:
                users = {one.get_node().get_friendly_name() for one in _users(above)}
                if not users <= set(names):
                    return False
                port = above.input(0)
            port.replace_source_output(rounded.input_value(0))
    for bias in _biases(node):
        originals = list(_biases(like))
        value = _value_of(originals[0]) if originals else 0 * _value_of(bias)
        bias.replace_source_output(ops.constant(value).output(0))
    return True


def _users(node: Node) -> Iterator[Node]:
    for port in node.outputs():
        yield from port.get_target_inputs()


def _biases(node: Node) -> Iterator[Node]:
    """Return the constant inputs of additions right behind a product; NNCF corrects them."""
    for user in _users(node):
        adding = user.get_node()
        if adding.get_type_name() == "Add":
            other = adding.input(1 - user.get_index())
            if _constant_above(other) is not None:
                yield other


def _value_of(port: Node) -> NDArray[Any]:
    return _value(port.get_source_output())


def _quantise_like(node: Node, model: Node) -> None:
    """Give a float product the rounded inputs of its quantised counterpart."""
    from openvino import opset13 as ops

    for port, like in zip(node.inputs(), model.inputs(), strict=True):
        rounded = _rounding_above(like)
        if rounded is not None:
            own = port.get_source_output()
            chain: list[Node] = []
            for _ in range(_count_moves(like)):  # a range for each channel belongs above them
                chain.append(own.get_node())
                own = chain[-1].input_value(0)
            value = _rounded(own, rounded)
            for move in reversed(chain):
                value = _moved(move, value)
            port.replace_source_output(value.output(0))
        elif _constant_above(like) is not None:
            port.replace_source_output(ops.constant(_value(like.get_source_output())).output(0))


def _rounding_above(port: Node) -> Node | None:
    """Return the FakeQuantize in front of an input, through nodes that only move values."""
    source = port.get_source_output().get_node()
    while source.get_type_name() in MOVED:
        source = source.input_value(0).get_node()
    return source if source.get_type_name() == "FakeQuantize" else None


def _rounded(value: Node, like: Node) -> Node:
    """Round values as a FakeQuantize does, in plain operators.

    The CPU plug-in takes no FakeQuantize with ranges along the last axis of a frame.
    """
    import numpy as np
    from openvino import opset13 as ops

    low, high, first, last = (_value(like.input_value(place)) for place in range(1, 5))
    most = int(like.get_attributes()["levels"]) - 1
    span = np.where(high > low, high - low, np.inf)
    kept = ops.minimum(ops.maximum(value, ops.constant(low)), ops.constant(high))
    level = ops.multiply(ops.subtract(kept, ops.constant(low)), ops.constant(_f32(most / span)))
    step = ops.constant(_f32((last - first) / most))
    return ops.add(ops.multiply(ops.round(level, "half_to_even"), step), ops.constant(first))


def _f32(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype("float32")


def _count_moves(port: Node) -> int:
    """Count the nodes above an input that only move values."""
    count, source = 0, port.get_source_output().get_node()
    while source.get_type_name() in MOVED:
        count, source = count + 1, source.input_value(0).get_node()
    return count


def _moved(move: Node, value: Node) -> Node:
    """Move other values as a node of `MOVED` does."""
    from openvino import opset13 as ops

    others = move.input_values()[1:]
    kind = move.get_type_name()
    if kind == "Reshape":
        return ops.reshape(value, others[0], bool(move.get_attributes()["special_zero"]))
    return getattr(ops, kind.lower())(value, *others)


def _constant_above(port: Node) -> Node | None:
    """Return the one constant that an input comes from, whatever is computed in between."""
    source = port.get_source_output().get_node()
    while source.get_type_name() != "Constant":
        values = [value.get_node() for value in source.input_values()]
        if not values or any(not _is_constant(value) for value in values):
            return None
        source = values[0]
    return source


def _is_constant(node: Node) -> bool:
    """Whether nothing above a node depends on the model's inputs."""
    values = node.input_values()
    if not values:
        return bool(node.get_type_name() == "Constant")
    return all(_is_constant(value.get_node()) for value in values)


def _value(output: Node) -> NDArray[Any]:
    """Compute the value of a part of a graph that depends on no input."""
    import openvino

    if output.get_node().get_type_name() == "Constant":
        return output.get_node().data.copy()  # type: ignore[no-any-return]
    compiled = openvino.compile_model(openvino.Model([output], []), "CPU", F32)
    value: NDArray[Any] = compiled([])[0].copy()
    return value


def _outputs(model: Node, steps: Steps) -> dict[str, NDArray[Any]]:
    """Compute the outputs for each step, stacked."""
    import numpy as np
    import openvino

    request = openvino.compile_model(model, "CPU", F32).create_infer_request()
    names = [port.get_any_name() for port in model.outputs]
    rows = []
    for step in steps:
        request.infer(dict(step))
        rows.append({name: request.get_tensor(name).data.copy() for name in names})
    return {name: np.stack([row[name] for row in rows]) for name in names}
