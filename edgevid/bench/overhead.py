"""What the harness itself costs a step: it measures the stand-in around a step of no length."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from edgevid.bench.scenarios import RoundOptions, ScenarioSetup
from edgevid.bench.scenarios.step import StepScenario
from edgevid.media.sources import SourceOptions
from edgevid.runner.meters import percentiles_ms
from edgevid.runtimes import zero_state
from edgevid.runtimes.null.cpu import NullEngine

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.contract import Contract, Inputs, Tensors

STEPS = 3000


def measure(bundle: Bundle) -> dict[str, Any]:
    """``{"overhead_us": {"p50": ..., "p99": ...}}``: from step to step of the scenario ``step``.

    The engine steps in no time, so all of that is the harness, with the stand-in's own schedule.
    """
    idle = _Idle(bundle.contract)
    engine = NullEngine(idle, {})
    options = SourceOptions()
    setup = ScenarioSetup(
        bundle, "null", engine, Path(), rate_fps=1.0, latency_s=1.0, options=options
    )
    StepScenario(setup).round(RoundOptions(0.0, STEPS))
    gaps = [after - before for before, after in pairwise(idle.moments)]
    found = percentiles_ms(gaps[STEPS // 10 :], (50, 99))
    return {"overhead_us": {name: round(1000 * value, 2) for name, value in found.items()}}


class _Idle:
    """An engine that does nothing but look at the clock."""

    runtime, accelerator, precision = "null", "cpu", "float32"

    def __init__(self, contract: Contract) -> None:
        self.moments: list[float] = []
        self._answer = zero_state(contract)

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Give the same state back."""
        self.moments.append(perf_counter())
        return self._answer, state

    def close(self) -> None:
        """Nothing is held."""
