"""The result of a benchmark: what `edgevid bench --out` writes and others read.

Its JSON schema is published: ``edgevid schema bench``. Latencies are in milliseconds, raw samples
in seconds (packed, see `edgevid.bench.samples`). The open part is ``metric`` of an artifact: what
the bundle's evidence says in the terms of its task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from edgevid.bench.interference.machine_info import MachineInfo
from edgevid.bench.interference.record import MonitorLook
from edgevid.bench.job import Job
from edgevid.bench.samples import PackedSamples
from edgevid.bench.statistics import Estimate, Insufficient
from edgevid.documents import from_json, optional
from edgevid.errors import BadInput

FORMAT = 1
"""The version of the document's format; a reader rejects any other."""

REMEDY = "measure again"

Percentiles: TypeAlias = Mapping[str, Estimate | Insufficient]
"""``p50``, ``p90``, ... and ``mean``, in milliseconds."""


@dataclass(frozen=True)
class WarmUpPeriod:
    """The warm-up of a job, which no statistic includes."""

    samples: int
    seconds: float
    found: bool
    """False: the samples never became steady."""


@dataclass(frozen=True)
class Deadlines:
    """Frames of a paced stream that were answered too late or not at all."""

    bound_ms: float
    of: int
    """Frames that were sent."""
    missed: int
    """``late`` and ``unanswered`` together."""
    late: int
    unanswered: int
    share: float | None
    """``missed`` divided by ``of``."""


@dataclass(frozen=True)
class HeldStreams:
    """How many cameras one engine serves within a latency bound."""

    value: int
    """The median over rounds."""
    low: int
    high: int
    rounds: tuple[int, ...]
    bound_ms: float | None


@dataclass(frozen=True)
class SustainedRun:
    """The last tenth of a long run compared with the first, by medians of rounds."""

    first_ms: float
    last_ms: float
    ratio: float
    rounds_ms: tuple[float, ...]


@dataclass(frozen=True)
class OperatorKind:
    """All operators of one kind in one place."""

    kind: str
    place: str
    """The accelerator, or ``cpu``."""
    count: int
    ms: float | None
    """Milliseconds a step, all of them together; None if the profiler measures no time."""


@dataclass(frozen=True)
class OperatorProfile:
    """Where the operators of an engine ran."""

    accelerated: int
    on_cpu: int
    kinds: tuple[OperatorKind, ...]
    """The slowest first."""


@dataclass(frozen=True)
class UnknownProfile:
    """Why an engine could not be profiled."""

    unknown: str


@dataclass(frozen=True)
class RoundResult:
    """One round of a job: raw samples and frame counts."""

    started_unix_s: float
    elapsed_s: float
    frames: Mapping[str, int]
    """Frames by what became of them; ``answered`` in every scenario."""
    samples: Mapping[str, PackedSamples]
    """Durations by name: ``latency``, ``step`` and the stages."""
    streams: int | None = optional()
    """Scenario ``multi``: the most streams that kept the bound."""
    tried: Mapping[str, float] | None = optional()
    """Scenario ``multi``: the share of frames in time, by number of streams."""
    fps: float | None = optional()
    sent: int | None = optional()
    """Scenario ``paced``: frames that were sent."""


@dataclass(frozen=True, kw_only=True)
class JobFigures:
    """The statistics of a job; the ones that its scenario does not measure are absent."""

    warm_up: WarmUpPeriod | None = optional()
    latency_ms: Percentiles | None = optional()
    step_ms: Percentiles | None = optional()
    stages_ms: Mapping[str, float] | None = optional()
    """The mean of each stage; in scenario ``single`` they add up to the wall time."""
    runner_ms: Percentiles | None = optional()
    """What the runner adds to a frame: everything but decoding, preprocessing and the step."""
    fps: Estimate | Insufficient | None = optional()
    deadlines: Deadlines | None = optional()
    streams: HeldStreams | None = optional()


@dataclass(frozen=True, kw_only=True)
class JobResult(JobFigures):
    """One engine in one scenario: its statistics, its verdict and its raw samples."""

    job: Job
    precision: str
    sustained: SustainedRun | None = None
    first_answer_s: tuple[float, ...]
    """Age of a fresh process when it answered its first frame."""
    ready_s: tuple[float, ...] = ()
    """Age of a fresh process when its engine was loaded."""
    peak_rss_mb: float
    operators: OperatorProfile | UnknownProfile | None = None
    valid: bool
    reasons: tuple[str, ...]
    """Why the result is invalid."""
    rounds: tuple[RoundResult, ...]
    timeline: tuple[MonitorLook, ...] = ()
    """The state of the machine during this job's rounds."""

    @property
    def series(self) -> Literal["latency", "step"]:
        """The samples that the job is about: ``latency``, or ``step`` where only that exists."""
        return "latency" if "latency" in self.rounds[0].samples else "step"

    @property
    def percentiles(self) -> Percentiles:
        """The percentiles of `series`, in milliseconds."""
        return (self.latency_ms if self.series == "latency" else self.step_ms) or {}

    @property
    def engine(self) -> tuple[str, str]:
        """The artifact, and ``runtime/accelerator``."""
        return self.job.artifact, f"{self.job.runtime}/{self.job.accelerator}"


