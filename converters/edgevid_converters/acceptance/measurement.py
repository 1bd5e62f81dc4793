"""One artifact before the gates: proven in a child, then measured on held-out clips."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from edgevid import bundle as bundles
from edgevid import registry, runtimes
from edgevid.bundle import Artifact
from edgevid.contract import Contract
from edgevid.errors import CheckFailed, MissingExtra
from edgevid.evaluation import compare, predict, step_clips
from edgevid.progress import Progress, silent
from edgevid.proof import Golden
from edgevid.proof.golden import Taken, read_taken
from edgevid.proof.verdict import record_in_child
from edgevid.proof.verify import runtimes_for
from edgevid.tasks.host import open_host
from edgevid.tasks.host.metrics import Comparison
from edgevid_converters.acceptance.gates import NOT_MEASURED, Budget
from edgevid_converters.lowering.protocol import LayerError

if TYPE_CHECKING:
    from edgevid.contract import Tensors
    from edgevid.data.cache import Clips
    from edgevid.runtimes import Engine

TIMED_STEPS = 30


@dataclass(frozen=True)
class BuiltArtifact:
    """One artifact on its way into the bundle.

    ``layers`` is what int8 costs each of them, empty where that was not measured.
    """

    artifact: Artifact
    files: Mapping[str, bytes]
    layers: tuple[LayerError, ...] = ()


@dataclass(frozen=True)
class AcceptanceResult:
    """What the gates say of an artifact; ``made`` has its parity and metric as far as it got.

    ``reason`` is why they say no, as a phrase that the artifact's name goes before. ``mendable``:
    a higher precision of some layers may help. ``outputs`` has the differences from the source, by
    tensor; ``taken`` what it gave on the golden trajectory; ``latency_ms`` the middle time of a
    step on this machine.
    """

    made: BuiltArtifact
    reason: str | None = None
    repairable: bool = False
    comparison: Comparison = NOT_MEASURED
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    taken: tuple[Taken, ...] = ()
    latency_ms: float | None = None

    @property
    def ok(self) -> bool:
        """Whether every gate says yes."""
        return self.reason is None

    @property
    def distance(self) -> tuple[float, float]:
        """How far from the source, for comparison: by the metric, then by the largest error."""
        off = self.made.artifact.parity.get("max_abs")
        drop = self.comparison.drop
        far = inf if off is None or off != off else float(off)
        return (inf if drop is None or drop != drop else drop), far

    def with_comparison(self, comparison: Comparison) -> AcceptanceResult:
        """Return the result with another comparison, also in the artifact's evidence."""
        artifact = replace(self.made.artifact, metric=comparison.to_json())
        return replace(self, made=replace(self.made, artifact=artifact), comparison=comparison)


