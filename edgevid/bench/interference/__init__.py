"""Watching the machine while something is measured on it, and judging what disturbed it.

`machine` describes what stays the same, `Monitor` records what changes, and `disturbances` lists
what makes a measurement invalid. Only the standard library is needed. A value that the machine does
not report, or not to this user, is None.
"""

from edgevid.bench.interference.limits import InterferenceLimits, disturbances
from edgevid.bench.interference.machine_info import machine
from edgevid.bench.interference.monitor import Monitor
from edgevid.bench.interference.record import MonitorRecord, Quota, Span

__all__ = [
    "InterferenceLimits",
    "Monitor",
    "MonitorRecord",
    "Quota",
    "Span",
    "disturbances",
    "machine",
]