@dataclass(frozen=True)
class BenchedArtifact:
    """An artifact that was measured."""

    name: str
    quantize: str
    bytes: int
    metric: Mapping[str, Any] = field(default_factory=dict)
    """The task's own metric from the bundle's evidence; its keys belong to the task."""


@dataclass(frozen=True)
class BenchedBundle:
    """The bundle that was measured."""

    path: str
    name: str
    key: str
    """The bundle's hash."""
    artifacts: tuple[BenchedArtifact, ...] = ()


@dataclass(frozen=True)
class BenchVideo:
    """The video that was measured on."""

    name: str
    size: tuple[int, ...]
    """Height and width in pixels."""
    rate_fps: float
    codec: str
    sha256: str


@dataclass(frozen=True)
class HarnessOverhead:
    """What the harness itself adds to a step, in microseconds."""

    overhead_us: Mapping[str, float]


@dataclass(frozen=True)
class BenchedDevice:
    """The device that a result was measured on, by its name in the inventory."""

    name: str
    target: str | None = None


@dataclass(frozen=True)
class ComparisonVerdict:
    """One figure of the new result compared with the old one."""

    outcome: Literal["no worse", "worse", "better", "inconclusive"]
    ratio: Estimate
    """New divided by old; above 1 the new one takes longer."""
    p_value: float
    why: str


@dataclass(frozen=True)
class FigureComparison:
    """One figure of one job in two results."""

    job: str
    metric: str
    verdict: ComparisonVerdict
    tail: bool = False
    """A tail that is worse decides; an inconclusive one does not."""


@dataclass(frozen=True)
class BenchComparison:
    """Two results compared."""

    outcome: Literal["no worse", "worse", "better", "inconclusive"]
    paired: bool
    """Whether the rounds of both were interleaved in one run."""
    comparisons: tuple[FigureComparison, ...]


@dataclass(frozen=True)
class TuningResult:
    """The engine that ``--tune`` chose."""

    choice: str | None
    """None: the stored choice was removed."""
    name: str
    """The file name of the stored choice."""
    content: Mapping[str, Any] | None
    tried: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Engines that may not be chosen, each with the reason."""
    kept: bool | None = optional()
    """With ``--target``: whether the choice was stored on the device."""


@dataclass(frozen=True)
class ForgottenTuning:
    """What ``--tune --forget`` prints: nothing was measured."""

    bundle: BenchedBundle
    tuned: TuningResult
    format: Literal[1] = 1
    valid: Literal[True] = True
    reasons: tuple[str, ...] = ()
    results: tuple[JobResult, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """Latency, throughput and conditions of a bundle's engines on one machine."""

    schema_version: Literal[1] = 1
    format: Literal[1] = 1
    edgevid: str
    """The version of edgevid that measured."""
    created_unix_s: float
    machine: MachineInfo
    release: str | None = None
    """The release on the device, if it was measured with that."""
    harness: HarnessOverhead
    valid: bool
    """False: something disturbed the measurement, or an engine did not run as requested."""
    reasons: tuple[str, ...]
    """Why the result is invalid."""
    bundle: BenchedBundle
    source: BenchVideo
    results: tuple[JobResult, ...]
    comparison: BenchComparison | None = optional()
    """The comparison with a baseline."""
    tuned: TuningResult | None = optional()
    device: BenchedDevice | None = optional()
    throw_away: bool | None = optional()
    """With ``--target``: whether a temporary runner measured."""
    service: Literal["paused", "beside"] | None = None
    """With ``--target``: what the service on the device did meanwhile; None: there is none."""

    @property
    def device_name(self) -> str:
        """The machine's name: from the inventory, else its board or its processor."""
        cpu = self.machine.cpu
        model = None if cpu is None else cpu.model
        name = None if self.device is None else self.device.name
        return name or self.machine.board or model or "this machine"


def read_result(data: Any, name: str) -> BenchResult:
    """Read a bench result.

    Args:
        data: Plain data, as `json.loads` gives it.
        name: What the result is called in an error message, such as its path.

    Raises:
        BadInput: If the format is unknown, or a field is missing or has the wrong type.
    """
    if not isinstance(data, Mapping):
        raise BadInput(f"{name} is not a bench result; give a file that --out wrote")
    found = data.get("format")
    if found != FORMAT:
        raise BadInput(f"{name} has format {found}, this edgevid reads {FORMAT}; {REMEDY}")
    result = from_json(BenchResult, data, name, REMEDY)
    if not all(one.rounds for one in result.results):
        raise BadInput(f"{name} is damaged: a job has no rounds; {REMEDY}")
    return result
