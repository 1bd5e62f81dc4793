"""Plots for pages, as PNG bytes; matplotlib is imported when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def latency(results: Sequence[Mapping[str, Any]]) -> bytes:
    """For each artifact, its latency p50, p90 and p99 in milliseconds as a line with three marks.

    ``results`` have ``artifact`` and ``latency_ms``; a percentile that is not there has no mark.
    """
    figure, axis = _figure(6.4, 0.9 + 0.5 * len(results))
    names = [result["artifact"] for result in results]
    for row, result in enumerate(results):
        found = result["latency_ms"]
        marks = {"p50": "o", "p90": "D", "p99": "|"}
        values = {found[name]: mark for name, mark in marks.items() if name in found}
        axis.plot([*values], [row] * len(values), color="#9bb8e8", lw=3, zorder=1)
        for value, mark in values.items():
            axis.scatter(value, row, marker=mark, s=60, color="#1769e0", zorder=2)
    axis.set(xlabel="ms a frame: ● p50  ◆ p90  | p99", xlim=(0, None))
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.3)
    return _png(figure)


def stages(results: Sequence[Mapping[str, Any]]) -> bytes:
    """For each artifact, where the mean frame's milliseconds go, stage by stage."""
    figure, axis = _figure(6.4, 0.9 + 0.5 * len(results))
    names = [result["artifact"] for result in results]
    left = [0.0] * len(results)
    for stage in results[0]["stages_ms"]:
        widths = [result["stages_ms"][stage] for result in results]
        axis.barh(names, widths, left=left, label=stage, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axis.invert_yaxis()
    axis.set(xlabel="mean ms a frame, one stage after another")
    axis.legend(ncols=5, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    axis.grid(axis="x", alpha=0.3)
    return _png(figure)


def scores(
    values: NDArray[Any],
    labels: Sequence[str],
    times_s: Sequence[float],
    truth: Sequence[Mapping[str, Any]],
) -> bytes:
    """Scores ``(steps, labels)`` over time; what was really shown is outlined.

    ``truth`` has ``label``, ``start_s`` and ``end_s`` of each stretch.
    """
    figure, axis = _figure(9.6, 3.6)
    extent = (times_s[0], times_s[-1], len(labels) - 0.5, -0.5)
    axis.imshow(values.T, aspect="auto", cmap="Blues", vmin=0, vmax=1, extent=extent)
    for stretch in truth:
        row, start_s = list(labels).index(stretch["label"]), stretch["start_s"]
        end_s = min(stretch["end_s"], times_s[-1])
        box = ([start_s, end_s, end_s, start_s, start_s], [row - 0.5] * 2 + [row + 0.5] * 2)
        axis.plot(box[0], [*box[1], row - 0.5], color="#e0861a", lw=1.6)
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel="seconds")
    return _png(figure)


def _figure(width_in: float, height_in: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(width_in, height_in), layout="constrained")
    return figure, axis


def _png(figure: Any) -> bytes:
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return buffer.getvalue()
