"""The end of a warm-up, found in the samples and not fixed beforehand.

A trace is matched with the possible shapes of a warm-up, of every length: a step, a straight slope
and an exponential, each falling or rising to a constant level. The best match counts if it is
significant and larger than `LEAST_CHANGE`; the warm-up ends where it is within `TOLERANCE` of the
level. The rest of the trace is searched in the same way until nothing is found, so a warm-up may
have several stages.
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
"""The warm-up has ended when it is this near to the constant level, relative to it."""

LEAST_CHANGE = 0.03
"""A smaller change is not a warm-up; comparisons tolerate it as well."""

LEAST_DRIFT = 0.05
"""A change that lasts (almost) to the end makes the trace unsteady if it is larger than this."""

LEAST_SAMPLES = 50
LEAST_SHARE = 1 / 3
"""A trace that is steady for a smaller share of its length may not be steady yet."""

BLOCKS = 500
"""Long traces are reduced to the medians of so many pieces."""

SURE = 30.0
"""The least ratio of the variance that a shape explains to that of noise. The best of all shapes
on pure noise stays below it, see the tests."""

STAGES = 8
NEAR = 11  # blocks, to tell a spike by


@dataclass(frozen=True)
class WarmUp:
    """The samples of the warm-up.

    Attributes:
        samples: How many of the first samples to leave out.
        found: False if the trace never became steady.
    """

    samples: int
    found: bool


def warm_up(
    samples_s: Sequence[float], *, least_samples: int = LEAST_SAMPLES, least_s: float = 0.0
) -> WarmUp:
    """Find the end of the warm-up.

    Args:
        samples_s: Durations in seconds, in the order they were taken.
        least_samples: So many samples must remain, and a third of the trace.
        least_s: The samples that remain must last so long.
    """
    import numpy as np

    samples = np.asarray(samples_s, dtype=np.float64)
    if len(samples) < max(least_samples, NEAR):
        return WarmUp(len(samples), False)
    size = -(-len(samples) // BLOCKS) | 1  # odd: a median that a single spike does not move
    # Whole blocks up to the end; the remainder is at the start.
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
    """How many blocks the most significant warm-up takes; 0 if there is none."""
    import numpy as np

    shapes, norms = _shapes(len(blocks))
    excess = np.zeros(len(blocks))
    for _ in range(2):  # a spike on a slope is visible once the slope is known
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
    """The long-run variance: that of sums of neighbours, so that dependence counts."""
    found = [float(rest.var())]
    for size in (4, len(rest) // 16):
        if size > 1:
            pieces = rest[len(rest) % size :].reshape(-1, size)
            found.append(size * float(pieces.mean(axis=1).var(ddof=1)))
    return max(found)


@lru_cache(maxsize=16)
def _shapes(count: int) -> tuple[Floats, Floats]:
    """Warm-ups of all lengths over ``count`` blocks with mean 0, and their sums of squares."""
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
    """Replace outliers by the median of their neighbours (Hampel filter)."""
    import numpy as np

    padded = np.pad(blocks, NEAR // 2, mode="reflect")
    near = np.lib.stride_tricks.sliding_window_view(padded, NEAR)
    middle = np.median(near, axis=1)
    spread = 1.4826 * np.median(np.abs(near - middle[:, None]), axis=1)
    return np.where(np.abs(blocks - middle) > 4 * spread, middle, blocks)


def _first_calls(samples: Floats) -> int:
    """How many of the very first samples are slower than (almost) all others."""
    import numpy as np

    slow = samples > np.quantile(samples, 0.99)
    return int(np.argmin(slow)) if not slow.all() else 0