@dataclass(frozen=True)
class ArtifactAcceptance:
    """All gates of a conversion.

    ``held_out`` are labelled clips, ``answers`` the source model's raw answers to them; None
    and empty where there are none: then parity alone decides.
    """

    contract: Contract
    golden: Golden
    budget: Budget
    folder: Path
    held_out: Clips | None = None
    answers: Sequence[Tensors] = ()
    progress: Progress = silent

    def judge(self, made: BuiltArtifact) -> AcceptanceResult:
        """Prove and measure; raises `MissingExtra` where no runtime is there for the format."""
        artifact = made.artifact
        runtime = reference_runtime(artifact)
        record = self.folder / f"{artifact.name}.npz"
        draft = self.folder / "draft.edgevid"
        bundles.write(draft, self.contract, [(artifact, made.files)], self.golden.to_members(), {})
        verdict = record_in_child(draft, artifact.name, runtime, record)
        parity = {"max_abs": verdict.max_abs, "agreement": verdict.agreement}
        made = replace(
            made, artifact=replace(artifact, parity=parity, metric=NOT_MEASURED.to_json())
        )
        if not verdict.ok:
            reason = f"does not do in {runtime} what the model does: {verdict.reason}"
            repairable = artifact.quantize == "int8" and verdict.precision is not None
            return AcceptanceResult(made, reason, repairable)
        taken = read_taken(record)
        judged = AcceptanceResult(made, outputs=outputs(self.golden, taken), taken=taken)
        return self._measured(judged, runtime)

    def _measured(self, judged: AcceptanceResult, runtime: str) -> AcceptanceResult:
        """Add the metric, and the time of a step; the engine loads here, where it was proven."""
        made = judged.made
        engine: Engine = runtimes.get(runtime).load(made.files, self.contract)
        try:
            latency_ms = self._latency_ms(engine)
            comparison = self._compare(made.artifact.name, engine)
        finally:
            engine.close()
        if violation := self.budget.source_violation(comparison):
            raise CheckFailed(violation)
        reason = self.budget.violation(comparison) or self._disagreement(made.artifact, comparison)
        return replace(
            judged.with_comparison(comparison),
            reason=reason,
            repairable=reason is not None and made.artifact.quantize == "int8",
            latency_ms=latency_ms,
        )

    def _compare(self, name: str, engine: Engine) -> Comparison:
        """Measure an artifact next to its source on the held-out clips, if there are any."""
        host = open_host(self.contract.task)
        if self.held_out is None or host.metric is None:
            return NOT_MEASURED
        annotated = host.annotations(self.held_out)
        outputs = step_clips(self.contract, engine, self.held_out, annotated, self.progress, name)
        before, after = (predict(self.contract, one) for one in (self.answers, outputs))
        return compare(self.contract, before, after, annotated)

    def _disagreement(self, artifact: Artifact, comparison: Comparison) -> str | None:
        """Say why an artifact that cannot be measured is too far from its source; None if not.

        This is coarse, since golden steps are few. It finds artifacts that predict by chance.
        """
        least = open_host(self.contract.task).min_agreement
        agreement = artifact.parity.get("agreement")
        if comparison.name or least is None or agreement is None or agreement >= least:
            return None
        return (
            f"agrees with the model on {agreement:.0%} of the golden steps only, and there are no "
            "labelled clips to show that this is harmless (--data)"
        )

    def _latency_ms(self, engine: Engine) -> float:
        """The middle of some steps, one after another, on a trajectory that it has shown to do."""
        trajectory = self.golden.trajectories[0]
        state = trajectory.state_at(0)
        times = []
        for step in range(TIMED_STEPS):
            inputs = trajectory.inputs_at(step % len(trajectory))
            started = time.perf_counter()
            engine.step(inputs, state)
            times.append((time.perf_counter() - started) * 1e3)
        return round(median(times), 4)


def outputs(golden: Golden, taken: Sequence[Taken]) -> dict[str, dict[str, Any]]:
    """The differences from the source by tensor, over all trajectories, recorded and carried.

    ``max_abs`` and ``mean_abs`` in units of the tensor's own range where that exceeds 1, both None
    where anything is not a number; ``range``, the source's largest magnitude.
    """
    import numpy as np

    differences: dict[str, list[Any]] = {}
    ranges: dict[str, float] = {}
    for trajectory, given in zip(golden.trajectories, taken, strict=True):
        wanted = trajectory.source()
        for kind in ("recorded", "carried"):
            for name, values in getattr(wanted, kind).items():
                off = np.abs(getattr(given, kind)[name] - values).ravel()
                differences.setdefault(name, []).append(off)
                most = float(np.abs(values).max(initial=0))
                ranges[name] = max(ranges.get(name, 0.0), most)
    found = {}
    for name, parts in sorted(differences.items()):
        off = np.concatenate(parts) / max(1.0, ranges[name])
        sound = bool(np.isfinite(off).all())
        found[name] = {
            "max_abs": _short(off.max()) if sound else None,
            "mean_abs": _short(off.mean()) if sound else None,
            "range": _short(ranges[name]),
        }
    return found


def _short(value: Any) -> float:
    """Six digits: enough to read, and the same everywhere."""
    return float(f"{float(value):.6g}")


def reference_runtime(artifact: Artifact) -> str:
    """The runtime whose answers on this machine's CPU are the artifact's own."""
    names = runtimes_for(artifact.format)
    if not names:
        raise MissingExtra(registry.install_line(f"a runtime for {artifact.format}", "convert"))
    return names[0]
