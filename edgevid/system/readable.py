"""Kernel files that even an untrusted process may read."""

MACHINE = (
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup"),
    *("/sys/kernel/mm/transparent_hugepage", "/sys/kernel/mm/hugepages"),
    *("/proc/cpuinfo", "/proc/devices", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo"),
    *("/proc/stat", "/proc/sys", "/proc/uptime", "/proc/version", "/proc/vmstat"),
)
"""Processors and memory: numerical libraries read them, and TensorFlow aborts without them."""
SELF = "/proc/self"
"""This process."""
PROCESSES = "/proc"
"""All processes."""
