"""Float ``.tflite`` models in integers, with layers that may stay in float.

A layer is a product (a convolution, a matrix product) with what follows it up to the next one, and
with every other product that has the same weights: an unrolled LSTM is one layer, not sixteen. What
comes before the first product belongs to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from edgevid.errors import BadInput
from edgevid.registry import unknown
from edgevid_converters.lowering.protocol import LayerError, output_error, spread
from edgevid_converters.lowering.tflite.flatbuffer import Table, kinds, pack, parse, slice_splits
from edgevid_converters.lowering.tflite.joins import unequal_joins
from edgevid_converters.lowering.tflite.ranges import with_wide_enough_outputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples: TypeAlias = Callable[[], Iterator[dict[str, NDArray[Any]]]]

PRODUCTS = frozenset(
    {
        "BATCH_MATMUL",
        "CONV_2D",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
    }
)


@dataclass(frozen=True)
class TFLiteLayer:
    """A product and the operators that follow it.

    Attributes:
        name: Name of the first product's output.
        kind: Kind of the first product.
        outputs: Names of the outputs of all its operators.
    """

    name: str
    kind: str
    outputs: frozenset[str]


def calibrated(content: bytes, samples: Samples) -> bytes:
    """Stream recorded steps through a float model, and record the range of each tensor."""
    from tensorflow.lite.python.optimize.calibrator import (
        Calibrator,
        add_intermediate_tensors,
    )

    noted: bytes = Calibrator(add_intermediate_tensors(content)).calibrate(samples)
    return with_wide_enough_outputs(noted)


def quantize_int8(ranges: bytes, keep: Collection[str] = ()) -> bytes:
    """Quantise a model that knows its ranges to int8, except for the layers named ``keep``.

    Unequal parts are joined to an output in float, see `unequal_joins`.
    """
    return _quantize_int8(ranges, outputs_of(ranges, keep) | unequal_joins(ranges))


def _quantize_int8(ranges: bytes, left: Collection[str]) -> bytes:
    """Quantise it, except for the operators with an output in ``left``."""
    from tensorflow.lite.python.convert import mlir_quantize

    # It takes a set, and silently ignores any other collection.
    content: bytes = mlir_quantize(_with_sliced_splits(ranges, left), denylisted_nodes=set(left))
    return content


def quantize_int16x8(content: bytes, samples: Samples) -> bytes:
    """Quantise a float model to int8 weights with int16 values.

    The frame's own cast stays in float: the quantiser does not know it.
    """
    import tensorflow as tf
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    made: bytes = Calibrator(_with_sliced_splits(content)).calibrate_and_quantize(
        samples, tf.float32, tf.float32, True, tf.int16, tf.int64
    )
    return made


def layer_errors(content: bytes, ranges: bytes, samples: Samples) -> list[LayerError]:
    """Quantise each layer alone, and measure the error of the model's outputs."""
    found = layers(ranges)
    everything = frozenset().union(*(layer.outputs for layer in found))
    every = list(samples())
    steps = [every[place] for place in spread(len(every), len(found))]
    wanted = _outputs(content, steps)
    errors = []
    for layer in found:
        alone = _quantize_int8(ranges, everything - layer.outputs)
        error = output_error(wanted, _outputs(alone, steps))
        errors.append(LayerError(layer.name, layer.kind, error))
    return sorted(errors, key=lambda one: -one.error)


def layers(content: bytes) -> list[TFLiteLayer]:
    """Return the layers of a model's first graph, in order."""
    model = parse(content)
    names, graph = kinds(model), model.subgraphs[0]
    owners = _owners(model, graph, names)
    found = []
    for owner in dict.fromkeys(owner for owner in owners if owner is not None):
        members = [op for op, own in zip(graph.operators, owners, strict=True) if own == owner]
        outputs = frozenset(
            graph.tensors[int(i)].name.decode() for op in members for i in op.outputs
        )
        first = graph.operators[owner]
        name = graph.tensors[int(first.outputs[0])].name.decode()
        found.append(TFLiteLayer(name, names[first.opcodeIndex], outputs))
    return found


def outputs_of(content: bytes, names: Collection[str]) -> frozenset[str]:
    """Return the outputs of all operators of the named layers.

    Raises:
        BadInput: A name is unknown.
    """
    known = {layer.name: layer for layer in layers(content)} if names else {}
    for name in names:
        if name not in known:
            raise BadInput(unknown("layer", name, known))
    return frozenset().union(*(known[name].outputs for name in names))


def _owners(model: Table, graph: Table, names: Sequence[str]) -> list[int | None]:
    """For each operator the index of the product to whose layer it belongs."""
    of_tensor: dict[int, int] = {}
    of_weights: dict[int, int] = {}
    owners: list[int | None] = []
    for place, operator in enumerate(graph.operators):
        above = [of_tensor[int(i)] for i in operator.inputs if int(i) in of_tensor]
        owner = max(above, default=None)
        if names[operator.opcodeIndex] in PRODUCTS:
            buffer = int(graph.tensors[int(operator.inputs[1])].buffer)
            data = model.buffers[buffer].data
            shared = data is not None and len(data) > 0
            owner = of_weights.setdefault(buffer, place) if shared else place
        if owner is not None:
            of_tensor |= {int(i): owner for i in operator.outputs}
        owners.append(owner)
    for place in reversed(range(len(owners))):
        if owners[place] is None:
            given = {int(i) for i in graph.operators[place].outputs}
            below = (
                owners[user]
                for user in range(place + 1, len(owners))
                if given & {int(i) for i in graph.operators[user].inputs}
            )
            owners[place] = next(below, None)
    return owners


def _with_sliced_splits(content: bytes, left: Collection[str] = ()) -> bytes:
    """Replace the splits that the quantiser mistreats: half-used ones, and those left in float."""
    model = parse(content)
    slice_splits(model, left)
    return pack(model)


def _outputs(content: bytes, steps: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Compute the outputs for each step, stacked; with plain kernels, no delegate can crash."""
    import numpy as np
    from ai_edge_litert import interpreter as litert

    plain = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    loaded: Any = litert.Interpreter(
        model_content=content, experimental_op_resolver_type=plain, num_threads=1
    )
    loaded.allocate_tensors()
    runner = loaded.get_signature_runner(next(iter(loaded.get_signature_list())))
    rows = [runner(**step) for step in steps]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
