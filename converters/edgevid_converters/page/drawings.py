"""The drawings of the page: layer errors as bars, and the artifacts' graphs."""

from __future__ import annotations

from collections.abc import Sequence

from edgevid.bundle import Bundle
from edgevid.evidence import Evidence, LayerCost
from edgevid.report.page import Page
from edgevid.report.svg import stacked
from edgevid_converters import graphs
from edgevid_converters.graphs.draw import LEGEND, common, draw, short

MAX_LAYERS, MAX_LETTERS = 24, 48
IN_INT8, KEPT = "in int8", "kept in float32"


def layers(report: Page, evidence: Evidence) -> None:
    """Draw the int8 error of each layer."""
    if not evidence.layers:
        return
    report.heading("Error of each layer in int8")
    report.words(
        "The error of the model's outputs with that layer alone in int8, as a share of the "
        "outputs' standard deviation. The largest come first."
    )
    report.drawings(
        _bars(name, measured, evidence.kept(name)) for name, measured in evidence.layers.items()
    )


def _bars(
    name: str, measured: Sequence[LayerCost], kept: Sequence[str]
) -> tuple[str, str, Sequence[str]]:
    rows, prefix = [], common(layer.name for layer in measured)
    for layer in measured[:MAX_LAYERS]:
        part = KEPT if layer.name in kept else IN_INT8
        text = "not a number" if layer.error is None else f"{layer.error:.3g}"
        rows.append((_layer(layer, prefix), [(part, layer.error or 0.0)], text))
    more = len(measured) - MAX_LAYERS
    left_out = f" The other {more} have less." if more > 0 else ""
    return stacked(rows, (IN_INT8, KEPT), f"error of layers, {name}"), f"{name}.{left_out}", ()


def _layer(layer: LayerCost, prefix: str) -> str:
    """The layer's name, with its kind if there is room."""
    name = short(layer.name, prefix)
    full = f"{layer.kind} {name}"
    return name if name.startswith(layer.kind) or len(full) > MAX_LETTERS else full


def graph_drawings(report: Page, bundle: Bundle, evidence: Evidence) -> None:
    """Draw the graph of each artifact."""
    report.heading("Graphs and the types they compute in")
    report.words(
        "Drawn from the artifacts themselves. A box is a run of operators that compute in one "
        "type; in large graphs it is a whole layer, which is every product with the same weights "
        "and what follows it. Dashed lines lead back up. Operators that unpack weights once, when "
        "an artifact is loaded, are not drawn. OpenVINO computes in integers between a "
        "FakeQuantize and the product below it."
    )
    report.legend(LEGEND.items())
    for one in bundle.artifacts:
        graph = graphs.read(one.format, bundle.files(one))
        if graph is None:
            report.words(f"{one.name}: graphs of this format cannot be drawn.")
            continue
        svg, boxes = draw(graph, evidence.kept(one.name), f"graph of {one.name}")
        drawn = sum(box.size for box in boxes.boxes)
        caption = f"{drawn} of {len(graph.operators)} operators, in {len(boxes.boxes)} boxes."
        report.folded(one.name, svg, caption, unfolded=one.quantize != "float32")
