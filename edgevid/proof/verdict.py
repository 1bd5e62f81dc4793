"""Verdicts: whether an engine may serve on this machine, proven once and cached."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import __version__, runtimes
from edgevid.bundle import Bundle
from edgevid.errors import CheckFailed
from edgevid.files import cache_folder, canonical_json, sha256_of, write_json
from edgevid.isolation.child_task import run_child
from edgevid.system.distributions import installed_version
from edgevid.system.kernel import processor_identity

if TYPE_CHECKING:
    from edgevid.isolation.sandbox import Sandbox

PROOF_TIMEOUT_S = 120.0
VERDICTS = "verdicts"
"""The folder of verdicts in edgevid's cache."""


@dataclass(frozen=True)
class Verdict:
    """Whether an engine may serve, and if not, why.

    Attributes:
        artifact: Name of the artifact.
        runtime: Name of the runtime.
        accelerator: Name of the accelerator.
        ok: Whether it may serve.
        precision: The precision that ran.
        max_abs: See `edgevid.proof.replay.ReplayResult`; None if nothing ran.
        tolerance: What ``max_abs`` may be.
        agreement: The task's agreement, 0 to 1.
        reason: Why it may not serve.
        tensor: The output or ``next_<state>`` that ``max_abs`` is of.
        steps: How many steps ``agreement`` rests on.
    """

    artifact: str
    runtime: str
    accelerator: str
    ok: bool
    precision: str | None = None
    max_abs: float | None = None
    tolerance: float | None = None
    agreement: float | None = None
    reason: str | None = None
    tensor: str = ""
    steps: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; ``reason`` only if there is one."""
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
    """Load and replay in a child process, or return the cached verdict.

    Verdicts are cached, failures too, except for time-outs, which a busy machine may cause.

    Args:
        bundle: The bundle, or its path.
        artifact: Name of the artifact.
        runtime: Name of the runtime.
        accelerator: Name of the accelerator.
        timeout_s: Time limit in seconds.
        refresh: Ignore the cached verdict.

    Raises:
        BadBundle: A member of the bundle is damaged.
        BadInput: There is no such artifact, runtime or accelerator.
        MissingExtra: The runtime's library is not installed.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    opened.artifact(artifact)
    identity = engine_identity(opened, artifact, runtime, accelerator)
    kept = _verdict_file(identity)
    known = None if refresh else _recall(kept, identity)
    if known is not None:
        return known
    from edgevid.proof.sandboxes import sandbox_for  # a start with a known verdict needs none

    sandbox = sandbox_for(opened, artifact, runtime, accelerator)
    verdict, lasting = _prove(opened.path, artifact, runtime, accelerator, timeout_s, sandbox)
    if lasting:
        with suppress(OSError):  # a read-only home costs a proof at each start, nothing else
            write_json(kept, {"identity": identity, "verdict": verdict.to_json()})
    return verdict


def record_in_child(
    bundle: Path, artifact: str, runtime: str, out: Path, timeout_s: float = PROOF_TIMEOUT_S
) -> Verdict:
    """Replay against the source model in a child process, and write the artifact's outputs.

    Args:
        bundle: Path of a bundle that holds the artifact.
        artifact: Name of the artifact.
        runtime: Name of the runtime.
        out: An ``.npz`` file to write, for `edgevid.proof.golden.read_recorded`.
        timeout_s: Time limit in seconds.
    """
    from edgevid.proof.sandboxes import sandbox_for

    sandbox = sandbox_for(Bundle.open(bundle), artifact, runtime, write=(out.parent,))
    return _prove(bundle, artifact, runtime, "cpu", timeout_s, sandbox, record=str(out))[0]


def require(bundle: Bundle, artifact: str, runtime: str, accelerator: str = "cpu") -> Verdict:
    """Prove an engine, or return its cached verdict.

    Raises:
        CheckFailed: The engine must not serve.
        BadInput: There is no such artifact, runtime or accelerator.
        MissingExtra: The runtime's library is not installed.
    """
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
    sandbox: Sandbox,
    record: str | None = None,
) -> tuple[Verdict, bool]:
    """Return the verdict, and whether it may be cached."""
    task = {
        "bundle": str(bundle),
        "artifact": artifact,
        "runtime": runtime,
        "accelerator": accelerator,
        "record": record,
        "timeout_s": timeout_s,
    }
    outcome = run_child("edgevid.proof", task, timeout_s, sandbox)
    try:
        return Verdict(**(outcome.result() or {})), True
    except TypeError:
        reason = f"the engine {outcome.describe(timeout_s)}"
        if outcome.out_of_memory:
            limit = f"{sandbox.memory_mb} MB of memory that a model of its size gets"
            reason = f"the engine needs more than the {limit}"
        failed = Verdict(artifact, runtime, accelerator, ok=False, reason=reason)
        return failed, outcome.returncode is not None


def engine_identity(
    bundle: Bundle, artifact: str, runtime: str, accelerator: str
) -> dict[str, Any]:
    """Return everything that a verdict depends on."""
    found = runtimes.get(runtime)
    return {
        **machine_identity(bundle),
        "artifact": artifact,
        "runtime": runtime,
        "version": found.version(),
        "behaviour": " ".join(os.environ.get(name, "") for name in found.spec.variables),
        "accelerator": accelerator,
    }


def machine_identity(bundle: Bundle) -> dict[str, Any]:
    """Return the part of the identity that all engines share: bundle, machine and edgevid."""
    return {
        "bundle": bundle.key,
        "machine": platform.machine(),
        "processor": _processor_key(),
        "python": platform.python_version(),
        "edgevid": __version__,
        "av": installed_version("av") or "",
    }


def _processor_key() -> str:
    identity = processor_identity()
    return platform.processor() if identity is None else sha256_of(identity.encode())


def _verdict_file(identity: Mapping[str, Any]) -> Path:
    name = sha256_of(canonical_json(identity))[:32]
    return cache_folder() / VERDICTS / f"{name}.json"


def _recall(file: Path, identity: Mapping[str, Any]) -> Verdict | None:
    """Read a cached verdict; None if it is missing, unreadable or of another identity."""
    try:
        data = json.loads(file.read_bytes())
        return Verdict(**data["verdict"]) if data["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
