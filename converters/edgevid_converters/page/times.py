"""Step times on the machine that converted; they are on the page, never in the bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class StepTimes:
    """Median times of a step in milliseconds; None for what was not run.

    Attributes:
        artifacts: By artifact.
        rungs: By repaired artifact, of each attempt.
    """

    artifacts: Mapping[str, float | None] = field(default_factory=dict)
    rungs: Mapping[str, Sequence[float | None]] = field(default_factory=dict)


NO_TIMES = StepTimes()
