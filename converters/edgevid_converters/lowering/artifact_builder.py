"""Builds the artifacts of one lowered model, each format in a child process."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgevid import registry
from edgevid.bundle import Artifact
from edgevid.errors import EdgevidError
from edgevid.evidence import FloatRemainder
from edgevid.isolation.child_task import error_from_json
from edgevid.proof.replay import own_tolerances
from edgevid_converters import conversion_cache
from edgevid_converters.child_process import MEASURING, ChildFailed, ask
from edgevid_converters.lowering.protocol import (
    CALIBRATED,
    LayerError,
    Operator,
    check_remainder,
    describe_remainder,
    remainder_of,
    summary,
)

MEASURED_BYTES = 4 << 20
"""Size of the largest model whose layers are measured one by one before anything is refused."""


@dataclass(frozen=True)
class BuiltArtifact:
    """One artifact before it is in a bundle.

    Attributes:
        artifact: Its entry in the manifest.
        files: Its files: ending -> content.
        layers: Error of each layer alone in int8, largest first; empty if not measured.
        remainder: What the quantiser of an integer artifact left in float32, if anything.
    """

    artifact: Artifact
    files: Mapping[str, bytes]
    layers: tuple[LayerError, ...] = ()
    remainder: FloatRemainder | None = None


@dataclass(frozen=True)
class BuildResult:
    """What became of some artifacts.

    Attributes:
        built: Those that could be built.
        refused: Artifact -> why it could not.
    """

    built: tuple[BuiltArtifact, ...] = ()
    refused: Mapping[str, EdgevidError] = field(default_factory=dict)


@dataclass(frozen=True)
class ArtifactBuilder:
    """Builds artifacts of one lowered model.

    Attributes:
        forms: Format -> the form of the model that its converter takes.
        lowered: What the child that lowered the model answered: the paths of the forms
            (``lowered``) and of the recorded calibration (``trajectories``), and the contract.
        folder: Where the artifacts' files go.
        allow_float: Accept float operators in an integer artifact.
        as_it_is: The model is quantised already: its artifacts compute what it computes, and no
            layer of theirs can be kept in float32.
    """

    forms: Mapping[str, str]
    lowered: Mapping[str, Any]
    folder: Path
    allow_float: bool = False
    as_it_is: bool = False

    def task(self, do: str, format_name: str) -> dict[str, Any]:
        """Return the part that every task of a converter has; see `child_tasks.TASKS`."""
        form = self.forms[format_name]
        return {
            "do": do,
            "format": format_name,
            "form": form,
            "lowered": self.lowered["lowered"][form],
            "trajectories": self.lowered["trajectories"],
            "contract": self.lowered["contract"],
            "allow_float": self.allow_float or self.as_it_is,
            "as_it_is": self.as_it_is,
            "work": str(self.folder / "work"),
        }

    def measures(self, format_name: str) -> bool:
        """Whether the error of each layer is measured although nothing has to be repaired.

        It takes as many quantised models as there are layers, so only for small ones.
        """
        path = Path(self.lowered["lowered"][self.forms[format_name]])
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files)
        return not self.as_it_is and size <= MEASURED_BYTES

    def operators(self, format_name: str) -> dict[str, int]:
        """Count the operators of the float model in one format, by kind.

        Raises:
            ChildFailed: The converter crashed.
        """
        what = f"reading the operators for {format_name}"
        return dict(self._ask(what, self.task("operators", format_name))["operators"])

    def _ask(self, what: str, task: Mapping[str, Any]) -> dict[str, Any]:
        """Run a task of a converter; it reads what lowering wrote, and writes in `folder`."""
        read = [task["lowered"], *task["trajectories"].values()]
        if task["form"] == "ir":
            read.append(str(Path(task["lowered"]).with_suffix(".bin")))
        return ask(what, task, read=read, write=self.folder)

    def convert(
        self,
        format_name: str,
        quantisations: Sequence[str],
        keep: Mapping[str, Sequence[str]] | None = None,
    ) -> list[BuiltArtifact]:
        """Build the artifacts of one format in one child process.

        Args:
            format_name: The format.
            quantisations: One artifact for each.
            keep: Quantisation -> layers that stay in float32. Without it the int8 error of each
                layer is measured too; if only that fails, the artifact has no ``layers``.

        Raises:
            ChildFailed: The converter crashed.
            CheckFailed: An integer artifact has float operators.
        """
        result = self.build(format_name, quantisations, keep)
        for error in result.refused.values():
            raise error
        return list(result.built)

    def build(
        self,
        format_name: str,
        quantisations: Sequence[str],
        keep: Mapping[str, Sequence[str]] | None = None,
    ) -> BuildResult:
        """Build the artifacts of one format; one that fails does not stop the others.

        See `convert`. After a crash a new child builds what the first one had not begun.
        """
        described = self._described(format_name, quantisations, keep)
        built: list[BuiltArtifact] = []
        refused: dict[str, EdgevidError] = {}
        for quantisation in quantisations:
            name = f"{format_name}-{quantisation}"
            found = described[name]
            try:
                if isinstance(found, EdgevidError):
                    raise found
                if "error" in found:
                    raise error_from_json(found)
                built.append(self.read_artifact(format_name, quantisation, found))
            except EdgevidError as error:
                refused[name] = error
        return BuildResult(tuple(built), refused)

    def _described(
        self,
        format_name: str,
        quantisations: Sequence[str],
        keep: Mapping[str, Sequence[str]] | None,
    ) -> dict[str, Mapping[str, Any] | EdgevidError]:
        """What children answer about each artifact, or how they failed at it."""
        task = {
            **self.task("convert", format_name),
            "keep": {name: list(layers) for name, layers in (keep or {}).items()},
            "measure": not keep and self.measures(format_name),
            "out": str(self.folder),
        }
        left = {f"{format_name}-{one}": one for one in quantisations}
        for name in left:
            (self.folder / f"{name}.json").unlink(missing_ok=True)
        found: dict[str, Mapping[str, Any] | EdgevidError] = {}
        for name, known in self._remembered(task, left).items():
            found[name] = known
            del left[name]
        while left:
            try:
                quantize = list(left.values())
                answer = self._ask(f"conversion to {format_name}", {**task, "quantize": quantize})
                made = {name: answer[name] for name in left}
                self._remember(task, left, made)
                return found | made
            except ChildFailed as error:
                found |= self._finished(left)
                task["measure"] = task["measure"] and error.at != MEASURING
                blamed = [error.at] if error.at in left else [] if error.at == MEASURING else left
                found |= dict.fromkeys(blamed, error)
                left = {name: one for name, one in left.items() if name not in found}
        return found

    def _identity(self, task: Mapping[str, Any], quantisation: str) -> dict[str, Any] | None:
        """What an artifact depends on; None where nothing is kept."""
        hashes = self.lowered.get("hashes")
        if not hashes:
            return None
        return {
            "unit": "artifact",
            "model": hashes[task["form"]],
            "calibration": hashes["calibration"] if quantisation in CALIBRATED else None,
            "quantize": quantisation,
            "kept": list(task["keep"].get(quantisation, ())),
            "measure": task["measure"] and quantisation == "int8",
            "converter": registry.row("converter", task["format"]).origin,
            **{key: task[key] for key in ("format", "form", "contract")},
        }

    def _remembered(
        self, task: Mapping[str, Any], wanted: Mapping[str, str]
    ) -> dict[str, dict[str, Any]]:
        """The artifacts that an earlier conversion has built; their files are in `folder` then."""
        cache = conversion_cache.current()
        found = {}
        for name, quantisation in wanted.items():
            identity = self._identity(task, quantisation)
            if cache is not None and identity is not None:
                described = cache.fetch(identity, self.folder)
                if described is not None:
                    found[name] = described
        return found

    def _remember(
        self, task: Mapping[str, Any], wanted: Mapping[str, str], made: Mapping[str, Any]
    ) -> None:
        """Keep the artifacts that children have built."""
        cache = conversion_cache.current()
        for name, quantisation in wanted.items():
            identity = self._identity(task, quantisation)
            if cache is not None and identity is not None and "error" not in made[name]:
                files = [self.folder / f"{name}.{ending}" for ending in made[name]["endings"]]
                cache.store(identity, made[name], self.folder, files)

    def _finished(self, names: Collection[str]) -> dict[str, Any]:
        """What a child that crashed later has left of the artifacts it had made."""
        files = {name: self.folder / f"{name}.json" for name in names}
        return {
            name: json.loads(file.read_bytes()) for name, file in files.items() if file.exists()
        }

    def layer_errors(self, format_name: str) -> list[LayerError]:
        """Measure the int8 error of each layer in one format; the largest comes first.

        Raises:
            ChildFailed: The converter crashed.
        """
        task = self.task("layer_errors", format_name)
        artifact = {**task, "keep": {}, "measure": True}
        identity = self._identity(artifact, "int8")
        answer = conversion_cache.remembered(
            lambda: identity and {**identity, "unit": "layers"},
            lambda: self._ask(f"measuring the layers of {format_name}", task),
        )
        return [LayerError(**one) for one in answer["layers"]]

    def read_artifact(
        self, format_name: str, quantisation: str, described: Mapping[str, Any]
    ) -> BuiltArtifact:
        """Read one artifact that a child has written.

        Args:
            format_name: Its format.
            quantisation: Its quantisation.
            described: What the child answered about it.

        Raises:
            CheckFailed: It is an integer artifact with float operators.
        """
        name = f"{format_name}-{quantisation}"
        operators = [Operator(**operator) for operator in described["float_ops"]]
        left = remainder_of(operators) if quantisation in CALIBRATED else None
        if left is not None and not (self.allow_float or self.as_it_is):
            check_remainder(name, left, registry.load("converter", format_name).leaves)
        artifact = Artifact(
            name,
            format_name,
            quantisation,
            float_ops=summary(operators),
            tolerance=own_tolerances(quantisation),
            smallest_runtime=described["smallest_runtime"],
        )
        files = {e: (self.folder / f"{name}.{e}").read_bytes() for e in described["endings"]}
        layers = tuple(LayerError(**one) for one in described.get("layers", ()))
        return BuiltArtifact(artifact, files, layers, left)


def remainder_notes(built: Sequence[BuiltArtifact]) -> list[str]:
    """Return a note for each integer artifact that its quantiser left partly in float32."""
    known = registry.names("converter")
    return [
        describe_remainder(
            one.artifact.name, one.remainder, registry.load("converter", one.artifact.format).leaves
        )
        for one in built
        if one.remainder is not None and one.artifact.format in known
    ]
