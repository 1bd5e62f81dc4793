"""Which engine serves: the target's order of preference, and only what was proven.

A CPU engine replays the golden trajectory in a child process before it may serve in this one; the
verdict is remembered, so that a start costs nothing twice. An accelerator's serves from a process
of its own, and replays the golden trajectory at every start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid import proof, registry, runtimes
from edgevid.errors import BadInput, CheckFailed, EdgevidError, EngineFailed, MissingExtra
from edgevid.proof.verify import runtimes_for
from edgevid.runner.worker import WorkerEngine
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
    """Every engine that fits the wishes, the preferred one first.

    Raises `BadInput` where a wish names what is not there, or nothing fits.
    """
    if artifact is not None:
        bundle.artifact(artifact)
    if runtime is not None:
        registry.row("runtime", runtime)
    ways = catalog.engines(target, {one.format for one in bundle.artifacts})
    if accelerator not in (None, *(named := {way.accelerator for way in ways})):
        raise BadInput(registry.unknown("accelerator", str(accelerator), named))
    found = [
        choice
        for choice in dict.fromkeys(_possible(bundle, ways, runtime, accelerator))
        if artifact in (None, choice.artifact)
    ]
    if not found:
        wish = (
            ", ".join(w for w in (artifact, runtime, accelerator) if w) or f"target {target.name}"
        )
        held = ", ".join(a.name for a in bundle.artifacts)
        raise BadInput(f"{bundle.path} has nothing to execute for {wish}; it holds: {held}")
    return _here(found)


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
    """Unasked, only what a look at this machine finds."""
    if accelerator is None:
        return way.accelerator in runtimes.get(way.runtime).accelerators()
    return way.accelerator == accelerator


def _here(found: list[Choice]) -> list[Choice]:
    """Those that can be tried on this machine; raises `BadInput` with the reason if none can."""
    reasons = [runtimes.get(choice.runtime).why_not(choice.accelerator) for choice in found]
    if all(reasons):
        raise BadInput(f"{found[0]} cannot serve here: {reasons[0]}")
    return [choice for choice, reason in zip(found, reasons, strict=True) if reason is None]


def installed(found: list[Choice], say: Callable[[str], None]) -> list[Choice]:
    """Those whose runtime is installed here; of the others ``say`` is told.

    Raises `MissingExtra` where none is.
    """
    lacks = {name: runtimes.get(name).missing() for name in {one.runtime for one in found}}
    there = [one for one in found if lacks[one.runtime] is None]
    if found and not there:
        raise MissingExtra(str(lacks[found[0].runtime]))
    for one in found:
        if one not in there:
            say(f"{one} is left out: {lacks[one.runtime]}")
    return there


def preferring(found: list[Choice], best: Choice | None) -> list[Choice]:
    """Put ``best`` first, if it is one of those that can be tried."""
    return [best, *(one for one in found if one != best)] if best in found else found


def spares(bundle: Bundle, target: Target, choice: Choice) -> list[Choice]:
    """The CPU engines that can take over from ``choice``, the likest first.

    That is the same artifact in the runtime that is made for it; then comes the target's order.
    """
    likest = [
        Choice(choice.artifact, runtime, CPU)
        for runtime in runtimes_for(bundle.artifact(choice.artifact).format)
    ]
    with suppress(BadInput):  # a target, or a bundle, with nothing for the CPU
        likest += choices(bundle, target, accelerator=CPU)
    return list(dict.fromkeys(likest))


def open_engine(
    bundle: Bundle, wanted: list[Choice], *, threads: int | None = None, say: Callable[[str], None]
) -> tuple[Engine, Choice]:
    """Give the first of ``wanted`` that is proven and loads; why others do not, goes to ``say``.

    Raises the error of the first one where none serves.
    """
    first: EdgevidError | None = None
    for choice in wanted:
        try:
            return _open(bundle, choice, threads), choice
        except (EngineFailed, CheckFailed, MissingExtra) as error:
            first = first or error
            if len(wanted) > 1:
                say(f"{choice} does not serve: {error}")
    assert first is not None
    raise first


def _open(bundle: Bundle, choice: Choice, threads: int | None) -> Engine:
    if choice.accelerator != CPU:
        return _open_worker(bundle, choice, threads)
    proof.require(bundle, choice.artifact, choice.runtime, choice.accelerator)
    engine: Engine = runtimes.get(choice.runtime).load(
        bundle.files(choice.artifact), bundle.contract, threads=threads
    )
    return engine


def _open_worker(bundle: Bundle, choice: Choice, threads: int | None) -> Engine:
    engine = WorkerEngine(
        bundle, choice.artifact, choice.runtime, choice.accelerator, threads=threads
    )
    try:
        engine.prove()
    except BaseException:
        engine.close()
        raise
    return engine
