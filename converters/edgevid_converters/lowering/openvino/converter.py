"""OpenVINO artifacts: float, int8 weights only, and int8 with integer products."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgevid.contract import Contract
from edgevid_converters.lowering.openvino import metadata as openvino_metadata
from edgevid_converters.lowering.openvino.front_end import read
from edgevid_converters.lowering.openvino.integers import (
    PRODUCTS,
    Node,
    ignored_products,
    layer_errors,
    operators_of,
    quantize_int8,
    to_dynamic,
    with_layers_in_float,
)
from edgevid_converters.lowering.openvino.work import work_of
from edgevid_converters.lowering.protocol import Converter, LayerError, Operator

# Operators that move or regroup values, or convert them to or from integers.
MOVES = frozenset(
    {
        "Concat",
        "Constant",
        "FakeQuantize",
        "Gather",
        "Pad",
        "Parameter",
        "Reshape",
        "Result",
        "Slice",
        "Split",
        "Squeeze",
        "StridedSlice",
        "Transpose",
        "Unsqueeze",
        "VariadicSplit",
    }
)
WEIGHT_CHAIN = frozenset({"Convert", "Multiply", "Reshape", "Subtract", "Transpose"})
IR_11_SINCE = "2022.1"
OPSETS_OF_IR_11_START = 8


class OpenVINO(Converter):
    """The format ``openvino``: ``.xml`` and ``.bin``."""

    name = "openvino"
    endings = ("bin", "xml")
    quantisations = ("float32", "float16", "dynamic", "int8")
    forms = ("onnx", "saved_model", "ir", "tflite")
    leaves = (
        "NNCF leaves squeeze-and-excite blocks and the products of attention in float on purpose"
    )

    def __init__(self) -> None:
        self._floats: dict[Path, Node] = {}
        self._whole: dict[Path, Node] = {}

    def convert(
        self,
        lowered: Path,
        form: str,
        trajectories: Mapping[str, Path],
        quantize: str,
        keep: Collection[str] = (),
    ) -> dict[str, bytes]:
        """Lower with OpenVINO's front end, quantise with NNCF; see `Converter.convert`."""
        model = self._float(lowered, form)
        if quantize == "int8":
            whole = self._quantize_int8(lowered, form, trajectories)
            kept = with_layers_in_float(whole, model, keep) if keep else whole.clone()
            model = kept or quantize_int8(model, _RecordedSteps(trajectories), keep)
        if quantize == "dynamic":
            model = to_dynamic(model)
        merge_equal_nodes(model)
        _name_by_order(model, PRODUCTS)
        return _saved(model, halves=quantize == "float16")

    def describe(self, files: Mapping[str, bytes], contract: Contract) -> dict[str, bytes]:
        """Add Model API's ``model_info``; see `Converter.describe`."""
        return {**files, "xml": openvino_metadata.described(files["xml"], contract)}

    def layer_errors(
        self, lowered: Path, form: str, trajectories: Mapping[str, Path]
    ) -> list[LayerError]:
        """Quantise each layer alone; see `Converter.layer_errors`."""
        whole = self._quantize_int8(lowered, form, trajectories)
        return layer_errors(self._float(lowered, form), whole, _RecordedSteps(trajectories))

    def _float(self, lowered: Path, form: str) -> Node:
        """A copy of the float model, its nodes named by kind and order."""
        if lowered not in self._floats:
            self._floats[lowered] = self._kept_graph("float", lambda: _loaded(lowered, form))
        return self._floats[lowered].clone()

    def _kept_graph(self, name: str, make: Callable[[], Node]) -> Node:
        """As `kept`, a graph: it is always read back, so that nothing depends on who made it."""
        import openvino

        made: dict[str, bytes] = {}

        def part(ending: str) -> bytes:
            if not made:
                made.update(_serialised(make(), halves=False))
            return made[ending]

        weights = self.kept(f"{name}.bin", lambda: part("bin"))
        xml = self.kept(f"{name}.xml", lambda: part("xml"))
        return openvino.Core().read_model(model=xml, weights=weights)

    def _quantize_int8(self, lowered: Path, form: str, trajectories: Mapping[str, Path]) -> Node:
        """Quantise every layer; NNCF runs once, since it takes long."""
        if lowered not in self._whole:
            model = self._float(lowered, form)
            self._whole[lowered] = self._kept_graph(
                "int8", lambda: quantize_int8(model, _RecordedSteps(trajectories))
            )
        return self._whole[lowered]

    def operators_of(self, lowered: Path, form: str, layers: Collection[str]) -> frozenset[str]:
        """The products of layers; see `Converter.operators_of`."""
        return operators_of(self._float(lowered, form), layers)

    def operators(self, lowered: Path, form: str) -> dict[str, int]:
        """Count the kinds of nodes of the float model; see `Converter.operators`."""
        nodes = self._float(lowered, form).get_ordered_ops()
        return dict(Counter(node.get_type_name() for node in nodes))

    def float_ops(self, files: Mapping[str, bytes]) -> list[Operator]:
        """Walk the graph: operators that compute, except integer products and weight scales."""
        model = _read(files)
        scales = _weight_nodes(model)
        found, total = [], 0
        for node in _computing(model):
            kind, name = node.get_type_name(), node.get_friendly_name()
            work = work_of(node)
            total += work
            if kind not in PRODUCTS:
                found.append((Operator(kind, name), work))
            elif not (_is_quantised(node, 0, scales) and _is_quantised(node, 1, scales)):
                found.append((Operator(kind, name, product=True, stray=True), work))
        return [replace(operator, share=work / max(1, total)) for operator, work in found]

    def predicted_float_ops(
        self, lowered: Path, form: str, trajectories: Mapping[str, Path]
    ) -> list[Operator]:
        """Match NNCF's ignored patterns; see `Converter.predicted_float_ops`."""
        del trajectories
        model = self._float(lowered, form)
        ignored = ignored_products(model)
        work = {node.get_friendly_name(): work_of(node) for node in _computing(model)}
        total = max(1, sum(work.values()))
        return [
            Operator(node.get_type_name(), name, product=True, stray=True, share=work[name] / total)
            for node in model.get_ordered_ops()
            if (name := node.get_friendly_name()) in ignored
        ]

    def smallest_runtime(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Read the release from the operator sets; unknown ones need the writer's release."""
        sets = {int(n) for n in re.findall(rb'version="opset(\d+)"', files["xml"])}
        if max(sets, default=0) <= OPSETS_OF_IR_11_START:
            return {"openvino": IR_11_SINCE}
        import openvino

        return {"openvino": openvino.__version__.partition("-")[0]}


def _loaded(lowered: Path, form: str) -> Node:
    """Load the float model, its nodes named by kind and order."""
    model = read(lowered, form)
    merge_equal_nodes(model)
    _name_by_order(model)
    return model


class _RecordedSteps(Sequence[Mapping[str, Any]]):
    """The recorded steps, keyed by input name; each is read when it is needed."""

    def __init__(self, trajectories: Mapping[str, Path]) -> None:
        import numpy as np

        self._arrays = {name: np.load(path, mmap_mode="r") for name, path in trajectories.items()}

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, place: Any) -> Any:
        import numpy as np

        if not 0 <= place < len(self):
            raise IndexError(place)
        return {name: np.array(values[place]) for name, values in self._arrays.items()}


