"""What the harness itself adds to a step: it measures the null engine with an empty step."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from edgevid.bench.result import HarnessOverhead
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


def measure(bundle: Bundle) -> HarnessOverhead:
    """Measure the time between steps of the scenario ``step``, p50 and p99 in microseconds.

    The engine's step takes no time, so all of it is the harness and the null engine's schedule.
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
    return HarnessOverhead({name: round(1000 * value, 2) for name, value in found.items()})


class _Idle:
    """An engine that only records the time."""

    runtime, accelerator, precision = "null", "cpu", "float32"

    def __init__(self, contract: Contract) -> None:
        self.moments: list[float] = []
        self._answer = zero_state(contract)

    def step(self, inputs: Inputs, state: Tensors) -> tuple[Tensors, Tensors]:
        """Return the state unchanged."""
        self.moments.append(perf_counter())
        return self._answer, state

    def close(self) -> None:
        """Do nothing; there is nothing to release."""
