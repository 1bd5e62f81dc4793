"""Motions that only the order of frames reveals: a path of poses for each, with its label.

There are eight steady motions and ``background``, everything else, still or erratic. Poses are
drawn so that a single frame does not reveal the class: positions are uniform on a torus, and the
ranges of tilt and size are wide compared with the turn and growth within a clip. A steady motion
with shuffled frames *is* background.
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
"""Motion -> sign of its steps in x, y (downwards), angle (clockwise) and logarithm of size."""

MOTIONS = (*STEADY, BACKGROUND)


@dataclass(frozen=True)
class Speeds:
    """Change of a pose from frame to frame, lowest and highest, and the range of poses.

    Attributes:
        shift: In widths of the image.
        turn_deg: In degrees.
        growth: In the natural logarithm of the size.
        radius: Half the extent of the shape, in widths of the image.
        tilt_deg: Largest tilt to either side, in degrees.
    """

    shift: tuple[float, float] = (0.026, 0.05)
    turn_deg: tuple[float, float] = (6.5, 10.5)
    growth: tuple[float, float] = (0.038, 0.06)
    radius: tuple[float, float] = (0.15, 0.46)
    tilt_deg: float = 100.0


def poses(
    motion: str, frames: int, rng: np.random.Generator, speeds: Speeds | None = None
) -> NDArray[np.float64]:
    """Draw a random path of poses.

    Args:
        motion: One of `MOTIONS`.
        frames: Number of frames.
        rng: Source of randomness.
        speeds: Ranges; by default those of the dataset.

    Returns:
        float64 (frames, 4): x and y in widths of the image, modulo 1; angle in degrees, clockwise;
        radius in widths of the image.
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
    """Still, a random walk, or a steady motion with shuffled frames, with equal odds."""
    import numpy as np

    kind = rng.integers(3)
    if kind == 0:
        return _placed(np.zeros((frames, 4)), rng, speeds)
    if kind == 1:
        return _placed(_walk(frames, rng, speeds), rng, speeds)
    path = _steady(str(rng.choice(tuple(STEADY))), frames, rng, speeds)
    return path[_shuffled(frames, rng)]


def _walk(frames: int, rng: np.random.Generator, speeds: Speeds) -> NDArray[np.float64]:
    """Steps as large as steady ones with random signs, in some of the four dimensions at once."""
    import numpy as np

    high = np.array([speeds.shift[1], speeds.shift[1], speeds.turn_deg[1], speeds.growth[1]])
    used = np.array([1.0, 1.0, 0.0, 0.0]) if rng.random() < 0.5 else rng.random(4) < 0.5
    if not used.any():
        used = np.array([0.0, 0.0, 1.0, 1.0])
    signs = _irregular_signs(frames, rng)
    walk: NDArray[np.float64] = np.cumsum(
        signs * rng.uniform(0.4, 1.4, (frames, 4)) * high * used, axis=0
    )
    return walk


def _irregular_signs(frames: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Signs (frames, 4) without five equal ones in a row, which would look like a steady motion."""
    import numpy as np

    signs = rng.choice([-1.0, 1.0], (frames, 4))
    for t in range(4, frames):
        equal = np.abs(signs[t - 4 : t].sum(axis=0)) == 4
        signs[t, equal] = -signs[t - 1, equal]
    return signs


def _shuffled(frames: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation (frames,) that runs neither forwards nor backwards on the whole."""
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
    """Place a relative path (frames, 4) at random, within the ranges of tilt and size."""
    import numpy as np

    tilt = _room(path[:, 2], (-speeds.tilt_deg, speeds.tilt_deg), rng)
    size = _room(path[:, 3], (np.log(speeds.radius[0]), np.log(speeds.radius[1])), rng)
    placed: NDArray[np.float64] = path + np.array([*rng.random(2), tilt, size])
    placed[:, 3] = np.exp(placed[:, 3])
    return placed


def _room(
    values: NDArray[np.float64], bounds: tuple[float, float], rng: np.random.Generator
) -> float:
    """A random offset that keeps values within bounds; the central one if there is none."""
    low, high = bounds[0] - float(values.min()), bounds[1] - float(values.max())
    return float(rng.uniform(low, high)) if low < high else (low + high) / 2
