"""Verdicts: whether an engine may serve on this machine, found out once and remembered."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from edgevid import __version__, runtimes
from edgevid.bundle import Bundle
from edgevid.errors import CheckFailed
from edgevid.files import cache_folder, canonical_json, sha256_of, write_json
from edgevid.isolation.child_task import run_child
from edgevid.system.kernel import processor_identity

PROOF_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Verdict:
    """Whether an engine may serve, and if not, why. ``max_abs`` is None where nothing ran."""

    artifact: str
    runtime: str
    accelerator: str
    ok: bool
    precision: str | None = None
    max_abs: float | None = None
    tolerance: float | None = None
    agreement: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Give plain data for JSON; ``reason`` only where there is one."""
        data = asdict(self)
        return data if self.reason else {k: v for k, v in data.items() if k != "reason"}


def prove_in_child(
    bundle: Bundle | Path,
    artifact: str,
    runtime: str,
    accelerator: str = "cpu",
    timeout_s: float = PROOF_TIMEOUT_S,
    *,
    refresh: bool = False,
) -> Verdict:
    """Load and replay in a child process, or recall what that said; never dies with it.

    The verdict is kept in the user's cache, failures too, but for a time-out, of which a busy
    machine may be the cause. ``refresh`` proves again. Raises `BadInput` for names that do not
    exist, `MissingExtra` for a library that is not installed.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    opened.artifact(artifact)
    identity = identity_of(opened, artifact, runtime, accelerator)
    kept = _verdict_file(identity)
    known = None if refresh else _recall(kept, identity)
    if known is not None:
        return known
    verdict, lasting = _prove(opened.path, artifact, runtime, accelerator, timeout_s)
    if lasting:
        with suppress(OSError):  # a read-only home costs a proof at each start, nothing else
            write_json(kept, {"identity": identity, "verdict": verdict.to_json()})
    return verdict


def record_in_child(
    bundle: Path, artifact: str, runtime: str, out: Path, timeout_s: float = PROOF_TIMEOUT_S
) -> Verdict:
    """Replay against the source in a child process, and keep in ``out`` what the artifact gave.

    ``out`` is an ``.npz`` that `edgevid.proof.golden.read_taken` reads. Used when a bundle is made.
    """
    return _prove(bundle, artifact, runtime, "cpu", timeout_s, record=str(out))[0]


def require(bundle: Bundle, artifact: str, runtime: str, accelerator: str = "cpu") -> Verdict:
    """Prove an engine, or recall its proof; raises `CheckFailed` where it must not serve."""
    verdict = prove_in_child(bundle, artifact, runtime, accelerator)
    if not verdict.ok:
        raise CheckFailed(
            f"{artifact} in {runtime} on {accelerator} did not pass its proof: {verdict.reason}; "
            f"to prove it again: edgevid verify {bundle.path}"
        )
    return verdict


def _prove(
    bundle: Path,
    artifact: str,
    runtime: str,
    accelerator: str,
    timeout_s: float,
    record: str | None = None,
) -> tuple[Verdict, bool]:
    """Give the verdict, and whether it would be the same at another time."""
    task = {
        "bundle": str(bundle),
        "artifact": artifact,
        "runtime": runtime,
        "accelerator": accelerator,
        "record": record,
        "timeout_s": timeout_s,
    }
    outcome = run_child("edgevid.proof", task, timeout_s)
    try:
        return Verdict(**(outcome.result() or {})), True
    except TypeError:
        reason = f"the engine {outcome.describe(timeout_s)}"
        failed = Verdict(artifact, runtime, accelerator, ok=False, reason=reason)
        return failed, outcome.returncode is not None


def identity_of(bundle: Bundle, artifact: str, runtime: str, accelerator: str) -> dict[str, Any]:
    """Everything that a verdict depends on."""
    found = runtimes.get(runtime)
    return {
        **place_of(bundle),
        "artifact": artifact,
        "runtime": runtime,
        "version": found.version(),
        "behaviour": " ".join(os.environ.get(name, "") for name in found.spec.variables),
        "accelerator": accelerator,
    }


def place_of(bundle: Bundle) -> dict[str, Any]:
    """The part of it that is the same for all engines: this bundle, machine and edgevid."""
    return {
        "bundle": bundle.key,
        "machine": platform.machine(),
        "processor": _processor_key(),
        "python": platform.python_version(),
        "edgevid": __version__,
        "av": _version("av"),
    }


def _processor_key() -> str:
    identity = processor_identity()
    return platform.processor() if identity is None else sha256_of(identity.encode())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _verdict_file(identity: Mapping[str, Any]) -> Path:
    name = sha256_of(canonical_json(identity))[:32]
    return cache_folder() / "verdicts" / f"{name}.json"


def _recall(file: Path, identity: Mapping[str, Any]) -> Verdict | None:
    """Read a verdict; None where there is none that can be read, or it is of something else."""
    try:
        data = json.loads(file.read_bytes())
        return Verdict(**data["verdict"]) if data["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
