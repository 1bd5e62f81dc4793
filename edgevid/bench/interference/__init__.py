"""The conditions under which something is measured, and whether they spoil it.

`machine` tells what stays the same, `Monitor` watches what does not, and `disturbances` says what of it
makes a measurement worthless. Only the standard library is needed; whatever a machine does not
tell, or not to this user, is None.
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
