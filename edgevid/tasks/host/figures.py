"""Figures of a training run, drawn with matplotlib without a display or global state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevid.files import writing


def new_figure(columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """Return a matplotlib figure of ``size`` inches and its axes, side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def save_png(figure: Any, path: Path) -> None:
    """Write a figure as PNG.

    Raises:
        OSError: The file cannot be written.
    """
    with writing(path) as part:
        figure.savefig(part, format="png", dpi=110)
