"""The charts of pages, as matplotlib figures; `edgevid.report.svg.Chart` makes SVG of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgevid.registry import need
from edgevid.report.svg import (
    BAD,
    DIM,
    FONT,
    INK,
    LINE,
    MARK,
    NAMED,
    ROW,
    SERIES,
    WIDTH,
    new_figure,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label rows by names."""
    axes.set_yticks(range(len(names)), list(names), color=INK)
    NAMED.add(axes.yaxis)
    axes.tick_params(axis="y", length=0, labelsize=FONT)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _set_log_ticks(axes: Axes, axis: str, most: int = 5) -> None:
    """Set round ticks on a logarithmic axis, at most so many."""
    ticker = need("matplotlib.ticker", "report")
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    one = axes.xaxis if axis == "x" else axes.yaxis
    one.set_major_locator(ticker.FixedLocator(log_ticks(low, high, most)))
    one.set_minor_locator(ticker.NullLocator())
    one.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values between ``low`` and ``high``, both above 0, at most ``most`` of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found: list[float] = []
    for each in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [n * 10.0**power for power in powers for n in each]
        found = [one for one in found if low <= one <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


# ---------------------------------------------------------------- bars


@styled
def stacked_bars(
    rows: Sequence[tuple[str, Sequence[tuple[str, float]], str]], legend: Sequence[str]
) -> Figure:
    """Draw a bar of parts for each row.

    Args:
        rows: Name, parts with their values from left to right, and the text of the sum.
        legend: The names of all parts; a part has the colour of its place in it.
    """
    lines = math.ceil(len(legend) / 4)
    figure = new_figure(WIDTH, 2 * ROW * len(rows) + ROW * lines + 12)
    axes = figure.subplots()
    axes.set_axis_off()
    most = max((sum(value for _, value in parts) for _, parts, _ in rows), default=0.0) or 1.0
    for number, (name, parts, total) in enumerate(rows):
        axes.text(0, number - 0.28, name, va="center")
        axes.text(most, number - 0.28, total, ha="right", va="center")
        left = 0.0
        for part, value in parts:
            colour = SERIES[legend.index(part) % len(SERIES)]
            axes.barh(number + 0.2, value, left=left, height=0.34, color=colour)
            left += value
    axes.set(xlim=(0, most), ylim=(len(rows) - 0.5, -0.5))
    patch = need("matplotlib.patches", "report").Patch
    handles = [
        patch(color=SERIES[number % len(SERIES)], label=part) for number, part in enumerate(legend)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=4, handlelength=1)
    return figure


@styled
def bars(rows: Sequence[tuple[str, float, str, bool]]) -> Figure:
    """Draw a bar for each row.

    Args:
        rows: Name, length, the text at its end, and whether it is an alarm.
    """
    figure = new_figure(WIDTH, ROW * len(rows) + 8)
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    _name_rows(axes, [name if len(name) <= 26 else f"{name[:25]}…" for name, *_ in rows])
    most = max((value for _, value, _, _ in rows), default=0.0) or 1.0
    for number, (_, value, text, alarm) in enumerate(rows):
        axes.barh(number, max(value, most / 100), height=0.62, color=BAD if alarm else SERIES[0])
        axes.text(value + most * 0.03, number, text, va="center", fontsize=FONT - 0.5)
    axes.set_xlim(0, most * 2.1)
    return figure


# ---------------------------------------------------------------- points and distributions


@styled
def scatter(
    points: Sequence[tuple[float, float, str, int]],
    legend: Sequence[str],
    titles: tuple[str, str],
) -> Figure:
    """Draw named points; x is logarithmic if it spans more than a factor of 8.

    Args:
        points: x, y, name, and the index of its group.
        legend: The names of the groups.
        titles: Of x and y.
    """
    figure = new_figure(WIDTH, 236.0 + ROW * len(legend))
    axes = figure.subplots()
    xs, ys = [one[0] for one in points], [one[1] for one in points]
    margin = (max(ys) - min(ys)) * 0.25 or 0.02
    axes.set_ylim(min(ys) - margin, max(ys) + margin)
    axes.locator_params(axis="y", nbins=5)
    if max(xs) > 8 * min(xs):
        axes.set_xscale("log")
        axes.set_xlim(min(xs) / 1.25, max(xs) * 1.25)
        _set_log_ticks(axes, "x")
    else:
        span = (max(xs) - min(xs)) or max(xs)
        axes.set_xlim(max(0.0, min(xs) - span * 0.3), max(xs) + span * 0.3)
    axes.set_xlabel(titles[0], loc="right")
    axes.set_title(titles[1], loc="left", fontsize=FONT - 1, color=DIM)
    for number, name in enumerate(legend):
        own = [(x, y) for x, y, _, group in points if group == number]
        colour = SERIES[number % len(SERIES)]
        axes.plot(*zip(*own, strict=True), "o", color=colour, ms=5.5, label=name)
    figure.draw_without_rendering()
    _name_points(axes, points)
    figure.legend(loc="outside lower left", ncols=1, handletextpad=0.2)
    return figure


def _name_points(axes: Axes, points: Sequence[tuple[float, float, str, int]]) -> None:
    """Write names beside points, moved down where they would overlap."""
    scale = 72 / axes.figure.dpi
    right_end = axes.bbox.x1 * scale
    taken: list[tuple[float, float, float]] = []
    for x, y, name, _ in sorted(points):
        at, height = (value * scale for value in axes.transData.transform((x, y)))
        width = 0.6 * FONT * len(name)
        right = at + 6 + width < right_end
        begin = at + 6 if right else at - 6 - width
        down = 0.0
        while any(
            abs(height - down - other) < 10 and begin < end and start < begin + width
            for start, end, other in taken
        ):
            down += 10
        taken.append((begin, begin + width, height - down))
        axes.annotate(
            name,
            (x, y),
            xytext=(6 if right else -6, -down),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=FONT - 0.5,
        )


@styled
def distribution(
    samples: Sequence[float], marks: Sequence[tuple[str, Sequence[float], str]]
) -> Figure:
    """Draw a histogram on a logarithmic axis, with a row for each percentile above it.

    Args:
        samples: Milliseconds.
        marks: Name, value with the ends of its interval (or nothing if unknown), and its text.
    """
    import numpy as np

    heights = [ROW * len(marks) + 6, 78.0]
    figure = new_figure(WIDTH, sum(heights))
    above, axes = figure.subplots(2, 1, sharex=True, height_ratios=heights)
    positive = [one for one in samples if one > 0]
    ends = [end for _, values, _ in marks for end in values] + positive
    axes.set_xscale("log")
    low, high = min(ends) / 1.05, max(ends) * 1.05
    axes.set_xlim(low, high)
    _set_log_ticks(axes, "x")
    bins = np.geomspace(low, high, 65)
    counts, _ = np.histogram(positive, bins)
    shown = np.where(counts > 0, np.maximum(counts, counts.max() / 60), 0)  # one sample is visible
    axes.bar(bins[:-1], shown, np.diff(bins), align="edge", color=MARK, alpha=0.55)
    axes.set_yticks([])
    axes.set_xlabel("ms", loc="right")
    above.tick_params(axis="x", length=0, labelbottom=False)
    above.spines["bottom"].set_visible(False)
    _name_rows(above, [name for name, _, _ in marks])
    for number, (_, values, text) in enumerate(marks):
        beside = above.get_yaxis_transform()
        colour = INK if values else DIM
        above.text(1.02, number, text, transform=beside, va="center", color=colour)
        if values:
            value, first, last = values
            above.plot([first, last], [number, number], color=MARK, lw=2.5, alpha=0.6)
            above.plot([value], [number], "o", color=INK, ms=4)
            axes.axvline(value, color=INK, lw=0.8, ls=":", alpha=0.5)
    return figure


# ---------------------------------------------------------------- over time

Track = tuple[str, Sequence[Sequence[tuple[float, float]]]]
"""A name with its unit, and lines of (second, value): the first is strong, the others thin."""


@styled
def timeline(
    tracks: Sequence[Track],
    shades: Sequence[tuple[float, float, str]],
    borders: Sequence[float],
    end: float,
) -> Figure:
    """Draw tracks over the same seconds, one below the other.

    Args:
        tracks: From the top down.
        shades: From, to, and ``warm`` or ``alarm``.
        borders: Seconds of thin vertical lines.
        end: The last second.
    """
    figure = new_figure(WIDTH, 80.0 * len(tracks) + ROW)
    rows = figure.subplots(len(tracks), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, lines) in zip(rows, tracks, strict=True):
        axes.set_title(name, loc="left", fontsize=FONT)
        axes.grid(visible=False, axis="x")
        for begin, until, kind in shades:
            colour, alpha = (BAD, 0.22) if kind == "alarm" else (DIM, 0.16)
            axes.axvspan(begin, until, color=colour, alpha=alpha, lw=0, label=kind)
        for border in borders:
            axes.axvline(border, color=LINE, lw=0.8)
        _draw_lines(axes, lines)
    rows[-1].set_xlim(0, end or 1.0)
    rows[-1].set_xlabel("s", loc="left")
    return figure


def _draw_lines(axes: Axes, lines: Sequence[Sequence[tuple[float, float]]]) -> None:
    values = [value for line in lines for _, value in line]
    low, high = min(values), max(values)
    if low > 0 and high > 8 * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.05, high * 1.05)
        _set_log_ticks(axes, "y", 3)
    else:
        margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.locator_params(axis="y", nbins=3)
    for number, line in reversed(list(enumerate(lines))):
        look: Mapping[str, Any] = (
            {"color": DIM, "lw": 0.8, "alpha": 0.7} if number else {"color": MARK, "lw": 1.6}
        )
        axes.plot(*zip(*line, strict=True), **look)


