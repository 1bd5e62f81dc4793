"""The conditions under which something is measured, and whether they spoil it.

`machine` tells what stays the same, `Monitor` watches what does not, and `judge` says what of it
makes a measurement worthless. Only the standard library is needed; whatever a machine does not
tell, or not to this user, is None.
"""

from edgevid.bench.conditions.facts import machine
from edgevid.bench.conditions.judge import Limits, judge
from edgevid.bench.conditions.monitor import Monitor
from edgevid.bench.conditions.record import Quota, Record, Span

__all__ = ["Limits", "Monitor", "Quota", "Record", "Span", "judge", "machine"]
