"""Which engine serves: the target's order of preference, and only what was proven.

Every engine replays the golden trajectory in a child process before it may serve in this one; the
verdict is remembered, so that a start costs nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid import proof, registry
from edgevid.errors import BadInput, EdgevidError, EngineFailed, GateRefused, MissingExtra

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.runtimes import Engine
    from edgevid.targets import Target


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
    found = [
        choice
        for choice in dict.fromkeys(_possible(bundle, target, runtime))
        if artifact in (None, choice.artifact)
        and runtime in (None, choice.runtime)
        and accelerator in (None, choice.accelerator)
    ]
    if not found:
        wish = (
            ", ".join(w for w in (artifact, runtime, accelerator) if w) or f"target {target.name}"
        )
        held = ", ".join(a.name for a in bundle.artifacts)
        raise BadInput(f"{bundle.path} has nothing to execute for {wish}; it holds: {held}")
    return found


def _possible(bundle: Bundle, target: Target, wished: str | None) -> Iterator[Choice]:
    for way in target.engine:
        # Unasked, a runtime executes only the format that is made for it.
        formats = _formats(way.runtime)
        formats = formats if way.runtime == wished else formats[:1]
        for quantize in way.quantize:
            for artifact in bundle.artifacts:
                if artifact.format in formats and artifact.quantize == quantize:
                    yield Choice(artifact.name, way.runtime, way.accelerator)


def _formats(runtime: str) -> tuple[str, ...]:
    """The formats of a runtime; an uninstalled one still knows its own."""
    formats: tuple[str, ...] = registry.load("runtime", runtime).formats
    return formats


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
        except (EngineFailed, GateRefused, MissingExtra) as error:
            first = first or error
            if len(wanted) > 1:
                say(f"{choice} does not serve: {error}")
    assert first is not None
    raise first


def _open(bundle: Bundle, choice: Choice, threads: int | None) -> Engine:
    proof.require(bundle, choice.artifact, choice.runtime, choice.accelerator)
    engine: Engine = registry.load("runtime", choice.runtime)().load(
        bundle.files(choice.artifact),
        bundle.contract,
        accelerator=choice.accelerator,
        threads=threads,
    )
    return engine
