"""Power, from whatever sensor or model a machine has.

"measured" values are a sensor's; "informative" ones are a model's, such as an x86 processor's own
account (RAPL), which does not include the board.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgevid.system import kernel
from edgevid.system.counters import PolledFiles

Kind = Literal["measured", "informative"]
Rail = tuple[str, tuple[str, ...]]
"""A label, and the files whose product is the power."""
SENSORS = ("ina", "ltc", "adm", "max", "isl", "tps", "xdp", "power_meter", "pmbus")
"""Prefixes of drivers of real power sensors; others (amdgpu, amd_energy, fam15h) are models."""
INPUT = re.compile(r"(^|_)IN$", re.IGNORECASE)
"""The rail that feeds all others, such as VDD_IN or POM_5V_IN."""


@dataclass
class PowerSource:
    """One way to read the power.

    Attributes:
        name: Its name.
        kind: Whether it is measured or a model's.
        covers: ``board``, ``supply``, ``processor``, or the name of a chip.
        why: Why it cannot be read; None if it can.
    """

    name: str
    kind: Kind
    covers: str
    why: str | None = None

    def watts(self, files: PolledFiles, now_s: float) -> float | None:
        """The power in watts.

        Args:
            files: Reads the files.
            now_s: The present time in seconds.

        Returns:
            The present power, or the mean since the last call; None if unknown.
        """
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "kind": self.kind, "covers": self.covers, "unreadable": self.why}


@dataclass
class EnergyCounter(PowerSource):
    """A counter of microjoules, which wraps around at ``largest``."""

    path: str = ""
    largest: int = 0
    last: tuple[float, int] | None = None

    def watts(self, files: PolledFiles, now_s: float) -> float | None:
        """The mean power since the last call; see `PowerSource.watts`."""
        value = kernel.whole(files.text(self.path))
        before, self.last = self.last, None if value is None else (now_s, value)
        if value is None or before is None or now_s <= before[0]:
            return None
        used = value - before[1]
        return (used + self.largest if used < 0 else used) / 1e6 / (now_s - before[0])


@dataclass
class PowerRails(PowerSource):
    """Sensors to add up: files with power, or with voltage and current to multiply."""

    factors: tuple[tuple[str, ...], ...] = ()
    unit: float = 1.0

    def watts(self, files: PolledFiles, now_s: float) -> float | None:
        """The present power; see `PowerSource.watts`."""
        total = 0.0
        for paths in self.factors:
            product = self.unit
            for path in paths:
                value = kernel.whole(files.text(path))
                if value is None:
                    return None
                product *= value
            total += product
        return total


@dataclass
class Pmic(PowerSource):
    """The power chip of a Raspberry Pi 5, read by its firmware once per second."""

    device: str = ""
    asked_s: float = float("-inf")
    latest_w: float | None = None

    def watts(self, files: PolledFiles, now_s: float) -> float | None:
        """The power of all rails, at most a second old; see `PowerSource.watts`."""
        if now_s - self.asked_s >= 1:
            self.asked_s = now_s
            try:
                self.latest_w = rails_w(firmware(self.device, "pmic_read_adc"))
            except OSError:
                self.latest_w = None
        return self.latest_w


def firmware(device: str, command: str) -> str:
    """Send a command to the Raspberry Pi's firmware, as ``vcgencmd`` does.

    Args:
        device: The mailbox, ``/dev/vcio``.
        command: The command, such as ``pmic_read_adc``.

    Returns:
        The reply.

    Raises:
        OSError: The device cannot be used.
    """
    size, answer_at = 1024, 24
    message = bytearray(struct.pack("<6I", answer_at + size + 4, 0, 0x00030080, size, 0, 0))
    message += command.encode().ljust(size, b"\0") + bytes(4)
    pointer = struct.calcsize("P")
    mailbox = 3 << 30 | pointer << 16 | 100 << 8  # _IOWR(100, 0, char *)
    descriptor = os.open(device, os.O_RDWR)
    try:
        fcntl.ioctl(descriptor, mailbox, message)
    finally:
        os.close(descriptor)
    return kernel.clean(bytes(message[answer_at : answer_at + size]).partition(b"\0")[0])


def rails_w(reply: str) -> float | None:
    """Add up the power of all rails in a reply to ``pmic_read_adc``, in watts; None if none."""
    volts: dict[str, float] = {}
    amperes: dict[str, float] = {}
    for name, unit, value in re.findall(r"(\w+)_([AV]) \w+\(\d+\)=([\d.]+)[AV]", reply):
        (amperes if unit == "A" else volts)[name] = float(value)
    pairs = [amperes[name] * volts[name] for name in amperes if name in volts]
    return sum(pairs) if pairs else None


def sources(root: Path) -> list[PowerSource]:
    """All power sources of a machine, the most comprehensive one first."""
    found = [*_ina(root), *_pmic(root), *_hwmon(root), *_rapl(root)]
    order = {"board": 0, "supply": 1, "processor": 2}
    return sorted(found, key=lambda one: (one.kind != "measured", order.get(one.covers, 3)))


def _why_not(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"no permission for {path}; run as root"
        return f"{path}: {os.strerror(error.errno or errno.EIO)}"
    return None


def _rapl(root: Path) -> Iterator[PowerSource]:
    packages: dict[str, Path] = {}
    for zone in sorted(root.glob("sys/class/powercap/intel-rapl:*")):
        if zone.name.count(":") == 1:  # others are parts of it
            packages.setdefault(kernel.text(zone / "name") or zone.name, zone)
    for name, zone in packages.items():
        path = str(zone / "energy_uj")
        largest = kernel.number(zone / "max_energy_range_uj") or 0
        covers = "board" if name == "psys" else "processor"
        yield EnergyCounter(f"RAPL {name}", "informative", covers, _why_not(path), path, largest)


def _hwmon(root: Path) -> Iterator[PowerSource]:
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        name = kernel.text(chip / "name") or chip.name
        kind: Kind = "measured" if name.startswith(SENSORS) else "informative"
        files = sorted(chip.glob("power*_input")) or sorted(chip.glob("power*_average"))
        names = {file: _label(file) for file in files}
        paths = _input_or_all([(names[file] or "", (str(file),)) for file in files])
        if paths:
            covers = "supply" if kind == "measured" else name
            why = _why_not(paths[0][0])
            yield PowerRails(f"hwmon {name}", kind, covers, why, tuple(paths), 1e-6)


def _label(file: Path) -> str | None:
    return kernel.text(file.with_name(file.name.partition("_")[0] + "_label"))


def _ina(root: Path) -> Iterator[PowerSource]:
    """The rails of Jetson boards, by the kernel's driver or the vendor's older one."""
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if (kernel.text(chip / "name") or "").startswith("ina3221"):
            rails: list[Rail] = [
                (label, (str(volts), str(chip / f"curr{number}_input")))
                for number in (1, 2, 3)
                if (volts := chip / f"in{number}_input").exists()
                and (chip / f"curr{number}_input").exists()
                and (label := kernel.text(chip / f"in{number}_label") or f"rail {number}")
            ]
            yield from _rails("ina3221", rails, 1e-6)  # mV times mA
    for chip in sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*")):
        rails = [
            (kernel.text(chip / f"rail_name_{number}") or f"rail {number}", (str(file),))
            for number in (0, 1, 2)
            if (file := chip / f"in_power{number}_input").exists()
        ]
        yield from _rails("ina3221x", rails, 1e-3)


def _rails(chip: str, rails: list[Rail], unit: float) -> Iterator[PowerSource]:
    if rails:
        chosen = _input_or_all(rails)
        names = [label for label, paths in rails if paths in chosen]
        covers = "board" if len(names) == 1 and INPUT.search(names[0]) else "supply"
        name = f"{chip} {' + '.join(names)}"
        yield PowerRails(name, "measured", covers, _why_not(chosen[0][0]), tuple(chosen), unit)


def _input_or_all(rails: list[Rail]) -> list[tuple[str, ...]]:
    """The rail that feeds all others, or all of them."""
    whole = [paths for label, paths in rails if INPUT.search(label)]
    return whole[:1] or [paths for _, paths in rails]


def _pmic(root: Path) -> Iterator[PowerSource]:
    board, device = kernel.board(root), root / "dev/vcio"
    if re.search(r"Raspberry Pi (5|Compute Module 5|500)\b", board) and device.exists():
        allowed = os.access(device, os.R_OK | os.W_OK)
        why = None if allowed else "no permission for /dev/vcio; add the user to the group video"
        yield Pmic("PMIC rails", "measured", "supply", why, str(device))


class Power:
    """Follows the most comprehensive source; all packages of a processor are one."""

    def __init__(self, files: PolledFiles, root: Path) -> None:
        self._files = files
        readable = [source for source in sources(root) if source.why is None]
        self._used = [
            source for source in readable if source is readable[0] or _like(source, readable[0])
        ]
        self.name = " + ".join(source.name for source in self._used) or None

    def look(self, now_s: float) -> float | None:
        """The power in watts at a time in seconds; None if unknown."""
        values = [source.watts(self._files, now_s) for source in self._used]
        known = [watts for watts in values if watts is not None]
        return sum(known) if values and len(known) == len(values) else None


def _like(source: PowerSource, first: PowerSource) -> bool:
    """Whether it is another package or chip of the same kind, and not part of the first."""
    return (
        isinstance(source, (EnergyCounter, PowerRails))
        and type(source) is type(first)
        and source.covers == first.covers != "board"
        and source.kind == first.kind
    )
