"""Other machines' /proc, /sys and /dev, in the formats in which their kernels write them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

PI5_CORE = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc \
dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
PC_CORE = """processor\t: {n}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 154
model name\t: 12th Gen Intel(R) Core(TM) i5-1240P
stepping\t: 3
microcode\t: 0x436
cpu MHz\t\t: 400.000
cache size\t: 12288 KB
physical id\t: 0
siblings\t: 16
core id\t\t: 0
cpu cores\t: 12
flags\t\t: fpu vme de pse tsc msr pae mce cx8 sse sse2 ht ssse3 fma cx16 sse4_1 sse4_2 movbe \
popcnt aes xsave avx f16c rdrand lahf_lm bmi1 avx2 smep bmi2 erms adx sha_ni avx_vnni umip
bugs\t\t: spectre_v1 spectre_v2
bogomips\t: 4224.00

"""
MEMINFO = """MemTotal:        8245040 kB
MemFree:         5213136 kB
MemAvailable:    7206368 kB
Buffers:           53136 kB
Cached:          1955840 kB
SwapCached:            0 kB
SwapTotal:        524272 kB
SwapFree:         524272 kB
"""

JETSON = {
    "sys/class/hwmon/hwmon3/name": "ina3221\n",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon3/in1_input": "4968\n",
    "sys/class/hwmon/hwmon3/curr1_input": "1128\n",
    "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon3/in2_input": "4960\n",
    "sys/class/hwmon/hwmon3/curr2_input": "500\n",
}


def _zone(number: int, kind: str, temp: int, *trips: tuple[str, int]) -> dict[str, str]:
    zone = f"sys/class/thermal/thermal_zone{number}"
    files = {f"{zone}/type": f"{kind}\n", f"{zone}/temp": f"{temp}\n"}
    for place, (trip, at) in enumerate(trips):
        files[f"{zone}/trip_point_{place}_type"] = f"{trip}\n"
        files[f"{zone}/trip_point_{place}_temp"] = f"{at}\n"
    return files


def _policy(number: int, governor: str, driver: str, now: int, least: int, most: int) -> dict:
    policy = f"sys/devices/system/cpu/cpufreq/policy{number}"
    return {
        f"{policy}/scaling_governor": f"{governor}\n",
        f"{policy}/scaling_driver": f"{driver}\n",
        f"{policy}/scaling_cur_freq": f"{now}\n",
        f"{policy}/scaling_min_freq": f"{least}\n",
        f"{policy}/scaling_max_freq": f"{most}\n",
        f"{policy}/cpuinfo_max_freq": f"{most}\n",
    }


PI5: dict[str, str] = {
    "proc/cpuinfo": "".join(PI5_CORE.format(n=n) for n in range(4))
    + "Revision\t: d04170\nSerial\t\t: 0123456789\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
    "proc/meminfo": MEMINFO,
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/sys/kernel/osrelease": "6.12.25+rpt-rpi-2712\n",
    "proc/sys/kernel/arch": "aarch64\n",
    **_zone(0, "cpu-thermal", 48850, ("critical", 110000), ("active", 50000), ("active", 75000)),
    **_policy(0, "ondemand", "cpufreq-dt", 1500000, 1500000, 2400000),
    "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "0\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
    "sys/class/video4linux/video0/name": "rp1-cfe-csi2_ch0\n",
    "sys/class/video4linux/video19/name": "rpi-hevc-dec\n",
    "dev/video0": "",
    "dev/video19": "",
    "dev/dri/card1": "",
    "dev/dri/renderD128": "",
    "etc/group": "root:x:0:\nvideo:x:44:pi\nplugdev:x:46:pi\nrender:x:104:pi\n",
    "run/systemd/system/.keep": "",
    "run/systemd/timesync/synchronized": "",
}
PC: dict[str, str] = {
    "proc/cpuinfo": "".join(PC_CORE.format(n=n) for n in range(16)),
    "proc/meminfo": MEMINFO,
    "proc/sys/kernel/osrelease": "6.1.0-40-amd64\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "sys/class/dmi/id/sys_vendor": "Intel(R) Client Systems\n",
    "sys/class/dmi/id/product_name": "NUC12WSKi5\n",
    **_zone(0, "acpitz", 27800, ("critical", 119000)),
    **_zone(1, "INT3400 Thermal", 20000),
    **_zone(2, "x86_pkg_temp", 61000, ("passive", 0), ("passive", 0)),
    **_policy(0, "powersave", "intel_pstate", 3400000, 400000, 4400000),
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "0\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "0\n",
    "dev/dri/renderD128": "",
    "sys/class/drm/renderD128/device/vendor": "0x8086\n",
    "etc/group": "root:x:0:\nvideo:x:44:\nrender:x:104:\n",
    "run/systemd/system/.keep": "",
    "run/systemd/timesync/synchronized": "",
}


def machine(root: Path, files: dict[str, str], **changes: str) -> Path:
    """Write a machine's files below ``root``; a change names the end of a path, ``/`` as ``__``."""
    wanted = dict(files)
    for end, content in changes.items():
        end = end.replace("__", "/")
        (path,) = [path for path in files if path.endswith(end)] or [end]
        wanted[path] = content
    for path, content in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        _put(root / path, content.encode())
    return root


class Looks:
    """Processes for a monitor, which asks for them at the beginning of every look."""

    def __init__(self, *pids: int) -> None:
        self._pids = list(pids)
        self._begun = threading.Semaphore(0)

    def __call__(self) -> list[int]:
        self._begun.release()
        return self._pids

    def wait(self) -> None:
        """Until everything was looked at as it is now: a look has begun, and the one after it."""
        while self._begun.acquire(blocking=False):
            pass
        for _ in range(2):
            assert self._begun.acquire(timeout=60)


def _put(path: Path, content: bytes) -> None:
    """Change a file in place, for it may be held open; as the kernel's, it is never seen empty."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, content.ljust(os.fstat(descriptor).st_size, b"\n"), 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)
