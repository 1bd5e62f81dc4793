"""What goes to one device: the wheels for that very device, edgevid, bundles and a manifest.

The manifest is canonical JSON (`MANIFEST_FORMAT`); it names every file by its sha256, so its own
signature stands for all of them:

    format         1
    edgevid        version of edgevid that made it
    created_unix_s, serial        when; a release with a lower serial is a downgrade
    target         name of the target
    architecture, python, glibc   what it was made for: "aarch64", "3.11", "2.28" (the oldest)
    runner         {"id", "wheels": [{"name", "sha256", "size"}], "packages": [module...],
                    "unpacked_bytes"}; wheels are zips to be unpacked into one folder, in this order
    bundles        [{"name", "sha256", "size", "key"}]
    site, agent    {"sha256", "size"}
    service        {"user", "groups", "devices"}
    limits         {"memory_mb", "disk_mb"}
    udev           [rule...]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevid.flash.probe import Facts
from edgevid.progress import Progress, silent
from edgevid.targets import Target

MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class Package:
    """A release before it is signed: the manifest's bytes, and each blob by its sha256."""

    manifest: bytes
    blobs: Mapping[str, Path | bytes]


def build(
    facts: Facts,
    target: Target,
    bundles: Sequence[Path],
    site: bytes,
    *,
    agent: bytes | None = None,
    now: float | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = print,
) -> Package:
    """Make the package of ``bundles`` for the device ``facts`` of the kind ``target``.

    ``site`` is the runner's configuration as text, ``agent`` the agent's source (None: the one of
    this edgevid), ``now`` the time in seconds since 1970. Raises `BadInput` where the device or a
    bundle does not fit, `SurroundingsFailed` where a wheel cannot be had.
    """
    raise NotImplementedError
