"""The drawings of the page: layer errors as bars, and the artifacts' graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgevid.bundle import Bundle
from edgevid.evidence import Evidence, LayerCost
from edgevid.report import plots
from edgevid.report.pages import markup
from edgevid.report.svg import Chart
from edgevid_converters import graphs
from edgevid_converters.graphs.draw import common, draw, short

MAX_LAYERS, MAX_LETTERS = 24, 48
IN_INT8, KEPT = "in int8", "kept in float32"


def layers(evidence: Evidence) -> list[Chart]:
    """Draw the int8 error of each layer, a chart for each artifact."""
    return [
        _bars(name, measured, evidence.kept(name)) for name, measured in evidence.layers.items()
    ]


def _bars(name: str, measured: Sequence[LayerCost], kept: Sequence[str]) -> Chart:
    rows, prefix = [], common(layer.name for layer in measured)
    for layer in measured[:MAX_LAYERS]:
        part = KEPT if layer.name in kept else IN_INT8
        text = "not a number" if layer.error is None else f"{layer.error:.3g}"
        rows.append((_layer(layer, prefix), [(part, layer.error or 0.0)], text))
    more = len(measured) - MAX_LAYERS
    left_out = f" The other {more} layers have smaller errors." if more > 0 else ""
    figure = plots.stacked_bars(rows, (IN_INT8, KEPT))
    return Chart(figure, f"error of layers, {name}", f"{name}.{left_out}")


def _layer(layer: LayerCost, prefix: str) -> str:
    """The layer's name, with its kind if there is room."""
    name = short(layer.name, prefix)
    full = f"{layer.kind} {name}"
    return name if name.startswith(layer.kind) or len(full) > MAX_LETTERS else full


@dataclass(frozen=True)
class GraphDrawing:
    """The graph of one artifact.

    Attributes:
        name: The artifact.
        svg: The drawing (`markupsafe.Markup`); None if graphs of its format cannot be drawn.
        caption: The text below it.
        unfolded: Whether it is visible at first.
    """

    name: str
    svg: Any = None
    caption: str = ""
    unfolded: bool = False


def graph_drawings(bundle: Bundle, evidence: Evidence) -> Iterator[GraphDrawing]:
    """Draw the graph of each artifact."""
    for one in bundle.artifacts:
        graph = graphs.read(one.format, bundle.files(one))
        if graph is None:
            yield GraphDrawing(one.name)
            continue
        svg, boxes = draw(graph, evidence.kept(one.name), f"graph of {one.name}")
        drawn = sum(box.size for box in boxes.boxes)
        caption = f"{drawn} of {len(graph.operators)} operators, in {len(boxes.boxes)} boxes."
        yield GraphDrawing(one.name, markup(svg), caption, one.quantize != "float32")
