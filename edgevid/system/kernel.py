"""Hardware as the kernel reports it in ``/proc`` and ``/sys``.

Everything is read below a root path, so that the files of another machine can be examined too.
Values that are missing, unreadable or implausible are None, or omitted.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

BOARD_C, PC_C = 80.0, 95.0
"""Throttling temperatures to assume if the kernel reports no trip point.

Boards throttle at 80 °C (the Raspberry Pi's firmware does, and reports only a critical 110 to the
kernel), PC processors shortly before 100.
"""
PLAUSIBLE_C = (-40.0, 150.0)
"""Absent sensors read -273 or thousands."""

# Features that make a step fast, by their names in /proc/cpuinfo.
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
# Bits of the Raspberry Pi's firmware: the present state; 16 bits higher, the state since boot.
THROTTLED = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
SINCE_START = 16


def text(path: Path) -> str | None:
    """The content of a small file without surrounding whitespace; None if it cannot be read."""
    try:
        return clean(path.read_bytes())
    except OSError:
        return None


def clean(raw: bytes) -> str:
    """Decode text and strip surrounding whitespace and zero bytes."""
    return raw.decode(errors="replace").strip("\0 \t\r\n")


def number(path: Path) -> int | None:
    """The integer in a file; None if there is none."""
    return whole(text(path))


def whole(content: str | None) -> int | None:
    """Parse an integer; None if the text is missing or something else."""
    try:
        return int(content or "")
    except ValueError:
        return None


def table(path: Path) -> dict[str, str]:
    """Parse lines of ``key: value``; the first one of a repeated key counts."""
    found: dict[str, str] = {}
    for line in (text(path) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


# --- identity -------------------------------------------------------------------------------------


def board(root: Path) -> str:
    """Vendor and product name; empty if unknown."""
    dmi = root / "sys/class/dmi/id"
    maker, product = text(dmi / "sys_vendor"), text(dmi / "product_name")
    return text(root / "proc/device-tree/model") or " ".join(filter(None, (maker, product)))


def is_board(root: Path) -> bool:
    """Whether it is a board with a device tree and not a PC."""
    return (root / "proc/device-tree/model").exists()


def release(root: Path) -> str | None:
    """The kernel's release, such as ``6.12.25+rpt-rpi-2712``."""
    return text(root / "proc/sys/kernel/osrelease")


def architecture(root: Path) -> str:
    """The kernel's name of the architecture, such as ``aarch64``."""
    return text(root / "proc/sys/kernel/arch") or platform.machine()


@dataclass(frozen=True)
class Processor:
    """The processor, from ``/proc/cpuinfo``.

    Attributes:
        model: Its name.
        cores: Number of logical cores.
        flags: Every flag.
        features: The flags that make a step fast, by common names.
        x86: Whether it is an x86 processor.
    """

    model: str
    cores: int
    flags: frozenset[str]
    features: tuple[str, ...]
    x86: bool


def processor(root: Path) -> Processor | None:
    """The processor; None if unknown."""
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

    Values that change all the time, such as the clock rate, are omitted. None if ``/proc/cpuinfo``
    cannot be read.
    """
    try:
        with Path("/proc/cpuinfo").open("rb") as file:
            first = file.read(1 << 14).decode(errors="replace").split("\n\n")[0]
    except OSError:
        return None
    lines = (line for line in first.splitlines() if line.partition(":")[0].strip() in IDENTITY)
    return "\n".join(lines)


def own_threads() -> int:
    """Return how many threads this process has, those of native libraries too."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def memory_mb(root: Path) -> dict[str, int]:
    """``/proc/meminfo`` in MiB."""
    found = {}
    for key, value in table(root / "proc/meminfo").items():
        kb = value.partition(" ")[0]
        if kb.isdecimal():
            found[key] = int(kb) // 1024
    return found


def memory_cgroup(root: Path) -> bool | None:
    """Whether the kernel can limit the memory of a group of processes; None if unknown."""
    controllers = text(root / "sys/fs/cgroup/cgroup.controllers")
    if controllers is not None and "memory" in controllers.split():
        return True
    rows = (line.split() for line in (text(root / "proc/cgroups") or "").splitlines())
    enabled = [row[3] == "1" for row in rows if len(row) == 4 and row[0] == "memory"]
    if enabled:
        return enabled[0]
    return None if controllers is None else False


