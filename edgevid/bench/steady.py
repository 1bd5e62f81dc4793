"""Where a warm-up ends: found in the samples, not agreed beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_SAMPLES = 50


@dataclass(frozen=True)
class WarmUp:
    """How many of the first samples to leave out; not ``found``: it never became steady."""

    samples: int
    found: bool


def warm_up(
    samples_s: Sequence[float], *, least_samples: int = LEAST_SAMPLES, least_s: float = 0.0
) -> WarmUp:
    """Find the end of the warm-up of ``samples_s``, durations in the order they were taken.

    What is left has to be ``least_samples`` many and to last ``least_s``, or nothing was found.
    """
    raise NotImplementedError
