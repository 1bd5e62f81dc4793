"""Board, processor, memory, heat, clock rate and power, as the kernel reports them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgevid.doctor.check import Check, names
from edgevid.system import kernel

MEMORY_NEEDED_MB = 64
MEMORY_WANTED_MB = 256
NEAR_C = 5.0


def checks(root: Path) -> Iterator[Check]:
    """Check the hardware of the machine whose file system begins at ``root``."""
    yield _board(root)
    yield _cpu(root)
    yield _memory(root)
    yield _swap(root)
    yield _memory_cgroup(root)
    yield _temperature(root)
    yield _power(root)
    yield _frequency(root)


def _board(root: Path) -> Check:
    found = kernel.board(root)
    system = f"Linux {kernel.release(root) or '?'} {kernel.architecture(root)}"
    return Check("machine", f"{found}, {system}" if found else system)


def _cpu(root: Path) -> Check:
    cpu = kernel.processor(root)
    if cpu is None:
        return Check("cpu", "not reported by /proc/cpuinfo")
    counted = f"{cpu.cores} core{'s' if cpu.cores > 1 else ''}"
    found = f"{cpu.model}, {counted}: {' '.join(cpu.features) or 'no vector features'}"
    if cpu.x86 and "avx2" not in cpu.flags:
        return Check("cpu", found, "warn", "without avx2 steps are slow; choose a small model")
    if not cpu.x86 and "asimddp" not in cpu.flags:
        return Check("cpu", found, do="int8 gains less without asimddp; see: edgevid bench")
    return Check("cpu", found)


def _memory(root: Path) -> Check:
    info = kernel.memory_mb(root)
    free, whole = info.get("MemAvailable"), info.get("MemTotal")
    if free is None or whole is None:
        return Check("memory", "not reported by /proc/meminfo")
    found = f"{free} of {whole} MB free"
    if free < MEMORY_NEEDED_MB:
        return Check("memory", found, "fail", "stop other programs; serving needs about 130 MB")
    if free < MEMORY_WANTED_MB:
        return Check("memory", found, "warn", "stop other programs, or serve fewer cameras")
    return Check("memory", found)


def _swap(root: Path) -> Check:
    info = kernel.memory_mb(root)
    whole, free = info.get("SwapTotal", 0), info.get("SwapFree", 0)
    if not whole:
        return Check("swap", "none")
    used = whole - free
    if used > whole // 2:
        do = "memory is short and slows every step; stop other programs"
        return Check("swap", f"{used} of {whole} MB in use", "warn", do)
    return Check("swap", f"{used} of {whole} MB in use")


def _memory_cgroup(root: Path) -> Check:
    name, state = "memory limits", kernel.memory_cgroup(root)
    if state is None:
        return Check(name, "memory cgroup: not reported by this machine")
    if state:
        return Check(name, "memory cgroup: on")
    do = (
        "add cgroup_enable=memory to the kernel's command line (Raspberry Pi: "
        "/boot/firmware/cmdline.txt) and restart; until then MemoryMax= does nothing, and only "
        "the limit that edgevid sets itself applies"
    )
    return Check(name, "memory cgroup: off", "warn", do)


def _temperature(root: Path) -> Check:
    read = [
        (degrees, zone)
        for zone in kernel.zones(root)
        if (degrees := kernel.celsius(kernel.text(zone.file))) is not None
    ]
    if not read:
        return Check("temperature", "not reported by this machine")
    # The one nearest to its limit.
    degrees, zone = min(read, key=lambda one: one[1].slows_at_c - one[0])
    found = f"{degrees:.0f} °C ({zone.name}, slows down at {zone.slows_at_c:.0f})"
    if degrees < zone.slows_at_c - NEAR_C:
        return Check("temperature", found)
    return Check("temperature", found, "warn", "cool it: a heat sink, a fan, shade, fewer cameras")


def _power(root: Path) -> Check:
    """Under-voltage and throttling: the Raspberry Pi's firmware, or an x86 processor's counters."""
    bits = kernel.throttled(root)
    alarm = any(kernel.number(path) for path in kernel.voltage_alarms(root))
    if bits is None and not alarm:
        return _x86_throttled(root)
    bits = (bits or 0) | alarm
    now, since = kernel.named(bits), kernel.named(bits >> kernel.SINCE_START)
    if not now and not since:
        return Check("throttling", "none since boot")
    texts = [f"now: {', '.join(now)}"] if now else []
    texts += [f"since boot: {', '.join(since)}"] if since else []
    power = "under-voltage" in (*now, *since)
    do = "use the power supply made for this board, and a short cable" if power else "cool it"
    return Check("throttling", "; ".join(texts), "warn", do)


def _x86_throttled(root: Path) -> Check:
    counts = [kernel.number(path) for path in kernel.throttle_counts(root)]
    known = [count for count in counts if count is not None]
    if not known:
        return Check("throttling", "not reported by this machine")
    if most := max(known):
        found = f"{most} times since boot"
        return Check("throttling", found, "warn", "cool it: a heat sink, a fan, fewer cameras")
    return Check("throttling", "none since boot")


def _frequency(root: Path) -> Check:
    policies = kernel.policies(root)
    if not policies:
        return Check("frequency", "not reported by this machine")
    texts: list[str] = []
    do = ""
    for policy in policies:
        limit, most = policy.limit_mhz or 0, policy.most_mhz or 0
        texts.append(f"{policy.now_mhz or 0} of {most} MHz, {policy.governor}")
        # With intel_pstate and amd-pstate-epp the name powersave means what schedutil does.
        if policy.governor == "powersave" and "pstate" not in policy.driver:
            do = "run: sudo cpupower frequency-set -g schedutil"
        elif limit < most:
            do = f"it is limited to {limit} MHz; find what limits it, or cool it"
    found = names(list(dict.fromkeys(texts)))
    return Check("frequency", found, "warn" if do else "ok", do)
