"""The processes of a benchmark and their rounds: one process an engine, rounds interleaved."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import proof
from edgevid.bench import interference, operators
from edgevid.bench.job import Job
from edgevid.bench.plan import BenchPlan
from edgevid.bench.result import HarnessOverhead, OperatorProfile, RoundResult, UnknownProfile
from edgevid.documents import from_json
from edgevid.files import cache_folder
from edgevid.isolation.json_rpc import JsonRpcProcess
from edgevid.isolation.sandbox import LIMITS_ONLY, Sandbox
from edgevid.progress import Progress
from edgevid.proof.sandboxes import memory_mb, sandbox_for
from edgevid.proof.verdict import VERDICTS
from edgevid.runtimes import CPU

if TYPE_CHECKING:
    from edgevid.bench.interference import MonitorRecord
    from edgevid.bundle import Bundle

MODULE = "edgevid.bench.engine_process"
VIDEO_MB = 2048
"""Additional memory for decoding several streams."""
OPEN_S, SLOW_S, TIMES_SLOWER = 180.0, 600.0, 20.0
"""Time limits: to open an engine, for a first round, and of later rounds relative to the first."""


@dataclass(frozen=True)
class OpenedEngine:
    """What an engine process reports after loading."""

    precision: str
    serving: Mapping[str, str]
    """Artifact, runtime and accelerator that really run."""
    pids: tuple[int, ...]
    ready_s: float


@dataclass
class MeasuredEngine:
    """One engine's process, and what is known about it."""

    process: JsonRpcProcess
    opened: OpenedEngine
    ready_s: list[float] = field(default_factory=list)
    first_answer_s: list[float] = field(default_factory=list)
    operators: OperatorProfile | UnknownProfile | None = None
    peak_rss_mb: float = 0.0


@dataclass(frozen=True)
class BundleJob:
    """A job and its bundle; ``side`` tells the jobs of compared bundles apart."""

    side: int
    bundle: Bundle
    job: Job

    @property
    def engine(self) -> tuple[object, ...]:
        """Jobs with the same key are measured in one process."""
        return self.side, *self.job.engine

    @property
    def path(self) -> str:
        """The bundle's absolute path."""
        return str(self.bundle.path.resolve())


class Measurement:
    """One run of all jobs; every process that it starts ends with ``stack``."""

    def __init__(
        self,
        work: Sequence[BundleJob],
        video: Path,
        plan: BenchPlan,
        progress: Progress,
        stack: ExitStack,
    ) -> None:
        self._work, self._video, self._plan = work, video, plan
        self._progress, self._stack = progress, stack
        self._several = len({one.side for one in work}) > 1
        self.rounds: list[list[RoundResult]] = [[] for _ in work]
        self.engines: dict[tuple[object, ...], MeasuredEngine] = {}

    def engine(self, work: BundleJob) -> MeasuredEngine:
        """Return the engine of a job."""
        return self.engines[work.engine]

    def overhead(self) -> HarnessOverhead:
        """Measure the harness itself."""
        work = self._work[0]
        sandbox = engine_sandbox(work.bundle, work.job, self._video)
        with JsonRpcProcess(MODULE, "measuring the harness", sandbox) as process:
            found = process.call({"do": "overhead", "bundle": work.path}, SLOW_S)
        return from_json(HarnessOverhead, found, "the overhead of the harness")

    def open(self) -> None:
        """Time fresh starts, profile, and start the process of every engine."""
        first = list({work.engine: work for work in self._work}.values())
        for done, work in enumerate(first):
            bundle, job = work.bundle, work.job
            self._progress("prepare", done, len(first), self._label(work, str(job.choice)))
            if job.accelerator == CPU:
                # As on a device from its second start on; an accelerator is verified at each start.
                proof.require(bundle, job.artifact, job.runtime, job.accelerator)
            starts = [self._fresh(work) for _ in range(self._plan.starts)]
            profile = operators.profile(bundle, job)
            process, opened = self._started(work)
            self._stack.enter_context(process)
            self.engines[work.engine] = MeasuredEngine(
                process, opened, [one[0] for one in starts], [one[1] for one in starts], profile
            )
        self._progress("prepare", len(first), len(first))

    def _fresh(self, work: BundleJob) -> tuple[float, float]:
        """The age of a new process when its engine is ready, and after its first prediction."""
        process, opened = self._started(work)
        with process:
            found = process.call({"do": "first", "job": work.job.to_json()}, OPEN_S)
        return opened.ready_s, found["first_answer_s"]

    def _started(self, work: BundleJob) -> tuple[JsonRpcProcess, OpenedEngine]:
        job = work.job
        sandbox = engine_sandbox(work.bundle, job, self._video)
        name = f"measuring {self._label(work, str(job.choice))}"
        process = JsonRpcProcess(MODULE, name, sandbox)
        with closed_on_error(process):
            request = {"do": "open", "bundle": work.path, "video": str(self._video.resolve())}
            found = process.call({**request, "job": job.to_json()}, OPEN_S)
            return process, from_json(OpenedEngine, found, "the report of an engine process")

    def pids(self) -> list[int]:
        """Return all processes that are measured."""
        return [pid for engine in self.engines.values() for pid in engine.opened.pids]

    def measure(self) -> MonitorRecord:
        """Measure all rounds of all jobs while the machine is monitored."""
        plan, total = self._plan, self._plan.count(len(self._work))
        turns = plan.turns(len(self._work), alternate=self._several)
        with interference.Monitor(self.pids) as monitor:
            for done, (number, turn) in enumerate(turns):
                work = self._work[number]
                self._progress("bench", done, total, self._label(work, str(work.job)))
                monitor.mark(f"{number}:{turn}")
                self._round(number, work)
                monitor.mark("")
            record = monitor.stop()
        for engine in self.engines.values():
            engine.peak_rss_mb = engine.process.call({"do": "end"}, OPEN_S)["peak_rss_mb"]
        self._progress("bench", total, total)
        return record

    def _label(self, work: BundleJob, text: str) -> str:
        return f"{work.bundle.path.name}: {text}" if self._several else text

    def _round(self, number: int, work: BundleJob) -> None:
        rounds, options = self.rounds[number], self._plan.round_options()
        slow_s = SLOW_S if not rounds else 60.0 + TIMES_SLOWER * rounds[0].elapsed_s
        request: dict[str, Any] = {"do": "round", "job": work.job.to_json(), **asdict(options)}
        found = self.engine(work).process.call(request, slow_s + options.seconds)
        rounds.append(from_json(RoundResult, found, "a round of an engine process"))


def engine_sandbox(bundle: Bundle, job: Job, video: Path) -> Sandbox:
    """Return the sandbox of the process that measures an engine.

    The process keeps its home directory, as a serving process does: it reads the proof's verdict
    there, or proves the engine in a child if verdicts cannot be stored. An accelerator runs in a
    worker, which has its own sandbox.
    """
    if job.accelerator != CPU:
        return LIMITS_ONLY
    inner = sandbox_for(bundle, job.artifact, job.runtime)
    return replace(
        inner,
        read=(*inner.read, str(video.resolve()), str(cache_folder().resolve() / VERDICTS)),
        programs=(sys.executable,),
        memory_mb=memory_mb(bundle, job.artifact) + VIDEO_MB,
        own_home=False,
    )


@contextmanager
def closed_on_error(process: JsonRpcProcess) -> Iterator[None]:
    """End a child process if its work fails."""
    try:
        yield
    except BaseException:
        process.close()
        raise
