"""The best engine for a bundle on this machine, as ``edgevid bench --tune`` found it.

It is kept in the user's cache with the verdicts of proofs, for one bundle, machine and version of
edgevid. Another version of the runtime invalidates it. A service that ``edgevid flash`` deployed
reads it from a folder that only the deployment can write (`FOLDER`), and never from its cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.errors import EdgevidError
from edgevid.files import cache_folder, canonical_json, sha256_of, write_json
from edgevid.proof.verdict import engine_identity, machine_identity
from edgevid.runner.engines import Choice

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.runner.config import BundleUse


FOLDER = "EDGEVID_TUNED"
"""The environment variable that names the folder of the deployment's choices."""


@dataclass(frozen=True)
class Tuned:
    """An engine, its threads, and how its video is decoded."""

    artifact: str
    runtime: str
    accelerator: str
    threads: int = 1
    skip_loop_filter: bool = False

    @property
    def choice(self) -> Choice:
        """The engine."""
        return Choice(self.artifact, self.runtime, self.accelerator)

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        more = ", without the loop filter" if self.skip_loop_filter else ""
        return f"{self.choice}, {threads}{more}"


def content(bundle: Bundle, tuned: Tuned) -> dict[str, Any]:
    """What is stored for a choice."""
    made_for = engine_identity(bundle, tuned.artifact, tuned.runtime, tuned.accelerator)
    return {"identity": made_for, "tuned": asdict(tuned)}


def name(bundle: Bundle) -> str:
    """The name of the file of a bundle on this machine, without its suffix."""
    return sha256_of(canonical_json(machine_identity(bundle)))[:32]


def file(bundle: Bundle) -> Path:
    """The file of a bundle on this machine."""
    return cache_folder() / "tuned" / f"{name(bundle)}.json"


def keep(bundle: Bundle, tuned: Tuned) -> None:
    """Store a choice for `recall`."""
    write_json(file(bundle), content(bundle, tuned))


def forget(bundle: Bundle) -> bool:
    """Remove the stored choice; returns whether there was one."""
    was = file(bundle).exists()
    file(bundle).unlink(missing_ok=True)
    return was


def recall(bundle: Bundle) -> Tuned | None:
    """Return the stored choice; None if there is none, or it was made for something else."""
    deployed = os.environ.get(FOLDER)
    try:
        stored = Path(deployed, f"{name(bundle)}.json") if deployed else file(bundle)
        kept: Mapping[str, Any] = json.loads(stored.read_bytes())
        tuned = Tuned(**kept["tuned"])
        bundle.artifact(tuned.artifact)
        same = kept == content(bundle, tuned)
    except (OSError, ValueError, KeyError, TypeError, EdgevidError):
        return None
    return tuned if same else None


def chosen(use: BundleUse, bundle: Bundle) -> Tuned | None:
    """Return the stored choice if the configuration names no engine."""
    if use.artifact is None and use.runtime is None and use.accelerator is None:
        with suppress(OSError):
            return recall(bundle)
    return None