def merge_equal_nodes(model: Node) -> None:
    """Merge nodes with equal type, attributes and inputs.

    An unrolled head uses one weight at every time step; without this each time step has its own
    chain of weight, scale and zero point in the file.
    """
    first: dict[tuple[Any, ...], Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Parameter", "Result"):
            continue
        kept = first.setdefault(_identity(node), node)
        if kept is not node:
            for own, other in zip(node.outputs(), kept.outputs(), strict=True):
                for target in list(own.get_target_inputs()):
                    target.replace_source_output(other)


def _identity(node: Node) -> tuple[Any, ...]:
    """Return what two nodes have in common if they compute the same."""
    kind = node.get_type_name()
    if kind == "Constant":
        shape = tuple(node.get_output_shape(0))
        return kind, str(node.get_element_type()), shape, node.data.tobytes()
    attributes = sorted((key, str(value)) for key, value in node.get_attributes().items())
    inputs = [port.get_source_output() for port in node.inputs()]
    sources = [(source.get_node().get_name(), source.get_index()) for source in inputs]
    return kind, tuple(attributes), tuple(sources)


def _name_by_order(model: Node, kept: Collection[str] = ()) -> None:
    """Rename nodes so that names do not depend on what this process did before.

    Inputs and outputs keep their names, and so do the kinds in ``kept``.
    """
    counts: Counter[str] = Counter()
    results = {node.get_name() for node in model.get_results()}
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "Parameter" or kind in kept:
            continue
        node.set_friendly_name(f"{kind}_{counts[kind]}")
        counts[kind] += 1
        for port in node.outputs() if node.get_name() not in results else ():
            if not any(_is_result(target) for target in port.get_target_inputs()):
                port.set_names(set())


def _is_result(target: Node) -> bool:
    return bool(target.get_node().get_type_name() == "Result")


def _saved(model: Node, *, halves: bool = False) -> dict[str, bytes]:
    """Save without what depends on this machine: paths and versions in rt_info, and white space."""
    files = _serialised(model, halves=halves)
    xml, weights = files["xml"], files["bin"]
    xml = re.sub(rb"<rt_info>.*?</rt_info>|<rt_info ?/>", b"", xml, flags=re.DOTALL)
    return {"xml": re.sub(rb">\s+<", b"><", xml).strip() + b"\n", "bin": weights}


def _serialised(model: Node, *, halves: bool) -> dict[str, bytes]:
    import openvino

    with tempfile.TemporaryDirectory(prefix="edgevid-") as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=halves)
        return {"xml": path.read_bytes(), "bin": path.with_suffix(".bin").read_bytes()}


