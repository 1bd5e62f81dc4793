"""The conversion of a model to a bundle, as a sequence of stages.

    make_plan -> read_source -> read_data -> lower_model -> build_artifacts -> accept_artifacts
    -> write_bundle

Each stage is a function from the frozen dataclasses of the earlier ones to its own. An artifact
that cannot be built, or does not pass, stops no other: the bundle has what passed, and its evidence
lists the rest. Without any that passes nothing is written.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from edgevid.arguments import checked
from edgevid.progress import Progress, silent
from edgevid_converters import importers
from edgevid_converters.child_process import limited, served
from edgevid_converters.conversion_cache import ConversionCache, using
from edgevid_converters.pipeline.accept import accept_artifacts
from edgevid_converters.pipeline.build import build_artifacts
from edgevid_converters.pipeline.context import PAGE, READ, ConversionRun, ProgressReport
from edgevid_converters.pipeline.data import read_data
from edgevid_converters.pipeline.lower import lower_model
from edgevid_converters.pipeline.options import ConvertArguments, ConvertOptions
from edgevid_converters.pipeline.plan import make_plan
from edgevid_converters.pipeline.result import Conversion
from edgevid_converters.pipeline.source import read_source
from edgevid_converters.pipeline.write import collect_evidence, write_bundle

__all__ = ["Conversion", "ConvertArguments", "ConvertOptions", "convert", "run_stages"]


@checked
def convert(
    model: Path | str, *, progress: Progress = silent, **options: Unpack[ConvertArguments]
) -> Conversion:
    """Convert a model to artifacts and write them, with their evidence, as one bundle.

    Args:
        model: The model's file or folder.
        progress: Called for each step.
        options: The other fields of `ConvertOptions`.

    Returns:
        What was written; ``refused`` has the artifacts that did not pass.

    Raises:
        WrongType: An argument has another type.
        BadInput: An option, the model, its contract or the data is wrong.
        MissingExtra: A package is missing.
        CheckFailed: No artifact reproduces the model; nothing is written.
        ConverterFailed: The converters crashed on every artifact; nothing is written.
    """
    paths = ("contract", "calibrate", "data", "reference", "out")
    given: dict[str, Any] = {
        name: Path(value) if name in paths and isinstance(value, str) else value
        for name, value in options.items()
    }
    return run_stages(ConvertOptions(Path(model), **given), progress)


def run_stages(options: ConvertOptions, progress: Progress = silent) -> Conversion:
    """Run the stages of a conversion; see `convert`.

    Args:
        options: The options.
        progress: Called for each step.

    Raises:
        BadInput: An option, the model, its contract or the data is wrong.
        MissingExtra: A package is missing.
        CheckFailed: No artifact reproduces the model; nothing is written.
        ConverterFailed: The converters crashed on every artifact; nothing is written.
    """
    plan = make_plan(options)
    importers.kind_of(options.model)
    with (
        limited(options.limits),
        served(),
        using(ConversionCache.open() if options.cache else None),
        tempfile.TemporaryDirectory(prefix="edgevid-convert-") as folder,
    ):
        report = ProgressReport(progress, plan.weight)
        report(f"reading {options.model.name}", READ)
        plan, source = read_source(plan)
        shared = ConversionRun(Path(folder), report, progress)
        data = read_data(plan, source, shared)
        lowered = lower_model(plan, source, data, shared)
        data = replace(data, clips=())  # they may be large, and only lowering needs them
        built = build_artifacts(plan, lowered, shared)
        accepted = accept_artifacts(plan, source, data, lowered, built, shared)
        report("writing the bundle and its page", PAGE)
        evidence = collect_evidence(plan, source, data, lowered, accepted)
        conversion = write_bundle(plan, source.model.contract, lowered, accepted, evidence, shared)
    report.finish()
    return conversion
