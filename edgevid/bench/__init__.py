"""How fast a bundle's artifacts are on this machine, and whether the figures are worth anything.

Every engine has one process, which lives through all rounds of its jobs. The rounds of all jobs are
interleaved, so that whatever drifts in a machine hits all of them alike; the machine is watched all
the while. What comes of it is one document: see `edgevid.bench.samples`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import __version__, proof, registry
from edgevid.bench import interference
from edgevid.bench import operators as profiler
from edgevid.bench.figures import figures_of
from edgevid.bench.job import Job
from edgevid.bench.samples import FORMAT, unpack
from edgevid.errors import BadInput
from edgevid.files import sha256_of
from edgevid.isolation.json_rpc import JsonRpcProcess
from edgevid.progress import Progress, silent
from edgevid.runtimes import CPU

if TYPE_CHECKING:
    from edgevid.bench.interference import MonitorRecord
    from edgevid.bundle import Bundle
    from edgevid.runner.engines import Choice

SCENARIOS = ("step", "single", "paced")
"""Those that are measured unasked."""
MODULE = "edgevid.bench.engine_process"
OPEN_S, SLOW_S, TIMES_SLOWER = 180.0, 600.0, 20.0
SUSTAINED_ROUND_S = 10.0
TELLS = 0.1
"""The first and the last so much of a sustained run are held against each other."""


@dataclass(frozen=True)
class BenchPlan:
    """How much is measured: ``samples`` of each job in all rounds, each of at least ``seconds``.

    ``sustained_s`` measures one job after the other for so long without a break. ``starts`` are the
    fresh processes in which the first answer is timed.
    """

    rounds: int = 10
    samples: int = 800  # a p99 needs 662 that are steady
    seconds: float = 1.0
    starts: int = 3
    sustained_s: float | None = None

    def round_options(self) -> dict[str, Any]:
        """What is asked of one round."""
        if self.sustained_s is not None:
            return {"seconds": min(SUSTAINED_ROUND_S, self.sustained_s), "samples": 1}
        return {"seconds": self.seconds, "samples": math.ceil(self.samples / self.rounds)}

    def turns(self, jobs: int, *, swing: bool = False) -> Iterator[tuple[int, int]]:
        """Job and round, in the order in which they are measured.

        ``swing``: backwards in every other round, so that neither of two neighbours is always the
        second one.
        """
        if self.sustained_s is None:
            for turn in range(self.rounds):
                there = range(jobs)
                yield from ((job, turn) for job in (there[::-1] if swing and turn % 2 else there))
            return
        count = math.ceil(self.sustained_s / SUSTAINED_ROUND_S)
        yield from ((job, turn) for job in range(jobs) for turn in range(count))

    def count(self, jobs: int) -> int:
        """How many rounds there are in all."""
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
    """Every engine in every scenario.

    ``rate_fps`` is the model's own unless it is given, ``latency_ms`` the time between two frames.
    Raises `BadInput` for a scenario that there is none of, or that cannot feed the model.
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
            where = (choice.artifact, choice.runtime, choice.accelerator, name, threads)
            more = (video if kind.on_video else {}) | (pace if kind.paced else {})
            jobs.append(Job(*where, **more))  # type: ignore[arg-type]
    return jobs


@dataclass
class _Engine:
    """One engine's process, and what is known of it."""

    talk: JsonRpcProcess
    opened: Mapping[str, Any]
    starts: list[Mapping[str, Any]] = field(default_factory=list)
    operators: Mapping[str, Any] | None = None
    peak_rss_mb: float = 0.0


@dataclass(frozen=True)
class _Work:
    """A job, and the bundle that it is of; ``side`` tells one bundle's from another's."""

    side: int
    bundle: Bundle
    job: Job

    @property
    def engine(self) -> tuple[object, ...]:
        """Jobs that are alike in this are measured in one process."""
        return self.side, *self.job.engine

    @property
    def name(self) -> str:
        """The bundle's whole path."""
        return str(self.bundle.path.resolve())


