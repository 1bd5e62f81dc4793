"""What of the kernel's own files a program may see that is trusted with nothing else."""

MACHINE = (
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup"),
    *("/sys/kernel/mm/transparent_hugepage", "/sys/kernel/mm/hugepages"),
    *("/proc/cpuinfo", "/proc/devices", "/proc/filesystems", "/proc/loadavg", "/proc/meminfo"),
    *("/proc/stat", "/proc/sys", "/proc/uptime", "/proc/version", "/proc/vmstat"),
)
"""Processors and memory: numerical libraries ask for them, and TensorFlow aborts without."""
SELF = "/proc/self"
"""This process."""
PROCESSES = "/proc"
"""All processes."""
