"""The sixth stage: check every artifact against the source model, and repair what int8 broke."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgevid.errors import CheckFailed, EdgevidError
from edgevid_converters.acceptance.agreement import THIN
from edgevid_converters.acceptance.artifact_acceptance import (
    AcceptanceResult,
    ArtifactAcceptance,
    SourceMissesBudget,
)
from edgevid_converters.acceptance.gates import Budget
from edgevid_converters.acceptance.repair import RepairResult, repair_artifact
from edgevid_converters.lowering import edgetpu
from edgevid_converters.lowering.artifact_builder import (
    BuildResult,
    BuiltArtifact,
    remainder_notes,
)
from edgevid_converters.lowering.protocol import INTEGERS, LayerError
from edgevid_converters.pipeline.context import PROVE, ConversionRun
from edgevid_converters.pipeline.data import ConversionData
from edgevid_converters.pipeline.lower import LoweredModel
from edgevid_converters.pipeline.plan import Plan
from edgevid_converters.pipeline.source import ConversionSource


@dataclass(frozen=True)
class AcceptedArtifacts:
    """The artifacts that the bundle will hold.

    Attributes:
        results: What the gates found, in the order of the plan; each is accepted.
        repairs: Artifact -> its repair.
        notes: Findings of the compiler and the gates.
        refused: Artifact that was asked for and did not pass -> why, and the remedy.
    """

    results: tuple[AcceptanceResult, ...]
    repairs: Mapping[str, RepairResult]
    notes: tuple[str, ...]
    refused: Mapping[str, EdgevidError] = field(default_factory=dict)

    def layers(self, result: AcceptanceResult) -> tuple[LayerError, ...]:
        """Return the int8 error of each layer of an artifact, as measured before any repair."""
        repair = self.repairs.get(result.name)
        return repair.layers if repair else result.built.layers

    def reasons(self) -> dict[str, str]:
        """Return the reasons of the refusals as phrases that follow the artifact's name."""
        return {n: str(error).removeprefix(f"{n} ") for n, error in self.refused.items()}


def accept_artifacts(
    plan: Plan,
    source: ConversionSource,
    data: ConversionData,
    lowered: LoweredModel,
    built: BuildResult,
    run: ConversionRun,
) -> AcceptedArtifacts:
    """Check each artifact and repair those that int8 broke; one that fails stops no other.

    Raises:
        CheckFailed: The source model itself misses the budget, or no artifact passed.
        EdgevidError: The only reason why no artifact passed.
    """
    options = plan.options
    acceptance = ArtifactAcceptance(
        source.model.contract,
        lowered.golden,
        options.budget,
        run.folder,
        data.held_out,
        lowered.source_outputs,
        run.progress,
        lowered.sensitivity,
        lowered.observed,
        lowered.owner,
    )
    results: list[AcceptanceResult] = []
    repairs: dict[str, RepairResult] = {}
    refused = dict(built.refused)
    for one in built.built:
        name = one.artifact.name
        run.report(f"proving {name}", PROVE)
        try:
            result = acceptance.check(one)
            if not result.ok:
                repaired = repair_artifact(
                    result, acceptance, lowered.builder, run.report.more, repair=options.repair
                )
                result = repaired.accepted(name, is_run=not source.model.imported)
                repairs[name] = repaired
        except SourceMissesBudget:
            raise
        except EdgevidError as error:
            refused[name] = error
            run.report.note(f"{name} is refused")
        else:
            results.append(result)
    notes: list[str] = []
    if plan.edgetpu:
        run.report.note("compiling for the Edge TPU")
        try:
            compiled, notes = _compile_for_edgetpu(results)
            results.append(compiled)
        except EdgevidError as error:
            refused[edgetpu.ARTIFACT] = error
    if not results:
        raise nothing_passed(refused)
    passed = {one.name for one in results}
    measured = [one for one in built.built if one.artifact.name in passed]
    notes += notes_on(results, options.budget) + remainder_notes([one.built for one in results])
    measures = lowered.builder.measures
    notes += unmeasured_notes([one for one in measured if measures(one.artifact.format)])
    return AcceptedArtifacts(tuple(results), repairs, tuple(notes), refused)


def nothing_passed(refused: Mapping[str, EdgevidError]) -> EdgevidError:
    """Return the error for a conversion without any artifact: the only reason, or all of them."""
    reasons = dict.fromkeys(map(str, refused.values()))
    if len(reasons) == 1:
        return next(iter(refused.values()))
    listed = "; ".join(f"{n}: {str(e).removeprefix(f'{n} ')}" for n, e in refused.items())
    return CheckFailed(f"no artifact passed, so nothing is written: {listed}")


def _compile_for_edgetpu(
    results: Sequence[AcceptanceResult],
) -> tuple[AcceptanceResult, list[str]]:
    """Compile the int8 ``.tflite`` with Google's compiler; returns its messages too.

    This machine cannot run the outcome: it inherits parity, metric and outputs from the
    ``.tflite``, and the proof on a device compares it with these.

    Raises:
        CheckFailed: The ``.tflite`` was refused, or the Edge TPU executes nothing of it.
        ConverterFailed: The compiler failed.
        MissingExtra: The compiler is not installed.
    """
    base = next((one for one in results if one.name == "tflite-int8"), None)
    if base is None:
        raise CheckFailed(f"{edgetpu.ARTIFACT} needs tflite-int8, which did not pass; see there")
    content, report = edgetpu.compile_model(base.built.files["tflite"])
    name = edgetpu.ARTIFACT
    artifact = replace(base.built.artifact, name=name, format=edgetpu.FORMAT)
    compiled = replace(
        base, built=replace(base.built, artifact=artifact, files={"tflite": content}, layers=())
    )
    return compiled, [f"{name}: {line}" for line in report.lines()]


def notes_on(results: Sequence[AcceptanceResult], budget: Budget) -> list[str]:
    """Return what the held-out clips cannot resolve, each once, and what was not measured."""
    unresolved = (budget.resolution_note(one.comparison) for one in results)
    weak = (budget.chance_note(one.comparison) for one in results)
    coarse = (_coarse_note(one) for one in results)
    return sorted({note for note in (*unresolved, *weak) if note}) + [n for n in coarse if n]


def _coarse_note(result: AcceptanceResult) -> str | None:
    """A note on an integer artifact that was accepted without a metric."""
    artifact, frames = result.built.artifact, result.frames
    if artifact.quantize not in INTEGERS or result.comparison.name is not None:
        return None
    if frames is None:
        return (
            f"{artifact.name}: no metric was measured, so a coarse bound alone decided; "
            f"its largest difference is {artifact.parity['max_abs']:.2g}"
        )
    if not frames.varied:
        return (
            f"{artifact.name}: no metric was measured, and the model gives the same outputs for "
            f"all {frames.n} frames, so nothing shows what int8 costs"
        )
    thin = "; this is thin evidence, give more clips with --calibrate or --data"
    return (
        f"{artifact.name}: no metric was measured; it {frames.describe()}"
        f"{thin if frames.n < THIN else ''}"
    )


def unmeasured_notes(built: Sequence[BuiltArtifact]) -> list[str]:
    """Return a note for each int8 artifact whose layers could not be measured."""
    return [
        f"{one.artifact.name}: its layers could not be measured one by one"
        for one in built
        if one.artifact.quantize == "int8" and not one.layers
    ]
