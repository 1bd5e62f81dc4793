"""What stays the same of a machine while something is measured on it."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from edgevid import __version__
from edgevid.runtimes import catalog
from edgevid.system import kernel
from edgevid.system.cgroups import lowest_limit
from edgevid.system.power import sources

HOSTS = {
    "QEMU": "QEMU",
    "KVM": "KVM",
    "VMware": "VMware",
    "VirtualBox": "VirtualBox",
    "Xen": "Xen",
    "Microsoft Corporation Virtual": "Hyper-V",
    "Amazon EC2": "Amazon EC2",
    "Google Compute Engine": "Google Compute Engine",
}
"""How the board of a virtual machine calls itself, and whose it is."""


def machine(root: Path = Path("/")) -> dict[str, Any]:
    """Board, processor, clock rates, memory, system, versions, limits and sensors.

    Sizes are in MB, rates in MHz, temperatures in °C; None is what is not told.
    """
    memory = kernel.memory_mb(root)
    return {
        "board": kernel.board(root) or None,
        "architecture": kernel.architecture(root),
        "bits": 64 if sys.maxsize > 1 << 32 else 32,
        "kernel": kernel.release(root),
        "virtual_machine": virtual_machine(root),
        "container": container(root),
        "cpu": _cpu(root),
        "clock": [_policy(policy) for policy in kernel.policies(root)],
        "memory_mb": memory.get("MemTotal"),
        "swap_mb": memory.get("SwapTotal"),
        "cgroup_cpu_limit": lowest_limit(root),
        "heat": [
            {"zone": zone.name, "slows_at_c": zone.slows_at_c, "told": zone.reported}
            for zone in kernel.zones(root)
        ],
        "power": [source.document() for source in sources(root)],
        "versions": versions(),
    }


def _cpu(root: Path) -> dict[str, Any] | None:
    cpu = kernel.processor(root)
    if cpu is None:
        return None
    return {
        "model": cpu.model,
        "cores": cpu.cores,
        "usable_cores": len(os.sched_getaffinity(0)),
        "features": list(cpu.features),
        "flags": sorted(cpu.flags),
    }


def _policy(policy: kernel.FrequencyPolicy) -> dict[str, Any]:
    return {
        "cores": kernel.text(policy.path / "related_cpus"),
        "governor": policy.governor,
        "driver": policy.driver or None,
        "least_mhz": policy.least_mhz,
        "limit_mhz": policy.limit_mhz,
        "most_mhz": policy.most_mhz,
    }


def virtual_machine(root: Path) -> str | None:
    """Whose virtual machine this is, ``unknown`` where that is not told; None on real hardware."""
    board = kernel.board(root)
    for begins, name in HOSTS.items():
        if begins in board:
            return name
    told = kernel.text(root / "sys/hypervisor/type")
    told = told or kernel.text(root / "proc/device-tree/hypervisor/compatible")
    if told:
        return told.replace("\0", " ")
    cpu = kernel.processor(root)
    return "unknown" if cpu is not None and "hypervisor" in cpu.flags else None


def container(root: Path) -> str | None:
    """In what kind of container this process runs; None outside."""
    told = kernel.text(root / "run/systemd/container")
    if told:
        return told
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    found = re.search(
        r"/(docker|lxc|kubepods|libpod|containerd)\b", kernel.text(root / "proc/1/cgroup") or ""
    )
    return found[1] if found else None


def versions() -> dict[str, str | None]:
    """Of Python, edgevid and what it measures with; None where something is not installed."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "edgevid": __version__,
    }
    libraries = [library for one in catalog.everything() for library in one.libraries]
    for package in ("numpy", "av", *(library.project for library in libraries)):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found
