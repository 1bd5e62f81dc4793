"""The fifth stage: build the artifacts, each format in a child process."""

from __future__ import annotations

from edgevid import targets
from edgevid.errors import EdgevidError
from edgevid_converters import target_selection
from edgevid_converters.lowering.artifact_builder import (
    BuildResult,
    BuiltArtifact,
    remainder_notes,
)
from edgevid_converters.pipeline.context import BUILD, ConversionRun
from edgevid_converters.pipeline.lower import LoweredModel
from edgevid_converters.pipeline.plan import Plan


def build_artifacts(plan: Plan, lowered: LoweredModel, run: ConversionRun) -> BuildResult:
    """Build every planned artifact; what cannot be built does not stop the others.

    An artifact is refused if its converter crashes, if it is an integer artifact with float
    operators, or if the target's runtime is too old for it.
    """
    built: list[BuiltArtifact] = []
    refused: dict[str, EdgevidError] = {}
    for format_name, quantisations in plan.quantisations.items():
        if format_name in lowered.refused:
            names = (f"{format_name}-{one}" for one in quantisations)
            refused |= dict.fromkeys(names, lowered.refused[format_name])
            continue
        what = f"converting to {format_name} {', '.join(quantisations)}"
        run.report(what, BUILD * len(quantisations))
        result = lowered.builder.build(format_name, quantisations)
        refused |= result.refused
        for note in remainder_notes(result.built):  # before anything is proven or repaired
            run.report.note(note)
        for one in result.built:
            try:
                _check_target(plan.target, one)
            except EdgevidError as error:
                refused[one.artifact.name] = error
            else:
                built.append(one)
    return BuildResult(tuple(built), refused)


def _check_target(target: targets.Target | None, built: BuiltArtifact) -> None:
    if target is not None:
        target_selection.check_release(target, built.artifact)
