"""Repair: the fewest layers in float32 that bring an int8 artifact into the budget.

Layers are ranked by their int8 error, and the errors predict what keeping the worst ones gains: the
squares of the errors that stay in int8 add up. The worst layer is kept in float32 first, and each
further rung is the shortest one that halves the predicted error. If the largest rung is not enough,
no smaller one is, and the repair ends. A bisection finds the number in between; at last those
layers go back to int8 whose own errors are so small that they may not matter. Every attempt goes
into the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import hypot, inf, isfinite
from typing import TypeAlias

from edgevid.errors import CheckFailed, EnvironmentFailed
from edgevid.evidence import RepairRecord, RepairTry
from edgevid.tasks.evidence import recorded_agreement
from edgevid_converters.acceptance.artifact_acceptance import AcceptanceResult, ArtifactAcceptance
from edgevid_converters.acceptance.gates import NOT_MEASURED
from edgevid_converters.lowering.artifact_builder import ArtifactBuilder, BuiltArtifact
from edgevid_converters.lowering.protocol import LayerError, listed

MAX_KEPT = 0.5
"""Largest share of layers kept in float32: with more, float16 is the better choice."""
MAX_TRIES = 16
LAYERS, ATTEMPT = 12, 3
"""How long measuring the layers and one attempt take, beside the steps of a conversion."""
UNCERTAIN = 2.0
"""Errors of single layers predict their part in the whole within about this factor."""
TRUSTED = 2
"""So many layers that are needed as the ranking says are enough to believe it."""

Attempt: TypeAlias = Callable[[tuple[str, ...]], AcceptanceResult]
"""Builds and checks the artifact with these layers kept in float32."""


@dataclass(frozen=True)
class RepairAttempt:
    """One attempt.

    Attributes:
        kept: Layers kept in float32, the largest int8 error first.
        result: What the gates found.
    """

    kept: tuple[str, ...]
    result: AcceptanceResult

    def record(self) -> RepairTry:
        """Return the form that evidence has; nothing in it is timed."""
        artifact, found = self.result.built.artifact, self.result.comparison
        agreement, n = recorded_agreement(artifact.metric, artifact.parity)
        return RepairTry(
            kept=self.kept,
            ok=self.result.ok,
            reason=self.result.reason,
            bytes=sum(map(len, self.result.built.files.values())),
            metric=found.artifact,
            agreement=agreement,
            max_abs=artifact.parity.get("max_abs"),
            n=n,
        )


@dataclass(frozen=True)
class RepairResult:
    """The outcome of a repair.

    Attributes:
        layers: The layers, the largest int8 error first.
        attempts: Every attempt in order; the first one has every layer in int8.
        chosen: The accepted attempt with the fewest layers in float32; None if there is none.
    """

    layers: tuple[LayerError, ...]
    attempts: tuple[RepairAttempt, ...]
    chosen: RepairAttempt | None

    @property
    def closest(self) -> RepairAttempt:
        """The attempt nearest to the source model."""
        return min(self.attempts, key=lambda attempt: attempt.result.distance)

    def record(self) -> RepairRecord:
        """Return the form that evidence has."""
        return RepairRecord(
            reason=self.attempts[0].result.reason or "",
            kept=self.chosen.kept if self.chosen else None,
            rungs=tuple(attempt.record() for attempt in self.attempts),
        )

    def latencies_ms(self) -> tuple[float | None, ...]:
        """Return the median time of a step of each attempt on this machine."""
        return tuple(attempt.result.latency_ms for attempt in self.attempts)

    def accepted(self, name: str, *, is_run: bool = False) -> AcceptanceResult:
        """Return the chosen result; its statistics allow for the choice among the attempts.

        Args:
            name: The artifact's name, for the error.
            is_run: Whether the model is a run of ``edgevid train``, for the error.

        Raises:
            CheckFailed: No attempt was accepted.
        """
        if self.chosen is None:
            raise refusal(self, name, is_run=is_run)
        result = self.chosen.result
        return result.with_comparison(replace(result.comparison, tries=len(self.attempts)))


def repair_artifact(
    first: AcceptanceResult,
    acceptance: ArtifactAcceptance,
    builder: ArtifactBuilder,
    report: Callable[[str, int], None],
    *,
    repair: bool,
) -> RepairResult:
    """Repair one refused artifact.

    Args:
        first: The result of the artifact with every layer in int8.
        acceptance: The gates.
        builder: Builds the attempts.
        report: Called before each attempt with a line and how long it takes, in the units of
            `edgevid_converters.pipeline.context`.
        repair: False refuses instead.

    Raises:
        CheckFailed: The artifact cannot be repaired, or ``repair`` is False.
        ChildFailed: Measuring the layers crashed.
    """
    artifact = first.built.artifact
    name = artifact.name
    if not first.repairable or builder.as_it_is:
        raise CheckFailed(f"{name} {first.reason}; leave this artifact out, or change the model")
    if not repair:
        raise CheckFailed(f"{name} {first.reason}; leave out --no-repair, or this artifact")
    report(f"measuring the layers of {name}", LAYERS)
    layers = first.built.layers or builder.layer_errors(artifact.format)

    def attempt(kept: tuple[str, ...]) -> AcceptanceResult:
        report(f"repairing {name}: {len(kept)} of {len(layers)} layers in float32", ATTEMPT)
        keep = {artifact.quantize: kept}
        try:
            built = builder.convert(artifact.format, [artifact.quantize], keep)
        except (CheckFailed, EnvironmentFailed) as error:
            nothing = replace(artifact, parity={}, metric=NOT_MEASURED.to_json())
            return AcceptanceResult(BuiltArtifact(nothing, {}), f"could not be built: {error}")
        return acceptance.check(built[0])

    return search_repair(first, layers, attempt)


def search_repair(
    first: AcceptanceResult,
    layers: Sequence[LayerError],
    attempt: Attempt,
    max_kept: float = MAX_KEPT,
) -> RepairResult:
    """Search for the fewest layers to keep in float32.

    Args:
        first: The result of the artifact with every layer in int8.
        layers: The layers, the largest int8 error first.
        attempt: Builds and checks an artifact.
        max_kept: Largest share of the layers to keep.
    """
    search = _Search(first, layers, attempt)
    ranked = [layer.name for layer in layers]
    found = search.fewest(ranked[: _limit(len(ranked), max_kept)])
    if found is not None:
        found = search.without_needless(found)
    return RepairResult(tuple(layers), tuple(search.attempts), found)


def refusal(repair: RepairResult, name: str, *, is_run: bool = False) -> CheckFailed:
    """Return the error for a repair without an accepted attempt, with the closest one.

    Args:
        repair: The repair.
        name: The artifact's name.
        is_run: Whether the model is a run of ``edgevid train``, which alone can be fine-tuned.
    """
    first, closest = repair.attempts[0].result, repair.closest
    tries = len(repair.attempts) - 1
    ways = ["give another --max-drop"] if first.comparison.name else []
    ways += ["use --quantize float16"]
    ways += ["fine-tune it: edgevid train --quantize-aware RUN --out NEW"] if is_run else []
    remedy = " or ".join(ways)
    if not tries:
        return CheckFailed(f"{name} {first.reason}; there is no layer to repair it with; {remedy}")
    what = f"{listed(closest.kept)} kept in float32" if closest.kept else "every layer in int8"
    return CheckFailed(
        f"{name} {first.reason}; none of {tries} repairs is within the budget; the closest, with "
        f"{what}, {closest.result.reason}; {remedy}"
    )


def _limit(layers: int, max_kept: float) -> int:
    """Return how many of so many layers may be kept: at least one, but not all."""
    return min(max(1, int(layers * max_kept)), layers - 1) if layers else 0


class _Search:
    """The attempts of one repair, each made once."""

    def __init__(
        self, first: AcceptanceResult, layers: Sequence[LayerError], attempt: Attempt
    ) -> None:
        self._attempt = attempt
        self._rank = {layer.name: rank for rank, layer in enumerate(layers)}
        self._errors = [layer.error if isfinite(layer.error) else inf for layer in layers]
        self.attempts = [RepairAttempt((), first)]

    def _try(self, names: Sequence[str]) -> RepairAttempt:
        kept = tuple(sorted(names, key=self._rank.__getitem__))
        known = next((attempt for attempt in self.attempts if attempt.kept == kept), None)
        if known is None:
            known = RepairAttempt(kept, self._attempt(kept))
            self.attempts.append(known)
        return known

    def _exhausted(self) -> bool:
        return len(self.attempts) > MAX_TRIES

    def fewest(self, ranked: Sequence[str]) -> RepairAttempt | None:
        """Find the shortest head of the ranking that is enough, assuming more is never worse."""
        below, found = 0, None
        while found is None and below < len(ranked) and not self._exhausted():
            count = self._rung_above(below, len(ranked))
            attempt = self._try(ranked[:count])
            if attempt.result.ok:
                found = attempt
            else:
                below = count
        while found is not None and len(found.kept) - below > 1 and not self._exhausted():
            middle = (below + len(found.kept)) // 2
            attempt = self._try(ranked[:middle])
            found, below = (attempt, below) if attempt.result.ok else (found, middle)
        return found

    def _rung_above(self, below: int, most: int) -> int:
        """How many layers to keep next: as few as halve the predicted error, and twice as many."""
        if not below:
            return 1
        aim = self._predicted(below) / 2
        halving = (k for k in range(below + 1, most) if self._predicted(k) <= aim)
        return min(most, max(2 * below, next(halving, most)))

    def _predicted(self, kept: int) -> float:
        """The error of the outputs with so many of the worst layers in float32."""
        return hypot(*self._errors[kept:])

    def without_needless(self, found: RepairAttempt) -> RepairAttempt:
        """Return layers to int8 that need not be kept, the smallest error first.

        The last of the ranking is needed, and so is every layer with a much larger error. Once
        layers with a larger error have turned out to be needed as well, the ranking is trusted.
        """
        least = self._errors[self._rank[found.kept[-1]]]
        needed = 0
        for name in reversed(found.kept):
            error = self._errors[self._rank[name]]
            if len(found.kept) == 1 or self._exhausted() or needed >= TRUSTED:
                break
            if error > UNCERTAIN * least:
                break
            attempt = self._try([kept for kept in found.kept if kept != name])
            if attempt.result.ok:
                found = attempt
            else:
                needed += error > least
        return found
