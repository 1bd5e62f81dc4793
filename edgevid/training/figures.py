"""The curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgevid.files import write_bytes
from edgevid.report import plots, svg


def draw_curves(path: Path, history: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    """Draw each of ``names`` over the epochs, for train and val, as SVG.

    Raises:
        OSError: The file cannot be written.
    """
    panels = [
        (name, {split: [row[f"{split}_{name}"] for row in history] for split in ("train", "val")})
        for name in names
    ]
    figure = plots.curves(panels, [row["epoch"] for row in history], "epoch")
    write_bytes(path, svg.standalone_svg(figure))
