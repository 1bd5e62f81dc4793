"""The last stage: the evidence, the bundle and the page next to it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from edgevid import bundle as bundles
from edgevid.bundle import Artifact, Bundle
from edgevid.contract import Contract
from edgevid.evidence import (
    CalibrationRecord,
    Evidence,
    GateRecord,
    OperatorCount,
    PreprocessingProof,
    ReferenceRecord,
    preprocessing_text,
)
from edgevid.files import text_bytes, writing
from edgevid.proof import Golden
from edgevid.tasks.host import open_host
from edgevid_converters import graphs
from edgevid_converters.acceptance.artifact_acceptance import AcceptanceResult
from edgevid_converters.acceptance.gates import Budget
from edgevid_converters.importers.source_model import SourceModel
from edgevid_converters.importers.trust import NOTE
from edgevid_converters.lowering.artifact_builder import BuiltArtifact
from edgevid_converters.page import StepTimes, page, page_path
from edgevid_converters.pipeline.accept import AcceptedArtifacts
from edgevid_converters.pipeline.context import ConversionRun
from edgevid_converters.pipeline.data import ConversionData
from edgevid_converters.pipeline.lower import LoweredModel
from edgevid_converters.pipeline.plan import Plan
from edgevid_converters.pipeline.result import Conversion, ConvertedArtifact, RepairedArtifact
from edgevid_converters.pipeline.source import ConversionSource

PACKAGES = ("ai-edge-litert", "av", "edgevid", "keras", "nncf", "numpy", "openvino", "tensorflow")
"""Packages whose version the evidence records."""


def collect_evidence(
    plan: Plan,
    source: ConversionSource,
    data: ConversionData,
    lowered: LoweredModel,
    accepted: AcceptedArtifacts,
) -> Evidence:
    """Collect what the earlier stages found."""
    model, budget, results = source.model, plan.options.budget, accepted.results
    return Evidence(
        source={"kind": model.kind, **model.record},
        split={name: tuple(listed) for name, listed in model.split.items()},
        calibration=CalibrationRecord(data.names, lowered.calibration_sha256),
        held_out=data.held_out_record(),
        preprocessing=preprocessing_proof(model, lowered.reference, budget),
        gates=GateRecord(
            budget.max_drop,
            budget.min_metric,
            lowered.reference,
            (*([NOTE] if model.trusted else []), *data.notes, *lowered.notes, *accepted.notes),
        ),
        outputs={one.name: one.differences for one in results},
        sensitivity=lowered.sensitivity,
        operators={one.name: counts for one in results if (counts := _operators(one.built))},
        float_remainder={
            one.name: one.built.remainder for one in results if one.built.remainder is not None
        },
        layers={
            one.name: tuple(layer.record() for layer in accepted.layers(one))
            for one in results
            if accepted.layers(one)
        },
        lowering=lowered.attempts,
        repair={name: repair.record() for name, repair in accepted.repairs.items()},
        versions=_versions(),
        task=open_host(model.contract.task).evidence(model.contract),
        refused=accepted.reasons() or None,
    )


def preprocessing_proof(
    model: SourceModel, reference: ReferenceRecord | None, budget: Budget
) -> PreprocessingProof:
    """Return what shows that the model gets the input that it was trained on.

    Source and artifact share one contract, so comparing them shows nothing.
    """
    if not model.imported:
        return "own"
    if reference is not None:
        return "reference"
    return "unproven" if budget.min_metric is None else "floor"


def write_bundle(
    plan: Plan,
    contract: Contract,
    lowered: LoweredModel,
    accepted: AcceptedArtifacts,
    evidence: Evidence,
    run: ConversionRun,
) -> Conversion:
    """Write the bundle and the page.

    Raises:
        OSError: The disk is full, or a folder cannot be written.
    """
    results = accepted.results
    golden = replace(lowered.golden, references={one.name: one.recorded for one in results})
    times = StepTimes(
        {one.name: one.latency_ms for one in results},
        {name: repair.latencies_ms() for name, repair in accepted.repairs.items()},
    )
    draft = BundleDraft(contract, results, golden, evidence, times)
    bundle = draft.write(Path(plan.options.out), run.folder)
    assert evidence.gates is not None and evidence.preprocessing is not None
    return Conversion(
        bundle.path,
        bundle.sha256,
        page_path(bundle.path),
        tuple(ConvertedArtifact(one, times.artifacts[one.name]) for one in bundle.artifacts),
        evidence.preprocessing,
        evidence.gates.notes,
        {
            name: RepairedArtifact(repair.record(), repair.latencies_ms())
            for name, repair in accepted.repairs.items()
        },
        accepted.reasons(),
        plan.formats,
        preprocessing_text(evidence.preprocessing, evidence.gates.reference),
    )


@dataclass(frozen=True)
class BundleDraft:
    """What goes into a bundle and onto its page."""

    contract: Contract
    results: Sequence[AcceptanceResult]
    golden: Golden
    evidence: Evidence
    times: StepTimes

    def write(self, path: Path, folder: Path) -> Bundle:
        """Write the bundle and the page next to it: both, or neither.

        The page is rendered first, from a copy of the bundle in ``folder``, and gets its name
        last.
        """
        copy = self._write_bundle(folder / "like" / path.name)
        with writing(page_path(path)) as part:
            part.write_bytes(text_bytes(page(copy, self.times)))
            return self._write_bundle(path)

    def _write_bundle(self, path: Path) -> Bundle:
        files: list[tuple[Artifact, Mapping[str, bytes]]] = [
            (one.built.artifact, one.built.files) for one in self.results
        ]
        members, evidence = self.golden.to_members(), self.evidence.to_json()
        return bundles.write(path, self.contract, files, members, evidence)


def _operators(built: BuiltArtifact) -> tuple[OperatorCount, ...]:
    graph = graphs.read(built.artifact.format, built.files)
    return graphs.table(graph) if graph else ()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
