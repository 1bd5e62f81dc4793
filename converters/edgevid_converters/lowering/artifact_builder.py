"""Makes the artifacts of one model, each format in a child, and mends those that int8 broke."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgevid.bundle import Artifact
from edgevid.errors import CheckFailed, EnvironmentFailed
from edgevid.proof.replay import own_tolerances
from edgevid_converters.acceptance.gates import NOT_MEASURED
from edgevid_converters.acceptance.measurement import (
    AcceptanceResult,
    ArtifactAcceptance,
    BuiltArtifact,
)
from edgevid_converters.acceptance.repair import RepairResult, listed, refuse, search_repair
from edgevid_converters.calibration import checks
from edgevid_converters.child_process import MEASURING, ChildFailed, ask
from edgevid_converters.lowering.protocol import LayerError, Operator, summary


@dataclass(frozen=True)
class ArtifactBuilder:
    """A lowered model: what all of its conversions have in common.

    ``forms`` has, by format, the form that its converter takes; ``lowered`` is what lowering
    answered; the files of artifacts go to ``folder``. With ``allow_float`` integers may have beside
    them what computes in float.
    """

    forms: Mapping[str, str]
    lowered: Mapping[str, Any]
    folder: Path
    allow_float: bool = False

    def task(self, do: str, format_name: str) -> dict[str, Any]:
        """What every task of a converter has: its format, and the model in the form it takes."""
        form = self.forms[format_name]
        return {
            "do": do,
            "format": format_name,
            "form": form,
            "lowered": self.lowered["lowered"][form],
            "trajectories": self.lowered["trajectories"],
            "contract": self.lowered["contract"],
        }

    def operators(self, format_name: str) -> dict[str, int]:
        """How many operators of each kind the float model has in one format."""
        answer = ask(
            f"reading the operators for {format_name}", self.task("operators", format_name)
        )
        return dict(answer["operators"])

    def convert(
        self,
        format_name: str,
        quantisations: Sequence[str],
        keep: Mapping[str, Sequence[str]] | None = None,
    ) -> list[BuiltArtifact]:
        """Make the artifacts of one format, in one child.

        ``keep`` has, by quantisation, the layers that stay in a higher precision; without it, what
        int8 costs each layer is measured on the way. Where just that fails, there is an artifact
        whose layers are not measured.
        """
        task = {
            **self.task("convert", format_name),
            "quantize": list(quantisations),
            "keep": {name: list(layers) for name, layers in (keep or {}).items()},
            "measure": not keep,
            "out": str(self.folder),
        }
        what = f"conversion to {format_name}"
        try:
            answer = ask(what, task)
        except ChildFailed as error:
            if error.at != MEASURING:
                raise
            answer = ask(what, task | {"measure": False})
        return [
            self.read_artifact(format_name, quantisation, answer[f"{format_name}-{quantisation}"])
            for quantisation in quantisations
        ]

    def layer_errors(self, format_name: str) -> list[LayerError]:
        """Measure what int8 costs each layer in one format, in a child; the worst comes first."""
        task = self.task("layer_errors", format_name)
        answer = ask(f"measuring the layers of {format_name}", task)
        return [LayerError(**one) for one in answer["layers"]]

    def read_artifact(
        self, format_name: str, quantisation: str, told: Mapping[str, Any]
    ) -> BuiltArtifact:
        """Take in one artifact; raises `CheckFailed` where integers have what computes in float."""
        name = f"{format_name}-{quantisation}"
        operators = [Operator(**operator) for operator in told["float_ops"]]
        stray = [operator for operator in operators if operator.stray and not operator.kept]
        if quantisation in checks.CALIBRATED and stray and not self.allow_float:
            raise CheckFailed(
                f"{name} computes {len(stray)} operators in float: "
                f"{listed([f'{one.kind} {one.name}' for one in stray])}; use layers that quantise, "
                "--allow-float, or --quantize float32"
            )
        artifact = Artifact(
            name,
            format_name,
            quantisation,
            float_ops=summary(operators),
            tolerance=own_tolerances(quantisation),
            smallest_runtime=told["smallest_runtime"],
        )
        files = {e: (self.folder / f"{name}.{e}").read_bytes() for e in told["endings"]}
        return BuiltArtifact(
            artifact, files, tuple(LayerError(**one) for one in told.get("layers", ()))
        )


def repair_artifact(
    first: AcceptanceResult,
    judge: ArtifactAcceptance,
    builder: ArtifactBuilder,
    report: Callable[[str], None],
    *,
    repair: bool,
) -> RepairResult:
    """Repair one artifact; raises `CheckFailed` where that is not possible, or not wanted."""
    artifact = first.made.artifact
    name, format_name = artifact.name, artifact.format
    if not (repair and first.repairable):
        raise CheckFailed(
            f"{name} {first.reason}; leave this artifact out, or change the model"
            if not first.repairable
            else f"{name} {first.reason}; leave out --no-repair, or this artifact"
        )
    report(f"measuring the layers of {name}")
    layers = first.made.layers or builder.layer_errors(format_name)

    def attempt(kept: tuple[str, ...]) -> AcceptanceResult:
        report(f"repairing {name}: {len(kept)} of {len(layers)} layers in float")
        try:
            made = builder.convert(format_name, [artifact.quantize], {artifact.quantize: kept})
        except (CheckFailed, EnvironmentFailed) as error:
            nothing = replace(artifact, parity={}, metric=NOT_MEASURED.to_json())
            return AcceptanceResult(BuiltArtifact(nothing, {}), f"could not be made: {error}")
        return judge.judge(made[0])

    return search_repair(first, layers, attempt)


def chosen(ladder: RepairResult, name: str) -> AcceptanceResult:
    """What the repair chose, its statistics allowing for the choice; raises `CheckFailed`."""
    if ladder.chosen is None:
        raise refuse(ladder, name)
    result = ladder.chosen.result
    return result.with_comparison(replace(result.comparison, tries=len(ladder.rungs)))