@styled
def curves(
    panels: Sequence[tuple[str, Mapping[str, Sequence[float]]]], xs: Sequence[float], label: str
) -> Figure:
    """Draw panels side by side, each with its lines over the same whole numbers.

    Args:
        panels: Title, and name -> values, as many as ``xs``.
        xs: Such as epochs.
        label: What ``xs`` are.
    """
    figure = new_figure(WIDTH, 170)
    for axes, (title, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for number, (name, values) in enumerate(lines.items()):
            axes.plot(xs, values, label=name, color=SERIES[number % len(SERIES)])
        axes.set_title(title, fontsize=FONT)
        axes.locator_params(axis="x", nbins=5, integer=True)
        axes.locator_params(axis="y", nbins=5)
        axes.set_xlabel(label)
        axes.legend()
    return figure


# ---------------------------------------------------------------- matrices


@styled
def heatmap(
    values: NDArray[Any],
    names: Sequence[str],
    times_s: Sequence[float],
    truth: Sequence[tuple[str, float, float]],
) -> Figure:
    """Draw values over time, with the truth outlined.

    Args:
        values: Shape (steps, names), float32, 0 to 1.
        names: Of the rows.
        times_s: Of the steps.
        truth: Name, start and end in seconds.
    """
    figure = new_figure(690, 260)
    axes = figure.subplots()
    _colour_cells(axes, values.T, 1.0, (times_s[0], times_s[-1], len(names) - 0.5, -0.5))
    for name, start_s, end_s in truth:
        row, last_s = list(names).index(name), min(end_s, times_s[-1])
        xs = [start_s, last_s, last_s, start_s, start_s]
        ys = [row - 0.5, row - 0.5, row + 0.5, row + 0.5, row - 0.5]
        axes.plot(xs, ys, color=SERIES[1], lw=1.6)
    _name_rows(axes, names)
    axes.grid(visible=False)
    axes.set_xlabel("seconds")
    return figure


@styled
def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """Draw a confusion matrix; rows are the truth, columns the prediction."""
    import numpy as np

    counts = np.asarray(matrix)
    figure = new_figure(WIDTH, 330)
    axes = figure.subplots()
    size = len(names) - 0.5
    _colour_cells(axes, counts, max(int(counts.max()), 1), (-0.5, size, size, -0.5))
    _name_rows(axes, names)
    axes.set_xticks(range(len(names)), list(names), rotation=45, ha="right", color=INK)
    axes.tick_params(axis="x", length=0, labelsize=FONT)
    NAMED.add(axes.xaxis)
    axes.grid(visible=False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    for row, column in np.ndindex(counts.shape):
        count = int(counts[row, column])
        axes.text(column, row, str(count), ha="center", va="center", fontsize=FONT - 0.5)
    return figure


def _colour_cells(
    axes: Axes, values: NDArray[Any], most: float, extent: tuple[float, float, float, float]
) -> None:
    """Colour cells from transparent to `MARK`, so that they fit a light and a dark page."""
    import numpy as np

    colours = np.zeros((*values.shape, 4), np.float32)
    colours[..., :3] = [int(MARK[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    colours[..., 3] = np.clip(values / most, 0, 1) * 0.75
    axes.imshow(colours, aspect="auto", extent=extent, interpolation="nearest")