class _Bench:
    """One run of it all; everything that it starts ends with ``stack``."""

    def __init__(
        self,
        work: Sequence[_Work],
        video: Path,
        plan: BenchPlan,
        progress: Progress,
        stack: ExitStack,
    ) -> None:
        self._work, self._video, self._plan = work, video, plan
        self._progress, self._stack = progress, stack
        self._several = len({one.side for one in work}) > 1
        self.rounds: list[list[dict[str, Any]]] = [[] for _ in work]
        self.engines: dict[tuple[object, ...], _Engine] = {}

    def engine(self, work: _Work) -> _Engine:
        """The engine of a job."""
        return self.engines[work.engine]

    def overhead(self) -> Mapping[str, Any]:
        """Measure the harness."""
        with JsonRpcProcess(MODULE, "measuring the harness") as talk:
            return talk.call({"do": "overhead", "bundle": self._work[0].name}, SLOW_S)

    def open(self) -> None:
        """Time fresh starts, profile, and start the process of every engine."""
        first = list({work.engine: work for work in self._work}.values())
        for done, work in enumerate(first):
            bundle, job = work.bundle, work.job
            self._progress("prepare", done, len(first), self._spoken(work, str(job.choice)))
            if job.accelerator == CPU:
                # As it is from a device's second start on; an accelerator's is part of each start.
                proof.require(bundle, job.artifact, job.runtime, job.accelerator)
            starts = [self._fresh(work) for _ in range(self._plan.starts)]
            found = profiler.profile(bundle, job)
            talk, opened = self._started(work)
            self._stack.enter_context(talk)
            self.engines[work.engine] = _Engine(talk, opened, starts, found)
        self._progress("prepare", len(first), len(first))

    def _fresh(self, work: _Work) -> Mapping[str, Any]:
        talk, opened = self._started(work)
        with talk:
            answered = talk.call({"do": "first", "job": work.job.to_json()}, OPEN_S)
        return {"ready_s": opened["ready_s"], **answered}

    def _started(self, work: _Work) -> tuple[JsonRpcProcess, Mapping[str, Any]]:
        job = work.job
        talk = JsonRpcProcess(MODULE, f"measuring {self._spoken(work, str(job.choice))}")
        with closed_on_error(talk):
            request = {"do": "open", "bundle": work.name, "video": str(self._video.resolve())}
            return talk, talk.call({**request, "job": job.to_json()}, OPEN_S)

    def pids(self) -> list[int]:
        """All processes that are measured."""
        return [pid for engine in self.engines.values() for pid in engine.opened["pids"]]

    def measure(self) -> MonitorRecord:
        """All rounds of all jobs, while the machine is watched."""
        plan, total = self._plan, self._plan.count(len(self._work))
        turns = plan.turns(len(self._work), swing=self._several)
        with interference.Monitor(self.pids) as monitor:
            for done, (number, turn) in enumerate(turns):
                work = self._work[number]
                self._progress("bench", done, total, self._spoken(work, str(work.job)))
                monitor.mark(f"{number}:{turn}")
                self._round(number, work)
                monitor.mark("")
            record = monitor.stop()
        for engine in self.engines.values():
            engine.peak_rss_mb = engine.talk.call({"do": "end"}, OPEN_S)["peak_rss_mb"]
        self._progress("bench", total, total)
        return record

    def _spoken(self, work: _Work, what: str) -> str:
        return f"{work.bundle.path.name}: {what}" if self._several else what

    def _round(self, number: int, work: _Work) -> None:
        rounds, wish = self.rounds[number], self._plan.round_options()
        slow_s = SLOW_S if not rounds else 60.0 + TIMES_SLOWER * rounds[0]["elapsed_s"]
        request = {"do": "round", "job": work.job.to_json(), **wish}
        rounds.append(self.engine(work).talk.call(request, slow_s + wish["seconds"]))


@contextmanager
def closed_on_error(talk: JsonRpcProcess) -> Iterator[None]:
    """End a child that did not come to do its work."""
    try:
        yield
    except BaseException:
        talk.close()
        raise


