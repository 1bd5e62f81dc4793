"""Board, processor, memory, heat, clock rate and power, as the kernel tells them."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from edgevid.doctor.check import Check, names, number, table, text

MEMORY_NEEDED_MB = 64
MEMORY_WANTED_MB = 256
# Where no trip point is told: boards slow down at 80 °C (the Raspberry Pi's firmware does, and
# tells the kernel nothing but a critical 110), PC processors shortly before 100.
BOARD_C, PC_C = 80.0, 95.0
NEAR_C = 5.0
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


def checks(root: Path) -> Iterator[Check]:
    """Look at the hardware."""
    yield _board(root)
    yield _cpu(root)
    yield _memory(root)
    yield _swap(root)
    yield _temperature(root)
    yield _power(root)
    yield _frequency(root)


def _board(root: Path) -> Check:
    dmi = root / "sys/class/dmi/id"
    maker, product = text(dmi / "sys_vendor"), text(dmi / "product_name")
    found = text(root / "proc/device-tree/model") or " ".join(filter(None, (maker, product)))
    release = text(root / "proc/sys/kernel/osrelease")
    architecture = text(root / "proc/sys/kernel/arch") or platform.machine()
    kernel = f"Linux {release or '?'} {architecture}"
    return Check("machine", f"{found}, {kernel}" if found else kernel)


def _cpu(root: Path) -> Check:
    path = root / "proc/cpuinfo"
    info = table(path)
    cores = len(re.findall(r"^processor\s*:", text(path) or "", re.MULTILINE))
    if not cores:
        return Check("cpu", "not told by /proc/cpuinfo")
    flags = set((info.get("flags") or info.get("Features") or "").split())
    known = X86 if "flags" in info else ARM
    features = list(dict.fromkeys(name for flag, name in known.items() if flag in flags))
    counted = f"{cores} core{'s' if cores > 1 else ''}"
    found = f"{_model(path, info)}, {counted}: {' '.join(features) or 'no vector features'}"
    if known is X86 and "avx2" not in flags:
        return Check("cpu", found, "warn", "without avx2 steps are slow; choose a small model")
    if known is ARM and "asimddp" not in flags:
        return Check("cpu", found, do="int8 gains less without asimddp; see: edgevid bench")
    return Check("cpu", found)


def _model(path: Path, info: dict[str, str]) -> str:
    if name := info.get("model name"):
        return name
    parts = re.findall(r"^CPU part\s*:\s*(\w+)", text(path) or "", re.MULTILINE)
    cores = dict.fromkeys(ARM_CORES.get(part.lower(), f"ARM part {part}") for part in parts)
    return " + ".join(cores) or "unknown"


def _memory(root: Path) -> Check:
    info = table(root / "proc/meminfo")
    free, whole = _mb(info, "MemAvailable"), _mb(info, "MemTotal")
    if free is None or whole is None:
        return Check("memory", "not told by /proc/meminfo")
    found = f"{free} of {whole} MB free"
    if free < MEMORY_NEEDED_MB:
        return Check("memory", found, "fail", "end other programs; serving needs about 130 MB")
    if free < MEMORY_WANTED_MB:
        return Check("memory", found, "warn", "end other programs, or serve fewer cameras")
    return Check("memory", found)


def _swap(root: Path) -> Check:
    info = table(root / "proc/meminfo")
    whole, free = _mb(info, "SwapTotal") or 0, _mb(info, "SwapFree") or 0
    if not whole:
        return Check("swap", "none")
    used = whole - free
    if used > whole // 2:
        do = "memory is short, and answers wait for it; end other programs"
        return Check("swap", f"{used} of {whole} MB in use", "warn", do)
    return Check("swap", f"{used} of {whole} MB in use")


def _mb(info: dict[str, str], key: str) -> int | None:
    value = info.get(key, "").partition(" ")[0]
    return int(value) // 1024 if value.isdecimal() else None


def _temperature(root: Path) -> Check:
    zones = sorted(root.glob("sys/class/thermal/thermal_zone*"))
    read = [(c, zone) for zone in zones if (c := _celsius(zone / "temp")) is not None]
    if not read:
        return Check("temperature", "this machine does not tell")
    usual = BOARD_C if (root / "proc/device-tree/model").exists() else PC_C
    limit, degrees, zone = min(
        ((_trip_c(zone, usual), degrees, zone) for degrees, zone in read),
        key=lambda one: one[0] - one[1],  # the one nearest to its limit
    )
    found = f"{degrees:.0f} °C ({text(zone / 'type') or zone.name}, slows down at {limit:.0f})"
    if degrees < limit - NEAR_C:
        return Check("temperature", found)
    return Check("temperature", found, "warn", "cool it: a heat sink, a fan, shade, fewer cameras")


def _celsius(path: Path) -> float | None:
    value = number(path)
    degrees = None if value is None else value / 1000
    return degrees if degrees and PLAUSIBLE_C[0] < degrees < PLAUSIBLE_C[1] else None


def _trip_c(zone: Path, usual: float) -> float:
    """The lowest temperature at which the kernel slows the machine down, ``usual`` if untold."""
    trips = [
        degrees
        for kind in zone.glob("trip_point_*_type")
        if text(kind) in ("passive", "hot")
        and (degrees := _celsius(kind.with_name(kind.name.replace("_type", "_temp")))) is not None
        and degrees > 0
    ]
    return min(trips, default=usual)


def _power(root: Path) -> Check:
    """Under-voltage and throttling: the Raspberry Pi's firmware, or an x86 processor's counts."""
    bits = _throttled(root)
    alarm = any(
        text(chip / "name") == "rpi_volt" and number(chip / "in0_lcrit_alarm")
        for chip in root.glob("sys/class/hwmon/hwmon*")
    )
    if bits is None and not alarm:
        return _x86_throttled(root)
    bits = (bits or 0) | alarm
    now = [name for bit, name in THROTTLED.items() if bits >> bit & 1]
    since = [name for bit, name in THROTTLED.items() if bits >> (bit + 16) & 1]
    if not now and not since:
        return Check("throttling", "none since it was started")
    said = [f"now: {', '.join(now)}"] if now else []
    said += [f"since it was started: {', '.join(since)}"] if since else []
    power = "under-voltage" in (*now, *since)
    do = "use the power supply made for this board, and a short cable" if power else "cool it"
    return Check("throttling", "; ".join(said), "warn", do)


def _throttled(root: Path) -> int | None:
    """The firmware's bits; None where this is no Raspberry Pi."""
    for pattern in ("soc*/soc*firmware/get_throttled", "soc*firmware/get_throttled"):
        for path in root.glob(f"sys/devices/platform/{pattern}"):
            value = text(path) or ""
            if re.fullmatch(r"(0x)?[0-9a-fA-F]+", value):
                return int(value, 16)
    asked = shutil.which("vcgencmd") if root == Path("/") else None
    if asked is None:
        return None
    try:
        done = subprocess.run([asked, "get_throttled"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"throttled=0x([0-9a-fA-F]+)", done.stdout)
    return int(found[1], 16) if found else None


def _x86_throttled(root: Path) -> Check:
    counts = [
        number(path)
        for path in root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")
    ]
    told = [count for count in counts if count is not None]
    if not told:
        return Check("throttling", "this machine does not tell")
    if most := max(told):
        found = f"{most} times since it was started"
        return Check("throttling", found, "warn", "cool it: a heat sink, a fan, fewer cameras")
    return Check("throttling", "none since it was started")


def _frequency(root: Path) -> Check:
    policies = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*"))
    if not policies:
        return Check("frequency", "this machine does not tell")
    said: list[str] = []
    do = ""
    for policy in policies:
        now, limit, most = (
            (number(policy / name) or 0) // 1000
            for name in ("scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
        )
        governor, driver = text(policy / "scaling_governor"), text(policy / "scaling_driver") or ""
        said.append(f"{now} of {most} MHz, {governor}")
        # With intel_pstate and amd-pstate-epp the name powersave means what schedutil does.
        if governor == "powersave" and "pstate" not in driver:
            do = "run: sudo cpupower frequency-set -g schedutil"
        elif limit < most:
            do = f"it is held at {limit} MHz; look for who caps it, or cool it"
    found = names(list(dict.fromkeys(said)))
    return Check("frequency", found, "warn" if do else "ok", do)
