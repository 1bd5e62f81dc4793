"""A description of the machine: what stays the same while something is measured on it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from edgevid import __version__, registry
from edgevid.documents import named
from edgevid.runtimes import catalog
from edgevid.system import kernel
from edgevid.system.cgroups import lowest_limit
from edgevid.system.power import sources
from edgevid.system.virtualization import container, virtual_machine


@dataclass(frozen=True)
class CpuInfo:
    """The processor."""

    model: str | None
    cores: int | None
    usable_cores: int | None = None
    """Cores that this process may use."""
    features: tuple[str, ...] = ()
    """Vector extensions that matter for inference."""
    flags: tuple[str, ...] = ()
    """All flags that the kernel reports."""


@dataclass(frozen=True)
class ClockPolicy:
    """How the clock rate of some cores is controlled."""

    cores: str | None
    governor: str | None
    driver: str | None = None
    least_mhz: int | None = None
    limit_mhz: int | None = None
    """The highest clock rate that is allowed now."""
    most_mhz: int | None = None


@dataclass(frozen=True)
class ThermalLimit:
    """A thermal zone and the temperature at which it slows the machine down."""

    zone: str
    slows_at_c: float
    reported: bool = named("told")
    """Whether the kernel reports the temperature; else it is usual for such machines."""


@dataclass(frozen=True)
class PowerSensor:
    """One way to measure or estimate power."""

    name: str
    kind: str
    """``measured`` by a sensor, or ``informative``: a model's estimate."""
    covers: str = ""
    """``board``, ``supply``, ``processor`` or a chip's name."""
    unreadable: str | None = None
    """Why it cannot be read."""


@dataclass(frozen=True)
class MachineInfo:
    """Board, processor, clock rates, memory, system, versions, limits and sensors.

    Sizes are in MB, rates in MHz, temperatures in degrees Celsius. None: not reported.
    """

    board: str | None
    cpu: CpuInfo | None
    architecture: str | None = None
    bits: int | None = None
    kernel: str | None = None
    virtual_machine: str | None = None
    """The hypervisor; None on real hardware."""
    container: str | None = None
    """The kind of container; None outside one."""
    clock: tuple[ClockPolicy, ...] = ()
    memory_mb: int | None = None
    swap_mb: int | None = None
    cgroup_cpu_limit: float | None = None
    """The CPU quota in cores; None without one."""
    heat: tuple[ThermalLimit, ...] = ()
    power: tuple[PowerSensor, ...] = ()
    versions: Mapping[str, str | None] = field(default_factory=dict)
    """Python, edgevid and the libraries that were measured; None: not installed."""


def machine(root: Path = Path("/")) -> MachineInfo:
    """Describe this machine.

    Args:
        root: Where the file system begins; a test puts another machine's files there.
    """
    memory = kernel.memory_mb(root)
    return MachineInfo(
        board=kernel.board(root) or None,
        architecture=kernel.architecture(root),
        bits=64 if sys.maxsize > 1 << 32 else 32,
        kernel=kernel.release(root),
        virtual_machine=virtual_machine(root),
        container=container(root),
        cpu=_cpu(root),
        clock=tuple(_policy(policy) for policy in kernel.policies(root)),
        memory_mb=memory.get("MemTotal"),
        swap_mb=memory.get("SwapTotal"),
        cgroup_cpu_limit=lowest_limit(root),
        heat=tuple(
            ThermalLimit(zone.name, zone.slows_at_c, zone.reported) for zone in kernel.zones(root)
        ),
        power=tuple(PowerSensor(one.name, one.kind, one.covers, one.why) for one in sources(root)),
        versions=versions(),
    )


def _cpu(root: Path) -> CpuInfo | None:
    cpu = kernel.processor(root)
    if cpu is None:
        return None
    usable = len(os.sched_getaffinity(0))
    return CpuInfo(cpu.model, cpu.cores, usable, tuple(cpu.features), tuple(sorted(cpu.flags)))


def _policy(policy: kernel.FrequencyPolicy) -> ClockPolicy:
    return ClockPolicy(
        cores=kernel.text(policy.path / "related_cpus"),
        governor=policy.governor,
        driver=policy.driver or None,
        least_mhz=policy.least_mhz,
        limit_mhz=policy.limit_mhz,
        most_mhz=policy.most_mhz,
    )


def versions() -> dict[str, str | None]:
    """Versions of Python, edgevid, the libraries and packages with plug-ins.

    Returns:
        Name -> version; None for a library that is not installed.
    """
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "edgevid": __version__,
    }
    libraries = [library for one in catalog.built_in() for library in one.libraries]
    names = ("numpy", "av", *(library.project for library in libraries), *registry.packages())
    for package in names:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found