def bench(
    bundle: Bundle,
    jobs: Sequence[Job],
    video: Path,
    *,
    plan: BenchPlan | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure ``jobs`` on the video file ``video``, and judge; gives the result document.

    Raises `CheckFailed` for an engine that does not pass its proof, `BadVideo`, and
    `EnvironmentFailed` where a measuring process fails, with its last words.
    """
    return together([(bundle, jobs)], video, plan=plan, progress=progress)[0]


def together(
    sides: Sequence[tuple[Bundle, Sequence[Job]]],
    video: Path,
    *,
    plan: BenchPlan | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Measure several bundles in one run; a result document of each, to be compared in pairs.

    Job i of one is measured next to job i of the others, round by round; see `bench`.
    """
    if not all(jobs for _, jobs in sides):
        raise BadInput("there is nothing to measure; give a scenario")
    plan = plan or BenchPlan()
    source = _source(video)
    places = range(max(len(jobs) for _, jobs in sides))
    work = [
        _Work(side, bundle, jobs[place])
        for place in places
        for side, (bundle, jobs) in enumerate(sides)
        if place < len(jobs)
    ]
    with ExitStack() as stack:
        run = _Bench(work, video, plan, progress, stack)
        harness = run.overhead()
        run.open()
        created = time.time()
        record = run.measure()
    results = [
        _result(one.job, run.engine(one), run.rounds[number], plan, _part(record, number))
        for number, one in enumerate(work)
    ]
    common = {
        "format": FORMAT,
        "edgevid": __version__,
        "created_unix_s": round(created, 3),
        "machine": interference.machine(),
        "release": None,
        "harness": dict(harness),
    }
    documents = []
    for side, (bundle, _) in enumerate(sides):
        own = [(w.job, r) for w, r in zip(work, results, strict=True) if w.side == side]
        documents.append(_document(common, bundle, source, own))
    return documents


def _document(
    common: Mapping[str, Any],
    bundle: Bundle,
    source: Mapping[str, Any],
    found: Sequence[tuple[Job, dict[str, Any]]],
) -> dict[str, Any]:
    reasons = [f"{job}: {why}" for job, one in found for why in one["reasons"]]
    return {
        **common,
        "valid": not reasons,
        "reasons": reasons,
        "bundle": _told(bundle, {job.artifact for job, _ in found}),
        "source": dict(source),
        "results": [one for _, one in found],
    }


def _told(bundle: Bundle, measured: Container[str]) -> dict[str, Any]:
    """What a bundle is, and what its evidence says of the artifacts that were measured."""
    artifacts = [
        {"name": one.name, "quantize": one.quantize, "bytes": one.bytes, "metric": dict(one.metric)}
        for one in bundle.artifacts
        if one.name in measured
    ]
    told = {"path": str(bundle.path), "name": bundle.path.stem, "key": bundle.key}
    return {**told, "artifacts": artifacts}


def _part(record: MonitorRecord, number: int) -> MonitorRecord:
    return record.part(lambda label: label.partition(":")[0] == str(number))


def _source(video: Path) -> dict[str, Any]:
    from edgevid.media.video import open_file

    with open_file(str(video)) as source:
        status = source.status()
    told = {name: status[name] for name in ("size", "rate_fps", "codec")}
    return {"name": video.name, **told, "sha256": sha256_of(video)}


def _result(
    job: Job, engine: _Engine, rounds: list[dict[str, Any]], plan: BenchPlan, record: MonitorRecord
) -> dict[str, Any]:
    found = figures_of(job.scenario, rounds, job.latency_ms)
    reasons = [*_reasons(job, engine, found), *interference.disturbances(record)]
    return {
        "job": job.to_json(),
        "precision": engine.opened["precision"],
        **found,
        "sustained": _sustained(rounds) if plan.sustained_s is not None else None,
        "first_answer_s": [one["first_answer_s"] for one in engine.starts],
        "ready_s": [one["ready_s"] for one in engine.starts],
        "peak_rss_mb": engine.peak_rss_mb,
        "operators": engine.operators,
        "valid": not reasons,
        "reasons": reasons,
        "rounds": rounds,
        "timeline": record.timeline,
    }


def _reasons(job: Job, engine: _Engine, found: Mapping[str, Any]) -> Iterator[str]:
    """Why the engine's own figures are worth nothing."""
    served = engine.opened["serving"]
    asked = {name: getattr(job, name) for name in served}
    if served != asked:
        words = [" ".join(one.values()) for one in (asked, served)]
        yield f"{words[0]} was to be measured, and {words[1]} served"
    fallen = profiler.fallen_back(engine.operators, job.accelerator)
    if fallen is not None:
        yield fallen
    if not found.get("warm_up", {"found": True})["found"]:
        yield "it never became steady; measure longer, with more --samples"


def _sustained(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the last tenth of a long run compares with the first one, by medians of rounds."""
    from statistics import median

    name = "latency" if "latency" in rounds[0]["samples"] else "step"
    medians = [median(unpack(one["samples"][name])) for one in rounds]
    tenth = max(1, round(TELLS * len(medians)))
    first, last = median(medians[:tenth]), median(medians[-tenth:])
    return {
        "first_ms": round(1000 * first, 5),
        "last_ms": round(1000 * last, 5),
        "ratio": round(last / first, 4),
        "rounds_ms": [round(1000 * one, 5) for one in medians],
    }
