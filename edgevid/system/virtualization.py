"""Whether this is a virtual machine or a container."""

from __future__ import annotations

import re
from pathlib import Path

from edgevid.system import kernel

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
"""Prefixes of the board name of virtual machines, and the hypervisor's name."""


def virtual_machine(root: Path) -> str | None:
    """The hypervisor, ``unknown`` if it has no name; None on real hardware."""
    board = kernel.board(root)
    for begins, name in HOSTS.items():
        if begins in board:
            return name
    found = kernel.text(root / "sys/hypervisor/type")
    found = found or kernel.text(root / "proc/device-tree/hypervisor/compatible")
    if found:
        return found.replace("\0", " ")
    cpu = kernel.processor(root)
    return "unknown" if cpu is not None and "hypervisor" in cpu.flags else None


def container(root: Path) -> str | None:
    """The kind of container that this process runs in; None outside one."""
    found = kernel.text(root / "run/systemd/container")
    if found:
        return found
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".dockerenv").exists():
        return "docker"
    match = re.search(
        r"/(docker|lxc|kubepods|libpod|containerd)\b", kernel.text(root / "proc/1/cgroup") or ""
    )
    return match[1] if match else None
