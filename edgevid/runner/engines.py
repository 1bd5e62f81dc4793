"""Which engine serves: in the target's order of preference, and only after its proof.

A CPU engine replays the golden trajectory in a child process before it serves in this one; the
verdict is cached. An accelerator runs in a process of its own and replays the golden trajectory at
every start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid import proof, registry, runtimes
from edgevid.errors import BadInput, CheckFailed, EdgevidError, EngineFailed, MissingExtra
from edgevid.isolation.notices import without_notices
from edgevid.proof.verify import runtimes_for
from edgevid.runtimes import CPU, catalog

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.runtimes import Engine
    from edgevid.targets import EngineChoice, Target


@dataclass(frozen=True)
class Choice:
    """One artifact in one runtime on one accelerator."""

    artifact: str
    runtime: str
    accelerator: str

    def __str__(self) -> str:
        return f"{self.artifact} in {self.runtime} on {self.accelerator}"


def choices(
    bundle: Bundle,
    target: Target,
    *,
    artifact: str | None = None,
    runtime: str | None = None,
    accelerator: str | None = None,
) -> list[Choice]:
    """Find the engines for a bundle on a target, preferred ones first.

    Args:
        bundle: The bundle.
        target: The target.
        artifact: Only this artifact.
        runtime: Only this runtime.
        accelerator: Only this accelerator.

    Raises:
        BadInput: A name is unknown, or no engine fits.
    """
    if artifact is not None:
        bundle.artifact(artifact)
    if runtime is not None:
        registry.row("runtime", runtime)
    formats = {one.format for one in bundle.artifacts}
    ways = catalog.engines(target, formats, () if runtime is None else (runtime,))
    if accelerator not in (None, *(named := {way.accelerator for way in ways})):
        raise BadInput(registry.unknown("accelerator", str(accelerator), named))
    found = [
        choice
        for choice in dict.fromkeys(_possible(bundle, ways, runtime, accelerator))
        if artifact in (None, choice.artifact)
    ]
    if not found:
        raise BadInput(_no_engine(bundle, target, artifact, runtime, accelerator))
    return _here(found)


def _no_engine(
    bundle: Bundle,
    target: Target,
    artifact: str | None,
    runtime: str | None,
    accelerator: str | None,
) -> str:
    """Say which of the given names do not fit each other, and which do."""
    asked = {"--artifact": artifact, "--runtime": runtime, "--accelerator": accelerator}
    given = [f"{option} {name}" for option, name in asked.items() if name]
    if not given:
        names = ", ".join(one.name for one in bundle.artifacts)
        return (
            f"{bundle.path} has no artifact for target {target.name}, only {names}; "
            f"convert the model for it: edgevid convert --target {target.name}"
        )
    ways = catalog.engines(target, {one.format for one in bundle.artifacts})
    able = [
        Choice(one.name, way.runtime, way.accelerator)
        for way in ways
        for one in bundle.artifacts
        if one.quantize in way.quantize and catalog.executes(way, one.format)
    ]
    able = [one for one in able if _is_here(one)] or able
    most = max((_kept(one, *asked.values()) for one in able), default=0)
    near = [one for one in dict.fromkeys(able) if _kept(one, *asked.values()) == most]
    options = [
        f"--artifact {one.artifact} --runtime {one.runtime} --accelerator {one.accelerator}"
        for one in near[:_SHOWN]
    ]
    return f"{bundle.path} cannot run with {' '.join(given)}; use {', or '.join(options)}"


_SHOWN = 3


def _is_here(choice: Choice) -> bool:
    known = runtimes.get(choice.runtime)
    return (
        not known.spec.stand_in
        and known.missing() is None
        and known.why_not(choice.accelerator) is None
    )


def _kept(choice: Choice, artifact: str | None, runtime: str | None, place: str | None) -> int:
    """How many of the names that were asked for an engine has."""
    has = (choice.artifact == artifact, choice.runtime == runtime, choice.accelerator == place)
    return sum(has)


def _possible(
    bundle: Bundle, ways: Sequence[EngineChoice], runtime: str | None, accelerator: str | None
) -> Iterator[Choice]:
    for way in ways:
        if runtime not in (None, way.runtime) or not _is_meant(way, accelerator):
            continue
        # Unless it is asked to, a runtime executes only the format it is made for.
        fits = catalog.executes if way.runtime == runtime else catalog.prefers
        for quantize in way.quantize:
            for artifact in bundle.artifacts:
                if artifact.quantize == quantize and fits(way, artifact.format):
                    yield Choice(artifact.name, way.runtime, way.accelerator)


def _is_meant(way: EngineChoice, accelerator: str | None) -> bool:
    """Whether this accelerator was asked for, or, without being asked for, is in this machine."""
    if accelerator is None:
        return way.accelerator in runtimes.get(way.runtime).accelerators()
    return way.accelerator == accelerator


def _here(found: list[Choice]) -> list[Choice]:
    """Keep the engines that can be tried on this machine; `BadInput` if there is none."""
    reasons = [runtimes.get(choice.runtime).why_not(choice.accelerator) for choice in found]
    if all(reasons):
        raise BadInput(f"{found[0]} cannot serve here: {reasons[0]}")
    return [choice for choice, reason in zip(found, reasons, strict=True) if reason is None]


def installed(found: list[Choice], report: Callable[[str], None]) -> list[Choice]:
    """Keep the engines whose runtime is installed.

    Args:
        found: The engines.
        report: Gets one line for each of the others.

    Raises:
        MissingExtra: No runtime is installed.
    """
    lacks = {name: runtimes.get(name).missing() for name in {one.runtime for one in found}}
    there = [one for one in found if lacks[one.runtime] is None]
    if found and not there:
        raise MissingExtra(str(lacks[found[0].runtime]))
    for one in found:
        if one not in there:
            report(f"{one} is left out: {lacks[one.runtime]}")
    return there


def preferring(found: list[Choice], best: Choice | None) -> list[Choice]:
    """Put ``best`` first, if it is one of those that can be tried."""
    return [best, *(one for one in found if one != best)] if best in found else found


def spares(bundle: Bundle, target: Target, choice: Choice) -> list[Choice]:
    """Find the CPU engines that can replace an accelerator, the most similar ones first.

    The same artifact in the runtime that is made for it comes first, then the target's order.
    """
    similar = [
        Choice(choice.artifact, runtime, CPU)
        for runtime in runtimes_for(bundle.artifact(choice.artifact).format)
    ]
    with suppress(BadInput):  # a target, or a bundle, with nothing for the CPU
        similar += choices(bundle, target, accelerator=CPU)
    return list(dict.fromkeys(similar))


def open_engine(
    bundle: Bundle,
    wanted: list[Choice],
    *,
    threads: int | None = None,
    report: Callable[[str], None],
) -> tuple[Engine, Choice]:
    """Load the first engine that passes its proof.

    Args:
        bundle: The bundle.
        wanted: The engines in the order in which they are tried.
        threads: Threads of the engine.
        report: Gets one line for each engine that does not work.

    Returns:
        The engine, and which one it is.

    Raises:
        EngineFailed: The first engine failed, and no other one works.
        CheckFailed: The first engine did not pass its proof, and no other one works.
        MissingExtra: The first engine's library is not installed, and no other one works.
    """
    first: EdgevidError | None = None
    for choice in wanted:
        try:
            return _open(bundle, choice, threads), choice
        except (EngineFailed, CheckFailed, MissingExtra) as error:
            first = first or error
            if len(wanted) > 1:
                report(f"{choice} does not serve: {error}")
    assert first is not None
    raise first


def _open(bundle: Bundle, choice: Choice, threads: int | None) -> Engine:
    if choice.accelerator != CPU:
        return _open_worker(bundle, choice, threads)
    proof.require(bundle, choice.artifact, choice.runtime, choice.accelerator)
    files = bundle.files(choice.artifact)
    with without_notices():
        engine: Engine = runtimes.get(choice.runtime).load(files, bundle.contract, threads=threads)
    return engine


def _open_worker(bundle: Bundle, choice: Choice, threads: int | None) -> Engine:
    from edgevid.runner.worker import WorkerEngine

    engine = WorkerEngine(
        bundle, choice.artifact, choice.runtime, choice.accelerator, threads=threads
    )
    try:
        engine.prove()
    except BaseException:
        engine.close()
        raise
    return engine
