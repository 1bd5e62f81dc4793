"""What the kernel tells of a machine in ``/proc`` and ``/sys``: where, and how to read it.

Everything is read below a root path, so that another machine's files can be looked at as well.
What is missing, unreadable or no sense is None, or left out.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Where no trip point is told: boards slow down at 80 °C (the Raspberry Pi's firmware does, and
# tells the kernel nothing but a critical 110), PC processors shortly before 100.
BOARD_C, PC_C = 80.0, 95.0
PLAUSIBLE_C = (-40.0, 150.0)  # sensors that are not there read -273 or thousands

# What makes a step fast, by what /proc/cpuinfo calls it.
X86 = {
    "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_int8": "amx",
    "f16c": "fp16",
}
ARM = {
    "neon": "neon",
    "asimd": "neon",
    "asimddp": "asimddp",
    "asimdhp": "fp16",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
}
ARM_CORES = {
    "0xc07": "Cortex-A7",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd46": "Cortex-A510",
    "0xd47": "Cortex-A710",
}
# Bits of the Raspberry Pi's firmware: now, and sixteen higher since it was started.
THROTTLED = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
SINCE_START = 16


def text(path: Path) -> str | None:
    """What a small file holds, without the blanks around it; None where it cannot be read."""
    try:
        return clean(path.read_bytes())
    except OSError:
        return None


def clean(raw: bytes) -> str:
    """What was read, as text without the blanks and zeros around it."""
    return raw.decode(errors="replace").strip("\0 \t\r\n")


def number(path: Path) -> int | None:
    """The whole number that a file holds; None where there is none."""
    return whole(text(path))


def whole(said: str | None) -> int | None:
    """A whole number in a text; None where there is none."""
    try:
        return int(said or "")
    except ValueError:
        return None


def table(path: Path) -> dict[str, str]:
    """Lines of ``key: value``; of a key that comes again, the first."""
    found: dict[str, str] = {}
    for line in (text(path) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


# --- what it is -----------------------------------------------------------------------------------


def board(root: Path) -> str:
    """Who made it, and what it is called; empty where neither is told."""
    dmi = root / "sys/class/dmi/id"
    maker, product = text(dmi / "sys_vendor"), text(dmi / "product_name")
    return text(root / "proc/device-tree/model") or " ".join(filter(None, (maker, product)))


def is_board(root: Path) -> bool:
    """Whether it is a small board with a device tree, and no PC."""
    return (root / "proc/device-tree/model").exists()


def release(root: Path) -> str | None:
    """The kernel's release."""
    return text(root / "proc/sys/kernel/osrelease")


def architecture(root: Path) -> str:
    """What the kernel calls the processor's architecture."""
    return text(root / "proc/sys/kernel/arch") or platform.machine()


@dataclass(frozen=True)
class Processor:
    """As ``/proc/cpuinfo`` tells it; ``features`` are those flags that make a step fast."""

    model: str
    cores: int
    flags: frozenset[str]
    features: tuple[str, ...]
    x86: bool


def processor(root: Path) -> Processor | None:
    """The processor; None where it is not told."""
    path = root / "proc/cpuinfo"
    info, lines = table(path), text(path) or ""
    cores = len(re.findall(r"^processor\s*:", lines, re.MULTILINE))
    if not cores:
        return None
    x86 = "flags" in info
    flags = frozenset((info.get("flags") or info.get("Features") or "").split())
    features = (name for flag, name in (X86 if x86 else ARM).items() if flag in flags)
    model = info.get("model name") or _arm_cores(lines)
    return Processor(model, cores, flags, tuple(dict.fromkeys(features)), x86)


def _arm_cores(lines: str) -> str:
    parts = re.findall(r"^CPU part\s*:\s*(\w+)", lines, re.MULTILINE)
    cores = dict.fromkeys(ARM_CORES.get(part.lower(), f"ARM part {part}") for part in parts)
    return " + ".join(cores) or "unknown"


IDENTITY = ("CPU implementer", "CPU part", "Features", "Hardware", "flags", "model name")


def processor_identity() -> str | None:
    """The model and features of this machine's first processor, one per line.

    Values that change from second to second, such as the clock rate, are left out. None where
    ``/proc/cpuinfo`` cannot be read.
    """
    try:
        with Path("/proc/cpuinfo").open("rb") as file:
            first = file.read(1 << 14).decode(errors="replace").split("\n\n")[0]
    except OSError:
        return None
    lines = (line for line in first.splitlines() if line.partition(":")[0].strip() in IDENTITY)
    return "\n".join(lines)


