"""A job: one artifact in one runtime on one accelerator, measured in one scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgevid import settings
from edgevid.runner.engines import Choice


@dataclass(frozen=True)
class Job:
    """What is measured; two results can be compared if their jobs are equal."""

    artifact: str
    runtime: str
    accelerator: str
    scenario: str
    threads: int = 1
    decoder: str = "software"
    skip_loop_filter: bool = False
    rate_fps: float | None = None
    """The frame rate of a paced scenario; else None."""
    latency_ms: float | None = None
    """The latency bound of a paced scenario; else None."""

    @property
    def engine(self) -> tuple[object, ...]:
        """Jobs with the same key are measured in one process."""
        return self.choice, self.threads, self.decoder, self.skip_loop_filter

    @property
    def choice(self) -> Choice:
        """The engine."""
        return Choice(self.artifact, self.runtime, self.accelerator)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """Read what `to_json` returned.

        Raises:
            BadInput: If a key is unknown, missing or has the wrong type.
        """
        return settings.build_json(cls, data, "job")

    def __str__(self) -> str:
        return f"{self.choice}, {self.scenario}"
