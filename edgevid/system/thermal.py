"""Temperature, clock rate and throttling, followed over time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgevid.system import kernel
from edgevid.system.counters import CounterSums, PolledFiles

ELSEWHERE = re.compile(r"wifi|wlan|phy\d|bat|charger|nvme|skin", re.IGNORECASE)
"""Zones that have nothing to do with the processor."""
COOLING = re.compile(r"cpufreq|devfreq|^Processor$|powerclamp|throttle", re.IGNORECASE)
"""Cooling devices that throttle a processor; others are fans."""
MOST = 16
"""Largest number of zones or policies to read; more cost more time than they are worth."""
TOO_HOT = "too hot"
"""The event that x86 processors count."""


class Heat:
    """Reads the sensors of a machine, which are searched for once.

    Attributes:
        zone: The zone that came closest to its throttling temperature.
    """

    def __init__(self, files: PolledFiles, root: Path) -> None:
        self._files = files
        zones = [zone for zone in kernel.zones(root) if not ELSEWHERE.search(zone.name)]
        self._zones = [(str(zone.file), zone) for zone in zones[:MOST]]
        self._clocks = [
            (_clock(policy.path), str(policy.path / "scaling_max_freq"))
            for policy in kernel.policies(root)[:MOST]
        ]
        firmware = kernel.firmware_file(root)
        self._firmware = None if firmware is None else str(firmware)
        self._alarms = [str(path) for path in kernel.voltage_alarms(root)]
        self._since = 0
        self._first = True
        self._cooling = _cooling(root)
        self._counts = [str(path) for path in kernel.throttle_counts(root)]
        self._nearest = float("inf")
        self.zone: kernel.ThermalZone | None = None

    def look(self, tally: CounterSums, full: bool) -> dict[str, Any]:
        """Read the sensors.

        Args:
            tally: Takes the throttling flags and counts.
            full: Whether to read the counts too, which cannot be missed between two looks.

        Returns:
            ``frequency_mhz``, ``limit_mhz``, ``temperature_c`` and ``slows_at_c``; None if unknown.
        """
        self._flags(tally)
        if full:
            for path in self._counts:
                value = kernel.whole(self._files.text(path))
                if value is not None:
                    tally.count((TOO_HOT, path), value)
        return {**self._clock_rate(), **self._temperature()}

    def _clock_rate(self) -> dict[str, Any]:
        now = [kernel.mhz(self._files.text(current)) for current, _ in self._clocks]
        limit = [kernel.mhz(self._files.text(most)) for _, most in self._clocks]
        return {
            "frequency_mhz": max((one for one in now if one), default=None),
            "limit_mhz": max((one for one in limit if one), default=None),
        }

    def _temperature(self) -> dict[str, Any]:
        read = [
            (zone.slows_at_c - degrees, degrees, zone)
            for path, zone in self._zones
            if (degrees := kernel.celsius(self._files.text(path))) is not None
        ]
        if not read:
            return {"temperature_c": None, "slows_at_c": None}
        left, degrees, zone = min(read, key=lambda one: one[0])
        if left < self._nearest:
            self._nearest, self.zone = left, zone
        return {"temperature_c": degrees, "slows_at_c": zone.slows_at_c}

    def _flags(self, tally: CounterSums) -> None:
        names = set(self._cooled())
        bits = kernel.bits(self._files.text(self._firmware)) if self._firmware else None
        if bits is not None:
            since = bits >> kernel.SINCE_START
            # Short events between two looks are visible only in what the firmware remembers.
            came = 0 if self._first else since & ~self._since
            names.update(kernel.named(bits | came))
            self._since, self._first = since, False
        if any(kernel.whole(self._files.text(path)) for path in self._alarms):
            names.add(kernel.THROTTLED[0])
        for name in names:
            tally.add(("throttled", name), 1)

    def _cooled(self) -> list[str]:
        return [
            f"cooling by {name}"
            for name, path in self._cooling
            if (kernel.whole(self._files.text(path)) or 0) > 0
        ]


def _clock(policy: Path) -> str:
    """The hardware's own rate if it is readable: firmware throttles without telling Linux."""
    real = policy / "cpuinfo_cur_freq"
    return str(real if kernel.number(real) else policy / "scaling_cur_freq")


def _cooling(root: Path) -> list[tuple[str, str]]:
    found = []
    for device in sorted(root.glob("sys/class/thermal/cooling_device*")):
        kind = kernel.text(device / "type") or ""
        if COOLING.search(kind) and kernel.number(device / "cur_state") is not None:
            found.append((kind, str(device / "cur_state")))
    return found[: 2 * MOST]
