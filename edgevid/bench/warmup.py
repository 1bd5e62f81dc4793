"""Where a warm-up ends: found in the samples, not agreed beforehand.

A trace is matched with shapes that a warm-up may have, of every length: a step, a straight slope
and an exponential, each falling or rising to a level that stays. The best of them counts where it
is more than chance and more than `LEAST_CHANGE`; it ends where it has come to `TOLERANCE` of the
level. What is left is looked at in the same way until nothing is found, so that a warm-up may have
several stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TOLERANCE = 0.01
"""As near to the level that stays, relative to it, a warm-up has ended."""

LEAST_CHANGE = 0.03
"""What differs by less is no warm-up: comparisons do not mind it either."""

LEAST_DRIFT = 0.05
"""What goes on (almost) to the end is no warm-up; from here on it makes a trace unsteady."""

LEAST_SAMPLES = 50
LEAST_SHARE = 1 / 3
"""A trace that was steady for less of its length than this may not be steady yet."""

BLOCKS = 500
"""Long traces are looked at by the medians of so many pieces."""

SURE = 30.0
"""How often the variance that a shape explains must be that of noise. The best of all shapes on
noise alone stays below it: see the tests."""

STAGES = 8
NEAR = 11  # blocks, to tell a spike by


@dataclass(frozen=True)
class WarmUp:
    """How many of the first samples to leave out; not ``found``: it never became steady."""

    samples: int
    found: bool


def warm_up(
    samples_s: Sequence[float], *, least_samples: int = LEAST_SAMPLES, least_s: float = 0.0
) -> WarmUp:
    """Find the end of the warm-up of ``samples_s``, durations in the order they were taken.

    What is left has to be ``least_samples`` many, to last ``least_s`` and to be a third of the
    trace, or nothing was found.
    """
    import numpy as np

    samples = np.asarray(samples_s, dtype=np.float64)
    if len(samples) < max(least_samples, NEAR):
        return WarmUp(len(samples), False)
    size = -(-len(samples) // BLOCKS) | 1  # odd: a median that a single spike does not move
    # Whole blocks up to the end: what does not fill one is at the start.
    odd = len(samples) % size
    blocks = np.median(samples[odd:].reshape(-1, size), axis=1)
    start = 0
    for _ in range(STAGES):
        more = _stage(blocks[start:])
        start += more
        if not more or len(blocks) - start < NEAR:
            break
    left_out = odd + start * size if start else 0
    left_out += _first_calls(samples[left_out:])
    rest = samples[left_out:]
    enough = max(least_samples, LEAST_SHARE * len(samples))
    return WarmUp(left_out, len(rest) >= enough and float(rest.sum()) >= least_s)


def _stage(blocks: Floats) -> int:
    """How many blocks the most evident warm-up of all takes; 0 without any."""
    import numpy as np

    shapes, norms = _shapes(len(blocks))
    excess = np.zeros(len(blocks))
    for _ in range(2):  # a spike on a slope is seen once the slope is known
        clean = excess + _without_spikes(blocks - excess)
        heights = shapes @ (clean - clean.mean()) / norms
        explained = heights**2 * norms
        best = int(np.argmax(explained))
        excess = heights[best] * (shapes[best] - shapes[best, -1])
    rest = clean - excess
    if explained[best] < SURE * _long_run_variance(rest):
        return 0
    away = np.abs(excess) / max(float(np.median(rest)), 1e-12)
    taken = int(np.count_nonzero(away > TOLERANCE))
    goes_on = taken > (1 - LEAST_SHARE) * len(blocks)
    return taken if away[0] >= (LEAST_DRIFT if goes_on else LEAST_CHANGE) else 0


def _long_run_variance(rest: Floats) -> float:
    """The variance of a sum of neighbours over their number: noise that knows of dependence."""
    found = [float(rest.var())]
    for size in (4, len(rest) // 16):
        if size > 1:
            pieces = rest[len(rest) % size :].reshape(-1, size)
            found.append(size * float(pieces.mean(axis=1).var(ddof=1)))
    return max(found)


@lru_cache(maxsize=16)
def _shapes(count: int) -> tuple[Floats, Floats]:
    """Warm-ups of all lengths over ``count`` blocks, each with mean 0, and their squares' sums."""
    import numpy as np

    at = np.arange(count)
    ends = np.unique(np.geomspace(1, count, 250).astype(int))[:, None].astype(np.float64)
    steps = (at < ends[ends[:, 0] < count]).astype(np.float64)
    slopes = np.clip(1 - at / ends[ends[:, 0] > 2], 0, 1)
    # From one that is over at once to one that is not over within the trace.
    decays = np.exp(-at / (ends / 3))
    shapes = np.concatenate([steps, slopes, decays])
    shapes -= shapes.mean(axis=1, keepdims=True)
    return shapes, (shapes**2).sum(axis=1)


def _without_spikes(blocks: Floats) -> Floats:
    """Put the median of its neighbours in the place of what is far away from them (Hampel)."""
    import numpy as np

    padded = np.pad(blocks, NEAR // 2, mode="reflect")
    near = np.lib.stride_tricks.sliding_window_view(padded, NEAR)
    middle = np.median(near, axis=1)
    spread = 1.4826 * np.median(np.abs(near - middle[:, None]), axis=1)
    return np.where(np.abs(blocks - middle) > 4 * spread, middle, blocks)


def _first_calls(samples: Floats) -> int:
    """How many of the very first are slower than (almost) all that follow."""
    import numpy as np

    slow = samples > np.quantile(samples, 0.99)
    return int(np.argmin(slow)) if not slow.all() else 0
