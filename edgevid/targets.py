"""Targets: kinds of device, each described by one TOML file.

The files that ship are in the folder ``targets/`` of the project; your own are in
``$XDG_CONFIG_HOME/edgevid/targets/`` (``~/.config/...``). The file's name is the target's name. A
target is data only: what its runtimes need is in their declarations, see `edgevid.runtimes.spec`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.files import user_folder
from edgevid.registry import unknown


@dataclass(frozen=True)
class Limits:
    """What the device can spare for edgevid.

    Attributes:
        memory_mb: Memory in mebibytes.
        disk_mb: Disk space in mebibytes.
    """

    memory_mb: int
    disk_mb: int


@dataclass(frozen=True)
class EngineChoice:
    """One way to execute artifacts on a target.

    Attributes:
        runtime: The runtime's name.
        accelerator: The accelerator's name; ``cpu`` for none.
        quantize: Quantisations that it executes, the preferred one first.
        requires: Wheels to install, as pip takes them; None for those that the runtime declares.
        operators: The release of the runtime (of TensorFlow for TFLite) up to which it knows
            operators; None if it knows all that a converter produces.
        nodes: Patterns of device nodes such as ``/dev/accel/accel*``; one of them, or of ``usb``,
            must be there.
        usb: USB devices as ``vendor:product``; one of them, or of ``nodes``, must be there.
        libraries: Shared libraries that must all be there.
        packages: Packages of the device's distribution that install ``libraries``.
        groups: Groups that may open ``nodes``.
        proven: Whether the golden trajectory has passed on such a device.
    """

    runtime: str
    accelerator: str
    quantize: tuple[str, ...]
    requires: tuple[str, ...] | None = None
    operators: str | None = None
    nodes: tuple[str, ...] = ()
    usb: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    proven: bool = False


@dataclass(frozen=True)
class DistributionPackage:
    """A module that comes from the device's own distribution instead of a wheel.

    Attributes:
        module: The module's name.
        package: The distribution's package.
        project: The name of its project on a package index.
        least: The oldest version that works.
        below: The oldest version that is too new; None for no limit.
    """

    module: str
    package: str
    project: str
    least: str = "0"
    below: str | None = None


@dataclass(frozen=True)
class ServiceAccount:
    """The account and the devices of the service on the device.

    Attributes:
        user: The user, without any rights.
        groups: Groups that may open ``devices``; those that a device does not have are left out.
        devices: Device nodes as systemd's ``DeviceAllow`` takes them; the service sees no others.
    """

    user: str = "edgevid"
    groups: tuple[str, ...] = ("video", "render")
    devices: tuple[str, ...] = ("char-video4linux", "char-media", "char-drm")


@dataclass(frozen=True)
class Target:
    """One kind of device.

    Attributes:
        name: The target's name; that of its file.
        title: A name for people.
        architecture: The output of ``uname -m``, or ``any``.
        python: Versions of Python that it may have, such as ``3.11``.
        engine: The ways to execute, the preferred one first.
        limits: What it can spare.
        glibc: Its oldest version of glibc.
        wheels: Platform tags that fit. A ``manylinux_2_N`` stands for all older ones, too; without
            any tag, the device's glibc decides.
        requires: Wheels for every engine, as pip takes them.
        distribution: What comes from the device's distribution instead of a wheel.
        models: Patterns of the name that such a board or its processor reports.
        cpu_flags: Processor features that the wheels' native code needs.
        udev: Rules that give its devices to ``service.groups``.
        service: The account of the service.
        proven: Whether edgevid has served on such a device, or on one under emulation.
        note: What else to know.
    """

    name: str
    title: str
    architecture: str
    python: tuple[str, ...]
    engine: tuple[EngineChoice, ...]
    limits: Limits
    glibc: str | None = None
    wheels: tuple[str, ...] = ()
    requires: tuple[str, ...] = ("av>=10", "click>=8.1", "numpy>=1.24")
    distribution: tuple[DistributionPackage, ...] = ()
    models: tuple[str, ...] = ()
    cpu_flags: tuple[str, ...] = ()
    udev: tuple[str, ...] = ()
    service: ServiceAccount = ServiceAccount()
    proven: bool = False
    note: str = ""


def folders() -> list[Path]:
    """The folders of target files: the user's own first, then the one that ships."""
    config = user_folder("XDG_CONFIG_HOME", ".config")
    packaged = Path(__file__).parent / "_targets"
    beside = Path(__file__).resolve().parent.parent / "targets"  # an editable install
    return [config / "edgevid" / "targets", packaged if packaged.is_dir() else beside]


def names() -> tuple[str, ...]:
    """The names of all targets, sorted."""
    return tuple(sorted({file.stem for folder in folders() for file in folder.glob("*.toml")}))


def find(name: str) -> Path:
    """Find the file of a target.

    Raises:
        BadInput: There is no such target; the message has the nearest name.
    """
    for folder in folders():
        if (file := folder / f"{name}.toml").is_file():
            return file
    raise BadInput(unknown("target", name, names()))


def load(name: str) -> Target:
    """Read a target by its name.

    Raises:
        BadInput: There is no such target, or its file is wrong; the message has file and line.
    """
    return read(find(name))


def read(file: Path) -> Target:
    """Read a target file.

    Raises:
        BadInput: The file is wrong; the message has the line and the key.
    """
    document = settings.read(file)
    if document.data.get("name", file.stem) != file.stem:
        raise document.fault(
            ("name",), f"name must be the file's name {file.stem!r}; leave it out, or rename"
        )
    named = replace(document, data={"name": file.stem, **document.data})
    return settings.build(Target, named)
