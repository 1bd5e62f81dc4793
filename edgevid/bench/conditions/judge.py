"""Whether what was measured is worth anything, or the machine was disturbed."""

from __future__ import annotations

from dataclasses import dataclass

from edgevid.bench.conditions.record import Record


@dataclass(frozen=True)
class Limits:
    """Up to where a disturbance is left to the statistics."""


def judge(record: Record, limits: Limits | None = None) -> list[str]:
    """Reasons for INVALID, one plain line each, with figures; none where all is well.

    Judge one job by ``record.part(lambda label: ...)``, all of them by the whole record.
    """
    raise NotImplementedError
