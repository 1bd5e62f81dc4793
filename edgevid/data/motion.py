"""Motions whose class can only be told over time: a path of poses for each, and its label.

Eight steady motions, and ``background``: everything that is none of them, still or erratic. A pose
is drawn so that one frame alone does not tell the class: positions live on a torus and are uniform,
tilts and sizes span ranges wide against the turn and growth within a clip. Steady
motion with its frames in disorder *is* background, so only the order of frames makes a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BACKGROUND = "background"
STEADY: dict[str, tuple[float, float, float, float]] = {
    "left": (-1, 0, 0, 0),
    "right": (1, 0, 0, 0),
    "up": (0, -1, 0, 0),
    "down": (0, 1, 0, 0),
    "clockwise": (0, 0, 1, 0),
    "counter-clockwise": (0, 0, -1, 0),
    "grow": (0, 0, 0, 1),
    "shrink": (0, 0, 0, -1),
}
"""Motion -> the sign of its steps in x, y (downwards), angle (clockwise) and log of size."""

MOTIONS = (*STEADY, BACKGROUND)


@dataclass(frozen=True)
class Speeds:
    """How far a pose goes from frame to frame, lowest and highest, and the range of sizes.

    ``shift`` in widths of the picture, ``turn_deg`` in degrees, ``growth`` in natural log of size;
    ``radius`` is half the extent of the thing that moves, in widths of the picture; ``tilt_deg`` is
    how far it leans to either side at most.
    """

    shift: tuple[float, float] = (0.026, 0.05)
    turn_deg: tuple[float, float] = (6.5, 10.5)
    growth: tuple[float, float] = (0.038, 0.06)
    radius: tuple[float, float] = (0.15, 0.46)
    tilt_deg: float = 100.0


def poses(
    motion: str, frames: int, rng: np.random.Generator, speeds: Speeds | None = None
) -> NDArray[np.float64]:
    """A path of ``frames`` poses, float64 (frames, 4): x, y, angle in degrees, radius.

    x, y and radius in widths of the picture; x and y are to be taken modulo 1.
    """
    speeds = speeds or Speeds()
    if motion == BACKGROUND:
        return _background(frames, rng, speeds)
    return _steady(motion, frames, rng, speeds)


def _steady(
    motion: str, frames: int, rng: np.random.Generator, speeds: Speeds
) -> NDArray[np.float64]:
    import numpy as np

    ranges = np.array([speeds.shift, speeds.shift, speeds.turn_deg, speeds.growth])
    speed = rng.uniform(ranges[:, 0], ranges[:, 1]) * np.array(STEADY[motion])
    return _placed(np.arange(frames)[:, None] * speed, rng, speeds)


def _background(frames: int, rng: np.random.Generator, speeds: Speeds) -> NDArray[np.float64]:
    """Still, a random walk, or a steady motion in disorder, with equal odds."""
    import numpy as np

    kind = rng.integers(3)
    if kind == 0:
        return _placed(np.zeros((frames, 4)), rng, speeds)
    if kind == 1:
        return _placed(_walk(frames, rng, speeds), rng, speeds)
    path = _steady(str(rng.choice(tuple(STEADY))), frames, rng, speeds)
    return path[_disorder(frames, rng)]


def _walk(frames: int, rng: np.random.Generator, speeds: Speeds) -> NDArray[np.float64]:
    """Steps of the size of steady ones with signs by chance, in some of the four ways at once."""
    import numpy as np

    high = np.array([speeds.shift[1], speeds.shift[1], speeds.turn_deg[1], speeds.growth[1]])
    ways = np.array([1.0, 1.0, 0.0, 0.0]) if rng.random() < 0.5 else rng.random(4) < 0.5
    if not ways.any():
        ways = np.array([0.0, 0.0, 1.0, 1.0])
    signs = _disorderly_signs(frames, rng)
    walk: NDArray[np.float64] = np.cumsum(
        signs * rng.uniform(0.4, 1.4, (frames, 4)) * high * ways, axis=0
    )
    return walk


def _disorderly_signs(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Signs (frames, 4) without five alike in a row, which would pass for a steady motion."""
    import numpy as np

    signs = rng.choice([-1.0, 1.0], (frames, 4))
    for t in range(4, frames):
        alike = np.abs(signs[t - 4 : t].sum(axis=0)) == 4
        signs[t, alike] = -signs[t - 1, alike]
    return signs


def _disorder(frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation of the frames that neither runs forwards nor backwards on the whole."""
    import numpy as np

    later = np.triu(np.ones((frames, frames), bool), 1)
    while True:
        order = rng.permutation(frames)
        rising = (order[None, :] > order[:, None])[later].mean()
        if 0.3 < rising < 0.7 or frames < 4:
            return order


def _placed(
    path: NDArray[np.float64], rng: np.random.Generator, speeds: Speeds
) -> NDArray[np.float64]:
    """Put a relative path (frames, 4) somewhere: anywhere, at any angle, within the sizes."""
    import numpy as np

    tilt = _room(path[:, 2], (-speeds.tilt_deg, speeds.tilt_deg), rng)
    size = _room(path[:, 3], (np.log(speeds.radius[0]), np.log(speeds.radius[1])), rng)
    placed: NDArray[np.float64] = path + np.array([*rng.random(2), tilt, size])
    placed[:, 3] = np.exp(placed[:, 3])
    return placed


def _room(
    values: NDArray[np.float64], bounds: tuple[float, float], rng: np.random.Generator
) -> float:
    """An offset that keeps ``values`` within ``bounds``, by even odds; else their middle."""
    low, high = bounds[0] - float(values.min()), bounds[1] - float(values.max())
    return float(rng.uniform(low, high)) if low < high else (low + high) / 2
