"""A benchmark to run on a device, and the errors that may occur."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgevid.errors import DeviceFailed, EnvironmentFailed
from edgevid.files import canonical_json, sha256_of
from edgevid.flash import device_code
from edgevid.targets import Target

OUT_OF_SIGHT_S = 600.0
"""How long a device may be out of sight; the measurement continues meanwhile."""
DEADLINE_S = 4 * 3600.0


class BenchStopped(EnvironmentFailed):
    """The bench was interrupted."""


@dataclass(frozen=True)
class BenchRequest:
    """What to measure on a device, and how.

    Attributes:
        bundle: The bundle.
        source: A video file of this computer.
        args: More arguments of ``edgevid bench`` there.
        runtimes: Runtimes that must be there in addition to those that would serve.
        kind: The name of a target; None: the one that fits.
        root: edgevid's folder there; None: the usual one.
        pause_service: Pause the service meanwhile.
        keep_runner: Keep a temporary runner.
        end_other: Stop another benchmark that is running there.
        trust_new: Accept an unknown host key.
        deadline_s: The longest time that the job may take.
        limit_kbit: The largest rate of the transfer, kilobits a second.
        out_of_sight_s: How long the device may be out of sight.
        wheels: The wheels of plug-ins of other packages.
    """

    bundle: Path
    source: Path
    args: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    kind: str | None = None
    root: str | None = None
    pause_service: bool = False
    keep_runner: bool = False
    end_other: bool = False
    trust_new: bool = False
    deadline_s: float = DEADLINE_S
    limit_kbit: float | None = None
    out_of_sight_s: float = OUT_OF_SIGHT_S
    wheels: tuple[Path, ...] = ()

    def name(self, target: Target) -> str:
        """The name of the job: a hash of everything that decides its result."""
        content = {
            "bundle": sha256_of(self.bundle),
            "source": sha256_of(self.source),
            "words": [self.bundle.name, self.source.name, *self.args],
            "code": sha256_of(device_code.archive(target)),
            "pause": self.pause_service,
        }
        return sha256_of(canonical_json(content))[:16]


class DeviceLost(DeviceFailed):
    """The device could not be reached again; the job continues there."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: could not be reached again; it continues to measure, and the same command "
            "attaches to it",
            "lost",
        )
