"""What a benchmark measures, and how much of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid import registry
from edgevid.bench.job import Job
from edgevid.bench.scenarios import RoundOptions
from edgevid.errors import BadInput

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.runner.engines import Choice

SCENARIOS = ("step", "single", "paced")
"""The scenarios that are measured by default."""
SUSTAINED_ROUND_S = 10.0


@dataclass(frozen=True)
class BenchPlan:
    """How much is measured.

    Attributes:
        rounds: Rounds of each job.
        samples: Samples of each job, in all rounds together; a p99 needs 662 after the warm-up.
        seconds: The least duration of a round.
        starts: Fresh processes in which the first prediction is timed.
        sustained_s: Measure one job after another, each for this long without a break.
    """

    rounds: int = 10
    samples: int = 800
    seconds: float = 1.0
    starts: int = 3
    sustained_s: float | None = None

    def round_options(self) -> RoundOptions:
        """Return the length of one round."""
        if self.sustained_s is not None:
            return RoundOptions(min(SUSTAINED_ROUND_S, self.sustained_s), 1)
        return RoundOptions(self.seconds, math.ceil(self.samples / self.rounds))

    def turns(self, jobs: int, *, alternate: bool = False) -> Iterator[tuple[int, int]]:
        """Yield job and round in the order in which they are measured.

        Args:
            jobs: How many jobs there are.
            alternate: Reverse the order in every other round, so that neither of two neighbours is
                always measured second.
        """
        if self.sustained_s is None:
            for turn in range(self.rounds):
                order = range(jobs)
                yield from (
                    (job, turn) for job in (order[::-1] if alternate and turn % 2 else order)
                )
            return
        count = math.ceil(self.sustained_s / SUSTAINED_ROUND_S)
        yield from ((job, turn) for job in range(jobs) for turn in range(count))

    def count(self, jobs: int) -> int:
        """Return the number of rounds of all jobs."""
        return sum(1 for _ in self.turns(jobs))


def jobs_of(
    bundle: Bundle,
    choices: Sequence[Choice],
    scenarios: Sequence[str] = SCENARIOS,
    *,
    threads: int = 1,
    decoder: str = "software",
    skip_loop_filter: bool = False,
    rate_fps: float | None = None,
    latency_ms: float | None = None,
) -> list[Job]:
    """Return a job for every engine in every scenario.

    Args:
        bundle: What is measured.
        choices: Its engines.
        scenarios: Names of registry kind ``scenario``.
        threads: Threads of a step.
        decoder: Video decoder.
        skip_loop_filter: Decode without the loop filter.
        rate_fps: Frame rate of the paced scenarios; None: the model's.
        latency_ms: Latency bound of the paced scenarios; None: the time between two frames.

    Raises:
        BadInput: If there is no such scenario, or it cannot feed the model.
    """
    rate = rate_fps or bundle.contract.rate_fps
    bound = latency_ms or round(1000 / rate, 3)
    jobs = []
    for choice in choices:
        for name in dict.fromkeys(scenarios):
            kind = registry.load("scenario", name)
            if kind.on_video and not bundle.contract.is_video:
                raise BadInput(
                    f"scenario {name} needs a model whose only input is a frame; {bundle.path} has "
                    f"{bundle.contract.input_names}; use --scenario step"
                )
            video = {"decoder": decoder, "skip_loop_filter": skip_loop_filter}
            pace = {"rate_fps": rate, "latency_ms": bound}
            engine = (choice.artifact, choice.runtime, choice.accelerator, name, threads)
            more = (video if kind.on_video else {}) | (pace if kind.paced else {})
            jobs.append(Job(*engine, **more))  # type: ignore[arg-type]
    return jobs