def memory_mb(root: Path) -> dict[str, int]:
    """``/proc/meminfo`` in MB."""
    found = {}
    for key, value in table(root / "proc/meminfo").items():
        kb = value.partition(" ")[0]
        if kb.isdecimal():
            found[key] = int(kb) // 1024
    return found


# --- heat -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Zone:
    """One sensor of temperature; ``told``: the kernel says where it slows the machine down."""

    path: Path
    name: str
    slows_at_c: float
    told: bool

    @property
    def file(self) -> Path:
        """What `celsius` understands."""
        return self.path / "temp"


def zones(root: Path) -> list[Zone]:
    """All zones that tell a temperature."""
    usual = BOARD_C if is_board(root) else PC_C
    found = []
    for path in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        if celsius(text(path / "temp")) is not None:
            trip = _trip_c(path)
            name = text(path / "type") or path.name
            found.append(Zone(path, name, usual if trip is None else trip, trip is not None))
    return found


def celsius(said: str | None) -> float | None:
    """Degrees, from the thousandths that are told; None where there is no such sensor."""
    value = whole(said)
    degrees = None if value is None else value / 1000
    return degrees if degrees and PLAUSIBLE_C[0] < degrees < PLAUSIBLE_C[1] else None


def _trip_c(zone: Path) -> float | None:
    """The lowest temperature at which the kernel slows the machine down; None: not told."""
    trips = [
        degrees
        for kind in zone.glob("trip_point_*_type")
        if text(kind) in ("passive", "hot")
        and (degrees := celsius(text(kind.with_name(kind.name.replace("_type", "_temp")))))
        is not None
        and degrees > 0
    ]
    return min(trips, default=None)


# --- throttling -----------------------------------------------------------------------------------


def firmware_file(root: Path) -> Path | None:
    """Where a Raspberry Pi's kernel tells the firmware's bits; None where this is none."""
    for pattern in ("soc*/soc*firmware/get_throttled", "soc*firmware/get_throttled"):
        for path in root.glob(f"sys/devices/platform/{pattern}"):
            if bits(text(path)) is not None:
                return path
    return None


def bits(said: str | None) -> int | None:
    """The bits that ``get_throttled`` tells, in hexadecimals with or without ``0x``."""
    return int(said, 16) if said and re.fullmatch(r"(0x)?[0-9a-fA-F]+", said) else None


def throttled(root: Path) -> int | None:
    """The firmware's bits; the tool ``vcgencmd`` is asked where the kernel does not tell them."""
    path = firmware_file(root)
    if path is not None:
        return bits(text(path))
    asked = shutil.which("vcgencmd") if root == Path("/") else None
    if asked is None:
        return None
    try:
        done = subprocess.run([asked, "get_throttled"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bits(done.stdout.strip().partition("=")[2])


def named(flags: int) -> list[str]:
    """What the lower bits say."""
    return [name for bit, name in THROTTLED.items() if flags >> bit & 1]


def voltage_alarms(root: Path) -> list[Path]:
    """Files that say 1 while a Raspberry Pi's supply is too weak."""
    return [
        chip / "in0_lcrit_alarm"
        for chip in sorted(root.glob("sys/class/hwmon/hwmon*"))
        if text(chip / "name") == "rpi_volt"
    ]


def throttle_counts(root: Path) -> list[Path]:
    """Files in which x86 processors count how often they grew too hot."""
    pattern = "sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"
    return sorted(root.glob(pattern))


# --- clock rate -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """The clock rate of cores that share one; None: not told."""

    path: Path
    governor: str | None
    driver: str
    now_mhz: int | None
    least_mhz: int | None
    limit_mhz: int | None
    most_mhz: int | None


def policies(root: Path) -> list[Policy]:
    """All policies, as they are now."""
    return [
        Policy(
            path,
            text(path / "scaling_governor"),
            text(path / "scaling_driver") or "",
            _mhz(path / "scaling_cur_freq"),
            _mhz(path / "scaling_min_freq"),
            _mhz(path / "scaling_max_freq"),
            _mhz(path / "cpuinfo_max_freq"),
        )
        for path in sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*"))
    ]


def mhz(said: str | None) -> int | None:
    """MHz, from the kHz that are told; None where nothing or nothing sensible is."""
    khz = whole(said)
    return khz // 1000 if khz else None


def _mhz(path: Path) -> int | None:
    return mhz(text(path))
