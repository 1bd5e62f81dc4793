"""The acceptance of one artifact: replayed in a child process, then measured on held-out clips."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from edgevid import bundle as bundles
from edgevid import runtimes
from edgevid.contract import Contract
from edgevid.errors import CheckFailed
from edgevid.evaluation import compare, predict, step_clips
from edgevid.evidence import TensorDifference
from edgevid.progress import Progress, silent
from edgevid.proof import Golden
from edgevid.proof.golden import RecordedOutputs, read_recorded
from edgevid.proof.replay import SOURCE_UNEXPLAINED
from edgevid.proof.verdict import record_in_child
from edgevid.tasks.host import open_host
from edgevid.tasks.host.metrics import Comparison
from edgevid_converters.acceptance import agreement, proof_cache
from edgevid_converters.acceptance.agreement import FrameAgreement
from edgevid_converters.acceptance.gates import NOT_MEASURED, Budget
from edgevid_converters.acceptance.parity import (
    describe_sensitivity,
    differences,
    reference_runtime,
    systematic_difference,
    wider_tolerances,
)
from edgevid_converters.lowering.artifact_builder import BuiltArtifact
from edgevid_converters.lowering.protocol import INTEGERS

if TYPE_CHECKING:
    from edgevid.bundle import Artifact
    from edgevid.contract import Tensors
    from edgevid.data.cache import Clips
    from edgevid.runtimes import Engine
    from edgevid_converters.calibration.observed import ObservedSteps
    from edgevid_converters.calibration.sensitivity import Sensitivities

TIMED_STEPS = 30


class SourceMissesBudget(CheckFailed):
    """The source model itself misses the budget, so no artifact of it can keep it."""


@dataclass(frozen=True)
class AcceptanceResult:
    """What the gates found for one artifact.

    Attributes:
        built: The artifact, with parity and metric as far as they were measured.
        reason: Why it is refused, as a phrase that follows its name; None if it is accepted.
        repairable: Whether keeping some layers in float32 may help.
        comparison: The task's metric next to the source model's.
        differences: Differences from the source model by tensor.
        recorded: What it computed on each golden trajectory.
        latency_ms: Median time of a step on this machine; None if it was not run.
        frames: Agreement of an integer artifact on all available frames; None if not measured.
    """

    built: BuiltArtifact
    reason: str | None = None
    repairable: bool = False
    comparison: Comparison = NOT_MEASURED
    differences: Mapping[str, TensorDifference] = field(default_factory=dict)
    recorded: tuple[RecordedOutputs, ...] = ()
    latency_ms: float | None = None
    frames: FrameAgreement | None = None

    @property
    def name(self) -> str:
        """Name of the artifact."""
        return self.built.artifact.name

    @property
    def ok(self) -> bool:
        """Whether every gate accepts it."""
        return self.reason is None

    @property
    def distance(self) -> tuple[float, float]:
        """Distance from the source model, for sorting: drop of the metric, largest difference."""
        off, drop = self.built.artifact.parity.get("max_abs"), self.comparison.drop
        far = inf if off is None or off != off else float(off)
        return (inf if drop is None or drop != drop else drop), far

    def with_comparison(self, comparison: Comparison) -> AcceptanceResult:
        """Return the result with another comparison, in the artifact's evidence too."""
        artifact = replace(self.built.artifact, metric=comparison.to_json())
        return replace(self, built=replace(self.built, artifact=artifact), comparison=comparison)


