"""Repair: the fewest layers in a higher precision that bring an int8 artifact into the budget.

Layers are ranked by what int8 costs each of them. The worst one is kept out of int8, then the worst
two, four and so on until the gates say yes; then the number between is searched for, and at last
each kept layer is given back to int8 where the gates say yes without it, too. Every try is a rung
of the ladder that goes into the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgevid.errors import CheckFailed
from edgevid_converters.acceptance.measurement import AcceptanceResult
from edgevid_converters.lowering.protocol import LayerError

MOST_KEPT = 0.5
"""The share of layers that may stay out of int8: with more, float16 is the better choice."""
MOST_TRIES = 32

Attempt = Callable[[tuple[str, ...]], AcceptanceResult]
"""Makes and judges the artifact with these layers kept out of int8."""


@dataclass(frozen=True)
class RepairAttempt:
    """One try: the layers kept out of int8, and what the gates said of it."""

    kept: tuple[str, ...]
    result: AcceptanceResult

    def to_json(self) -> dict[str, Any]:
        """Give plain data for the evidence; nothing in it is timed."""
        judged = self.result
        artifact = judged.made.artifact
        parity, metric = artifact.parity, artifact.metric
        return {
            "kept": list(self.kept),
            "ok": judged.ok,
            "reason": judged.reason,
            "bytes": sum(map(len, judged.made.files.values())),
            "metric": metric.get("artifact"),
            "agreement": metric.get("agreement", parity.get("agreement")),
            "max_abs": parity.get("max_abs"),
        }


@dataclass(frozen=True)
class RepairResult:
    """A repair: the ranked layers, what was tried in its order, and the rung that was chosen."""

    layers: tuple[LayerError, ...]
    rungs: tuple[RepairAttempt, ...]
    chosen: RepairAttempt | None

    @property
    def closest(self) -> RepairAttempt:
        """The rung that is nearest to the budget."""
        return min(self.rungs, key=lambda rung: rung.result.distance)

    def to_json(self) -> dict[str, Any]:
        """Give plain data for the evidence."""
        return {
            "reason": self.rungs[0].result.reason,
            "kept": list(self.chosen.kept) if self.chosen else None,
            "rungs": [rung.to_json() for rung in self.rungs],
        }

    def latencies_ms(self) -> list[float | None]:
        """Of each rung the middle time of a step on this machine; it does not go into a bundle."""
        return [rung.result.latency_ms for rung in self.rungs]


def search_repair(
    first: AcceptanceResult, layers: Sequence[LayerError], attempt: Attempt, most: float = MOST_KEPT
) -> RepairResult:
    """Search; ``first`` is the judgement of the artifact with every layer in int8."""
    search = _Search(first, layers, attempt)
    ranked = [layer.name for layer in layers]
    found = search.fewest(ranked[: _limit(len(ranked), most)])
    if found is not None:
        found = search.without_needless(found)
    return RepairResult(tuple(layers), tuple(search.rungs), found)


def refuse(ladder: RepairResult, name: str) -> CheckFailed:
    """Say that nothing is within the budget, and what comes closest."""
    first, closest = ladder.rungs[0].result, ladder.closest
    tries = len(ladder.rungs) - 1
    ways = "give another --max-drop, use --quantize float16, or edgevid train --quantize-aware"
    if not tries:
        return CheckFailed(f"{name} {first.reason}; there is no layer to repair it with; {ways}")
    told = "every layer in int8" if not closest.kept else f"{listed(closest.kept)} kept in float"
    return CheckFailed(
        f"{name} {first.reason}; none of {tries} repairs is within the budget; the closest, with "
        f"{told}, {closest.result.reason}; {ways}"
    )


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names in a line, the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _limit(layers: int, most: float) -> int:
    """How many of so many layers may be kept: one at least, but not all."""
    return min(max(1, int(layers * most)), layers - 1) if layers else 0


class _Search:
    """The tries of one repair, each made once."""

    def __init__(
        self, first: AcceptanceResult, layers: Sequence[LayerError], attempt: Attempt
    ) -> None:
        self._attempt = attempt
        self._rank = {layer.name: rank for rank, layer in enumerate(layers)}
        self.rungs = [RepairAttempt((), first)]

    def _try(self, names: Sequence[str]) -> RepairAttempt:
        kept = tuple(sorted(names, key=self._rank.__getitem__))
        known = next((rung for rung in self.rungs if rung.kept == kept), None)
        if known is None:
            known = RepairAttempt(kept, self._attempt(kept))
            self.rungs.append(known)
        return known

    def _spent(self) -> bool:
        return len(self.rungs) > MOST_TRIES

    def fewest(self, ranked: Sequence[str]) -> RepairAttempt | None:
        """The shortest head of the ranking that is enough, as far as more is never worse."""
        below, count, found = 0, 1, None
        while found is None and below < len(ranked) and not self._spent():
            count = min(count, len(ranked))
            rung = self._try(ranked[:count])
            if rung.result.ok:
                found = rung
            else:
                below, count = count, count * 2
        while found is not None and len(found.kept) - below > 1 and not self._spent():
            middle = (below + len(found.kept)) // 2
            rung = self._try(ranked[:middle])
            found, below = (rung, below) if rung.result.ok else (found, middle)
        return found

    def without_needless(self, found: RepairAttempt) -> RepairAttempt:
        """Give back to int8 what it is enough without, the least damaged layer first."""
        for name in reversed(found.kept):
            if len(found.kept) == 1 or self._spent():
                break
            rung = self._try([kept for kept in found.kept if kept != name])
            if rung.result.ok:
                found = rung
        return found