# --- temperature ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ThermalZone:
    """A temperature sensor.

    Attributes:
        path: Its folder.
        name: Its name.
        slows_at_c: Temperature at which the machine is throttled, in °C.
        reported: Whether the kernel reports that temperature; otherwise it is the usual one.
    """

    path: Path
    name: str
    slows_at_c: float
    reported: bool

    @property
    def file(self) -> Path:
        """The file with the temperature, for `celsius`."""
        return self.path / "temp"


def zones(root: Path) -> list[ThermalZone]:
    """All zones with a readable temperature."""
    usual = BOARD_C if is_board(root) else PC_C
    found = []
    for path in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        if celsius(text(path / "temp")) is not None:
            trip = _trip_c(path)
            name = text(path / "type") or path.name
            slows_at_c = usual if trip is None else trip
            found.append(ThermalZone(path, name, slows_at_c, trip is not None))
    return found


def celsius(content: str | None) -> float | None:
    """Parse a temperature in thousandths of a degree; None if implausible."""
    value = whole(content)
    degrees = None if value is None else value / 1000
    return degrees if degrees and PLAUSIBLE_C[0] < degrees < PLAUSIBLE_C[1] else None


def _trip_c(zone: Path) -> float | None:
    """The lowest temperature at which the kernel throttles; None if it reports none."""
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
    """The file with the throttling bits of a Raspberry Pi's firmware; None on other machines."""
    for pattern in ("soc*/soc*firmware/get_throttled", "soc*firmware/get_throttled"):
        for path in root.glob(f"sys/devices/platform/{pattern}"):
            if bits(text(path)) is not None:
                return path
    return None


def bits(content: str | None) -> int | None:
    """Parse the bits of ``get_throttled``, hexadecimal with or without ``0x``."""
    if content and re.fullmatch(r"(0x)?[0-9a-fA-F]+", content):
        return int(content, 16)
    return None


def throttled(root: Path) -> int | None:
    """The firmware's throttling bits; from ``vcgencmd`` if the kernel does not report them."""
    path = firmware_file(root)
    if path is not None:
        return bits(text(path))
    tool = shutil.which("vcgencmd") if root == Path("/") else None
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, "get_throttled"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bits(done.stdout.strip().partition("=")[2])


def named(flags: int) -> list[str]:
    """The names of the lower bits that are set; see `THROTTLED`."""
    return [name for bit, name in THROTTLED.items() if flags >> bit & 1]


def voltage_alarms(root: Path) -> list[Path]:
    """Files that contain 1 while a Raspberry Pi's supply voltage is too low."""
    return [
        chip / "in0_lcrit_alarm"
        for chip in sorted(root.glob("sys/class/hwmon/hwmon*"))
        if text(chip / "name") == "rpi_volt"
    ]


def throttle_counts(root: Path) -> list[Path]:
    """Files in which x86 processors count thermal throttling."""
    pattern = "sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"
    return sorted(root.glob(pattern))


# --- clock rate -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FrequencyPolicy:
    """The clock rate of a group of cores; None where unknown.

    Attributes:
        path: Its folder.
        governor: The governor, such as ``schedutil``.
        driver: The driver; empty if unknown.
        now_mhz: The present rate.
        least_mhz: The lowest rate allowed.
        limit_mhz: The highest rate allowed at present.
        most_mhz: The highest rate of the hardware.
    """

    path: Path
    governor: str | None
    driver: str
    now_mhz: int | None
    least_mhz: int | None
    limit_mhz: int | None
    most_mhz: int | None


def policies(root: Path) -> list[FrequencyPolicy]:
    """The present clock rates of all cores."""
    return [
        FrequencyPolicy(
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


def mhz(content: str | None) -> int | None:
    """Convert a rate in kHz to MHz; None if missing or zero."""
    khz = whole(content)
    return khz // 1000 if khz else None


def _mhz(path: Path) -> int | None:
    return mhz(text(path))