@dataclass(frozen=True)
class ArtifactAcceptance:
    """The gates of a conversion.

    Attributes:
        contract: The model's contract.
        golden: The golden trajectories, recorded from the source model.
        budget: Limits of the task's metric.
        folder: For temporary files.
        held_out: Labelled clips; without them parity alone decides.
        source_outputs: The source model's outputs for each annotated frame of these.
        progress: Called while clips are measured.
        sensitivity: Precision -> tensor -> how far it moves in the source model itself.
        observed: Calibration steps with the source model's outputs.
        owner: The owner's streams, each with the source model's outputs on it; inputs and outputs
            by name, ``(N, *shape)`` without a batch axis.
    """

    contract: Contract
    golden: Golden
    budget: Budget
    folder: Path
    held_out: Clips | None = None
    source_outputs: Sequence[Tensors] = ()
    progress: Progress = silent
    sensitivity: Sensitivities = field(default_factory=dict)
    observed: ObservedSteps | None = None
    owner: Sequence[tuple[Tensors, Tensors]] = ()

    def check(self, built: BuiltArtifact) -> AcceptanceResult:
        """Replay the golden trajectories, then measure the task's metric.

        Raises:
            MissingExtra: No runtime for the artifact's format is installed.
            SourceMissesBudget: The source model itself misses the budget.
            EngineFailed: A step fails.
        """
        wider = wider_tolerances(built.artifact.quantize, self.sensitivity)
        artifact = replace(built.artifact, tensor_tolerance=wider)
        runtime = reference_runtime(artifact)
        record = self.folder / f"{artifact.name}.npz"
        draft = self.folder / "draft.edgevid"
        members = self.golden.to_members()
        bundles.write(draft, self.contract, [(artifact, built.files)], members, {})
        verdict = proof_cache.remembered_verdict(
            draft,
            artifact.name,
            runtime,
            record,
            lambda: record_in_child(draft, artifact.name, runtime, record),
        )
        parity = {
            "max_abs": verdict.max_abs,
            "agreement": verdict.agreement,
            "n": verdict.steps,
        }
        metric = NOT_MEASURED.to_json()
        built = replace(built, artifact=replace(artifact, parity=parity, metric=metric))
        reason = f"does not reproduce the model in {runtime}: "
        if not verdict.ok:
            known = describe_sensitivity(verdict.tensor, artifact.quantize, self.sensitivity)
            reason += f"{verdict.reason}{known if verdict.max_abs is not None else ''}"
            repairable = artifact.quantize == "int8" and verdict.precision is not None
            return AcceptanceResult(built, reason, repairable)
        recorded = read_recorded(record)
        found = differences(self.golden, recorded)
        if wrong := systematic_difference(artifact.quantize, found, self.sensitivity):
            return AcceptanceResult(built, f"{reason}{wrong}")
        result = AcceptanceResult(built, differences=found, recorded=recorded)
        return self._measured(result, runtime)

    def _measured(self, result: AcceptanceResult, runtime: str) -> AcceptanceResult:
        """Add the metric and the latency; the engine has just passed its replay in a child."""
        built = result.built
        engine: Engine = runtimes.get(runtime).load(built.files, self.contract)
        try:
            latency_ms = self._latency_ms(engine)
            comparison, held_out = self._comparison(built.artifact.name, engine)
            reason = self.budget.violation(comparison)
            frames = None if reason else self.frames(built.artifact, engine, held_out)
        finally:
            engine.close()
        if violation := self.budget.source_violation(comparison):
            raise SourceMissesBudget(violation)
        if frames is not None and reason is None:
            parity = {**built.artifact.parity, **frames.to_json()}
            built = replace(built, artifact=replace(built.artifact, parity=parity))
            reason = None if comparison.name else self.disagreement(frames)
        return replace(
            replace(result, built=built).with_comparison(comparison),
            reason=reason,
            repairable=reason is not None and built.artifact.quantize == "int8",
            latency_ms=latency_ms,
            frames=frames,
        )

    def _comparison(self, name: str, engine: Engine) -> tuple[Comparison, list[Tensors]]:
        """Measure the metric; returns the artifact's outputs on the labelled frames too."""
        host = open_host(self.contract.task)
        if self.held_out is None or host.metric is None:
            return NOT_MEASURED, []
        annotated = host.annotations(self.held_out)
        outputs = list(
            step_clips(self.contract, engine, self.held_out, annotated, self.progress, name)
        )
        before, after = (predict(self.contract, one) for one in (self.source_outputs, outputs))
        return compare(self.contract, before, after, annotated), outputs

    def frames(
        self, artifact: Artifact, engine: Engine, held_out: Sequence[Tensors]
    ) -> FrameAgreement | None:
        """Compare an integer artifact with the source on all available frames.

        Args:
            artifact: The artifact; of one in float nothing is measured.
            engine: It, loaded.
            held_out: Its outputs on the labelled frames.

        Returns:
            None if there are no frames.

        Raises:
            EngineFailed: A step fails.
        """
        if artifact.quantize not in INTEGERS:
            return None
        source = self.source_outputs if held_out else ()
        pairs: list[Iterable[tuple[Tensors, Tensors]]] = [zip(source, held_out, strict=True)]
        if self.observed is not None:
            pairs.append(agreement.on_observed(self.contract, engine, self.observed))
        pairs += [agreement.on_recording(self.contract, engine, *one) for one in self.owner]
        there = bool(held_out or self.observed or self.owner)
        return agreement.measure(self.contract, chain.from_iterable(pairs)) if there else None

    def disagreement(self, frames: FrameAgreement) -> str | None:
        """Explain why an artifact without a metric is too far from the source; None if it is not.

        Args:
            frames: Its agreement with the source; that of a model whose outputs never change means
                nothing.
        """
        least = open_host(self.contract.task).min_agreement
        output, share = frames.unlike
        if least is None and frames.varied and share > SOURCE_UNEXPLAINED:
            return (
                f"differs from the model in {output} by {share:.2f} of its own variation over "
                f"{frames.n} frames, more than {SOURCE_UNEXPLAINED:g}; give more varied clips "
                "(--calibrate), or use --quantize float16"
            )
        if least is None or not frames.varied or frames.agreement >= least:
            return None
        return (
            f"{frames.describe()}, less than {least:g}, and without labels nothing shows that this "
            "is harmless; give labelled clips (--data), more varied ones (--calibrate), or use "
            "--quantize float16"
        )

    def _latency_ms(self, engine: Engine) -> float:
        """Return the median time of some steps over the first golden trajectory."""
        trajectory = self.golden.trajectories[0]
        state = trajectory.state_at(0)
        times = []
        for step in range(TIMED_STEPS):
            inputs = trajectory.inputs_at(step % len(trajectory))
            started = time.perf_counter()
            engine.step(inputs, state)
            times.append((time.perf_counter() - started) * 1e3)
        return round(median(times), 4)