def _read(files: Mapping[str, bytes]) -> Node:
    import openvino

    return openvino.Core().read_model(model=files["xml"], weights=files["bin"])


def _computing(model: Node) -> Iterator[Node]:
    """Yield the nodes that compute with values in float, or between quantised values."""
    scales = _weight_nodes(model)
    for node in model.get_ordered_ops():
        moves = node.get_type_name() in MOVES or node.get_friendly_name() in scales
        if not moves and _gives_float(node):
            yield node


def _gives_float(node: Node) -> bool:
    return any(port.get_element_type().is_real() for port in node.outputs())


def _weight_nodes(model: Node) -> set[str]:
    """Return the names of nodes that unpack weights; they are folded when the model is loaded."""
    found: set[str] = set()
    for node in model.get_ordered_ops():
        sources = [port.get_source_output().get_node() for port in node.inputs()]
        kind = node.get_type_name()
        if kind not in WEIGHT_CHAIN or not sources:
            continue
        if all(s.get_type_name() == "Constant" or s.get_friendly_name() in found for s in sources):
            found.add(node.get_friendly_name())
    return found


def quantisation_of(model: Node) -> str:
    """Name the quantisation of a model: by what most of its products compute in.

    Returns:
        ``int8``, ``dynamic`` (integer weights only) or ``float32``.
    """
    scales = _weight_nodes(model)
    counts: Counter[str] = Counter()
    for node in model.get_ordered_ops():
        if node.get_type_name() in PRODUCTS:
            values, weights = (_is_quantised(node, index, scales) for index in (0, 1))
            counts["float32" if not weights else "int8" if values else "dynamic"] += 1
    return max(counts, key=lambda name: counts[name], default="float32")


def _is_quantised(node: Node, index: int, scales: set[str]) -> bool:
    """Whether an input of a product comes from integers: quantised values, or stored weights."""
    source = node.input(index).get_source_output().get_node()
    while (kind := source.get_type_name()) != "FakeQuantize":
        if kind == "Constant":
            element = source.get_element_type()
            return bool(element.is_integral() and element.bitwidth <= 8)
        if kind not in MOVES - {"Parameter"} and source.get_friendly_name() not in scales:
            return False
        source = source.input(0).get_source_output().get_node()
    return True
