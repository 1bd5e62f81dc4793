"""The result of a conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgevid import documents
from edgevid.bundle import Artifact
from edgevid.evidence import RepairRecord


@dataclass(frozen=True)
class ConvertedArtifact:
    """One artifact in the bundle.

    Attributes:
        artifact: Its entry in the manifest.
        latency_ms: Median time of a step on this machine; None if it was not run here.
    """

    artifact: Artifact
    latency_ms: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data = asdict(self.artifact)
        data.pop("members")
        return data | {
            "float_ops": list(self.artifact.float_ops),
            "latency_ms": self.latency_ms,
        }


@dataclass(frozen=True)
class RepairedArtifact:
    """How one int8 artifact was repaired.

    Attributes:
        record: What evidence says of it.
        latencies_ms: Median time of a step of each attempt on this machine.
    """

    record: RepairRecord
    latencies_ms: tuple[float | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        latencies = list(self.latencies_ms)
        return {**documents.to_json(self.record), "latencies_ms": latencies}


@dataclass(frozen=True)
class Conversion:
    """A finished conversion.

    Attributes:
        bundle: The bundle.
        sha256: Hash of the bundle.
        page: The page of the evidence, next to the bundle.
        artifacts: The artifacts, sorted by name.
        preprocessing: What shows that the preprocessing is right; see `Evidence`.
        preprocessing_text: The same in a line, with what it leaves open.
        notes: What the data cannot show, and other findings.
        repairs: Artifact -> its repair.
        refused: Artifact that was asked for and is not in the bundle -> why, and the remedy.
        formats: The formats that were asked for.
    """

    bundle: Path
    sha256: str
    page: Path
    artifacts: tuple[ConvertedArtifact, ...]
    preprocessing: str
    notes: tuple[str, ...]
    repairs: Mapping[str, RepairedArtifact]
    refused: Mapping[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    preprocessing_text: str = ""

    @property
    def covers_formats(self) -> bool:
        """Whether the bundle has at least one artifact of every format that was asked for."""
        return {one.artifact.format for one in self.artifacts}.issuperset(self.formats)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "bundle": str(self.bundle),
            "sha256": self.sha256,
            "page": str(self.page),
            "artifacts": [one.to_json() for one in self.artifacts],
            "preprocessing": self.preprocessing,
            "preprocessing_text": self.preprocessing_text,
            "notes": list(self.notes),
            "repairs": {name: one.to_json() for name, one in self.repairs.items()},
            "refused": dict(self.refused),
        }
