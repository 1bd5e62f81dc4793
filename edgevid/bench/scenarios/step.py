"""``step``: the engine alone, on the inputs of the golden trajectory, its state carried over."""

from __future__ import annotations

from itertools import cycle
from time import perf_counter
from typing import TYPE_CHECKING

from edgevid.bench.samples import Series
from edgevid.bench.scenarios import Round, RoundOptions, ScenarioSetup
from edgevid.proof import Golden
from edgevid.runtimes import zero_state

if TYPE_CHECKING:
    from edgevid.contract import Tensors


class StepScenario:
    """The scenario ``step``."""

    paced = on_video = False

    def __init__(self, setup: ScenarioSetup) -> None:
        golden = Golden.read(setup.bundle)
        self._inputs = [one.inputs_at(n) for one in golden.trajectories for n in range(len(one))]
        self._engine = setup.engine
        self._state: Tensors = zero_state(setup.bundle.contract)

    def round(self, options: RoundOptions) -> Round:
        """Step at full speed; a sample is one step, including its tensors in and out."""
        series, step, state = Series(), self._engine.step, self._state
        began = now = perf_counter()
        until = began + options.seconds
        for inputs in cycle(self._inputs):
            if now >= until and series.count >= options.samples:
                break
            before = perf_counter()
            _, state = step(inputs, state)
            now = perf_counter()
            series.add(now - before)
        return Round(now - began, {"answered": series.count}, {"step": series})
