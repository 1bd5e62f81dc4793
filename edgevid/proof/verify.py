"""The proof of a whole bundle on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgevid import runtimes
from edgevid.bundle import Artifact, Bundle
from edgevid.errors import BadInput
from edgevid.progress import Progress, silent
from edgevid.proof.verdict import PROOF_TIMEOUT_S, prove_in_child
from edgevid.runtimes import catalog


def runtimes_for(format_name: str) -> tuple[str, ...]:
    """Return the installed runtimes that execute a format, preferred ones first; no stand-ins."""
    return tuple(
        name for name in catalog.made_for(format_name) if runtimes.get(name).missing() is None
    )


def verify(
    path: Path,
    *,
    artifact: str | None = None,
    runtime: str | None = None,
    accelerator: str | None = None,
    timeout_s: float = PROOF_TIMEOUT_S,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Check every byte of a bundle, then prove its artifacts on this machine's engines.

    Args:
        path: The bundle.
        artifact: Only this artifact.
        runtime: Only this runtime.
        accelerator: Only this accelerator.
        timeout_s: Time limit of one proof, in seconds.
        progress: Called before each proof.

    Returns:
        Plain data: ``ok``, ``checks`` (one verdict per artifact, runtime and accelerator) and
        ``skipped`` (artifacts that no runtime here executes).

    Raises:
        BadBundle: The file is not a bundle, or it is damaged.
        BadInput: A name is unknown, or there is nothing to prove.
        MissingExtra: The requested runtime is not installed.
    """
    bundle = Bundle.open(path)
    bundle.check()
    chosen = [bundle.artifact(artifact)] if artifact else list(bundle.artifacts)
    jobs = [
        (one.name, *engine) for one in chosen for engine in _engines_here(one, runtime, accelerator)
    ]
    if not jobs:
        raise BadInput(_nothing_to_prove(chosen, runtime, accelerator))
    checks = []
    for done, job in enumerate(jobs):
        progress("verify", done, len(jobs), " ".join(job))
        checks.append(prove_in_child(bundle, *job, timeout_s, refresh=True).to_json())
    progress("verify", len(jobs), len(jobs))
    skipped = sorted({one.name for one in chosen} - {job[0] for job in jobs})
    return {"ok": all(check["ok"] for check in checks), "checks": checks, "skipped": skipped}


def _engines_here(
    artifact: Artifact, runtime: str | None, accelerator: str | None
) -> list[tuple[str, str]]:
    """Every (runtime, accelerator) that can execute an artifact here."""
    names = runtimes_for(artifact.format)
    if runtime is not None:
        asked = runtimes.get(runtime)
        asked.version()  # raises if its library is not installed
        names = (runtime,) if asked.spec.cpu.executes(artifact.format) else ()
    return [(name, place) for name in names for place in _places(name, accelerator)]


def _places(runtime: str, accelerator: str | None) -> tuple[str, ...]:
    """Where a runtime can execute here: the accelerator that was asked for, or all of them."""
    known = runtimes.get(runtime)
    if accelerator is None:
        return known.accelerators()
    there = known.spec.accelerator(accelerator) and known.why_not(accelerator) is None
    return (accelerator,) if there else ()


def _nothing_to_prove(
    chosen: Sequence[Artifact], runtime: str | None, accelerator: str | None
) -> str:
    """Say why no engine here executes the chosen artifacts, and what to do."""
    names = ", ".join(one.name for one in chosen)
    here = list(dict.fromkeys(name for one in chosen for name in runtimes_for(one.format)))
    if runtime is not None:
        asked = runtimes.get(runtime)
        if not any(asked.spec.cpu.executes(one.format) for one in chosen):
            fix = f"use --runtime {' or '.join(here)}" if here else _remedy(chosen[0].format)
            return f"{runtime} does not execute {names}; {fix}"
        here = [runtime]
    if accelerator is None or not here:
        return f"no runtime here executes {names}; {_remedy(chosen[0].format)}"
    for name in here:
        known = runtimes.get(name)
        if known.spec.accelerator(accelerator) and (why := known.why_not(accelerator)):
            return f"{name} has no {accelerator} here: {why}"
    places = sorted({place for name in here for place in runtimes.get(name).accelerators()})
    places_text = " or ".join(places)
    return f"{' or '.join(here)} has no accelerator {accelerator}; use --accelerator {places_text}"


def _remedy(format_name: str) -> str:
    """What to do if no installed runtime executes a format."""
    found = catalog.made_for(format_name)
    if found and (message := runtimes.get(found[0]).missing()):
        return message
    return "install the package with a runtime for that format"
