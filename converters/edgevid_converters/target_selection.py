"""Which artifacts a target needs, and which operators its accelerators execute.

What is known about an accelerator is in its runtime's declaration. If nobody publishes which
operators an accelerator executes, only the proof on the device decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from edgevid import registry
from edgevid.bundle import Artifact
from edgevid.errors import BadInput, CheckFailed
from edgevid.runtimes import AcceleratorSpec, catalog
from edgevid.runtimes.spec import OperatorRules
from edgevid.targets import EngineChoice, Target
from edgevid_converters.lowering import edgetpu

EDGES = frozenset({"CAST", "DEQUANTIZE", "QUANTIZE"})
"""They convert values at the border of an accelerator, and cost little on the CPU."""


def plan(target: Target, formats: Sequence[str], quantize: Sequence[str]) -> dict[str, list[str]]:
    """Choose the artifacts for a target: what each of its engines prefers.

    Args:
        target: The target.
        formats: Formats to choose from; empty for all.
        quantize: Quantisations to build, as far as an engine executes them; empty for the one that
            each engine prefers.

    Returns:
        Format -> quantisations.

    Raises:
        BadInput: Nothing is left.
    """
    found: dict[str, list[str]] = {}
    for way in catalog.engines(target, formats):
        name = _format(way)
        if name is None or (formats and name not in formats):
            continue
        known = registry.load("converter", name).quantisations
        able = [one for one in way.quantize if one in known]
        chosen = [one for one in quantize if one in able] if quantize else able[:1]
        kept = found.setdefault(name, [])
        kept += [one for one in chosen if one not in kept]
    found = {name: chosen for name, chosen in found.items() if chosen}
    if not found:
        able = sorted({f"{way.runtime} {one}" for way in target.engine for one in way.quantize})
        raise BadInput(f"{target.name} executes none of these; it executes: {', '.join(able)}")
    return found


def _accelerator(way: EngineChoice) -> AcceleratorSpec | None:
    return catalog.spec(way.runtime).accelerator(way.accelerator)


def _format(way: EngineChoice) -> str | None:
    """The format to build for an engine: the first of its own that a converter makes."""
    accelerator = _accelerator(way)
    formats = accelerator.formats if accelerator else ()
    return next((one for one in formats if registry.has("converter", one)), None)


def _rules(way: EngineChoice) -> OperatorRules | None:
    accelerator = _accelerator(way)
    return accelerator.rules if accelerator else None


def wants_edgetpu(target: Target) -> bool:
    """Whether one of its engines is an Edge TPU."""
    return any(way.accelerator == edgetpu.FORMAT for way in target.engine)


def formats_to_read(target: Target, formats: Iterable[str]) -> tuple[str, ...]:
    """The formats whose operators have to be read for `unsupported_operators`, sorted."""
    made, found = set(formats), set()
    for way in target.engine:
        rules, name = _rules(way), _format(way)
        if name in made and rules and (rules.operators or rules.wrong):
            found.add(str(name))
    return tuple(sorted(found))


def unsupported_operators(
    target: Target, operators: Mapping[str, Mapping[str, int]], formats: Iterable[str]
) -> list[str]:
    """Describe what a target's accelerators will not execute.

    Args:
        target: The target.
        operators: Format -> kind of operator -> how many of it the model has.
        formats: The formats that are built.

    Returns:
        One line for each finding.
    """
    found: list[str] = []
    made = set(formats)
    for way in target.engine:
        rules, name = _rules(way), _format(way)
        if rules is not None and name in made:
            counts = operators.get(str(name), {})
            found += _unsupported(f"{way.runtime}/{way.accelerator}", rules, counts)
    return found


def _unsupported(name: str, rules: OperatorRules, operators: Mapping[str, int]) -> Iterator[str]:
    wrong = sorted(set(rules.wrong) & set(operators))
    yield from (f"{name}: {kind} {rules.wrong[kind]}; its proof decides" for kind in wrong)
    if rules.operators is None:
        yield f"{name}: which operators it executes is known only to {rules.source}"
        return
    left = sorted(set(operators) - rules.operators - EDGES)
    if not left:
        yield f"{name}: every operator is on the published list ({rules.source})"
        return
    listed = ", ".join(f"{kind} x{operators[kind]}" for kind in left)
    after = ", nor anything after them" if rules.one_piece else ""
    yield f"{name}: will not execute {listed}{after} ({rules.source}); they stay on the CPU"


def check_release(target: Target, artifact: Artifact) -> None:
    """Check that an engine of a target is new enough to load an artifact.

    Raises:
        CheckFailed: None is.
    """
    for runtime, needed in artifact.smallest_runtime.items():
        ways = [way for way in target.engine if way.runtime == runtime]
        if not ways or any(_loads(way, needed) for way in ways):
            continue
        newest = max((way.operators or "0" for way in ways), key=release)
        raise CheckFailed(
            f"{artifact.name} needs {runtime} {needed} or newer, and {target.name} has "
            f"{newest}; leave {artifact.quantize} out, or use another target"
        )


def _loads(way: EngineChoice, needed: str) -> bool:
    return way.operators is None or release(needed) <= release(way.operators + ".999")


def release(version: str) -> tuple[int, ...]:
    """``2.14.0`` as (2, 14, 0), for comparison."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())
