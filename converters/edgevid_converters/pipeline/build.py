"""The fifth stage: build the artifacts, each format in a child process."""

from __future__ import annotations

from edgevid_converters import target_selection
from edgevid_converters.lowering.artifact_builder import BuiltArtifact
from edgevid_converters.pipeline.context import ConversionRun
from edgevid_converters.pipeline.lower import LoweredModel
from edgevid_converters.pipeline.plan import Plan


def build_artifacts(
    plan: Plan, lowered: LoweredModel, run: ConversionRun
) -> tuple[BuiltArtifact, ...]:
    """Build every planned artifact.

    Raises:
        ChildFailed: A converter crashed.
        CheckFailed: An integer artifact has float operators, or the target's runtime is too old
            for an artifact.
    """
    built: list[BuiltArtifact] = []
    for format_name, quantisations in plan.quantisations.items():
        run.report(f"converting to {format_name} {', '.join(quantisations)}")
        built += lowered.builder.convert(format_name, quantisations)
    if plan.target:
        for one in built:
            target_selection.check_release(plan.target, one.artifact)
    return tuple(built)
