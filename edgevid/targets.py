"""Kinds of device, each described by one TOML file.

Shipped ones lie in the folder ``targets/`` of the project; people add their own in
``$XDG_CONFIG_HOME/edgevid/targets/`` (``~/.config/...``). The file's name is the target's name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.files import user_folder
from edgevid.registry import unknown


@dataclass(frozen=True)
class Limits:
    """What the device can spare for edgevid, in mebibytes."""

    memory_mb: int
    disk_mb: int


@dataclass(frozen=True)
class EngineChoice:
    """One way to execute artifacts; ``quantize`` in order of preference.

    What a look at the device must find for it: one of ``nodes`` (patterns such as
    ``/dev/accel/accel*``) or of ``usb`` (``vendor:product``), and each of ``libraries``, which
    ``packages`` of its distribution bring. ``groups`` may open the nodes. ``requires`` are wheels;
    None: those of the runtime. ``operators`` is the release of the runtime (TensorFlow's for
    TFLite) up to which it knows operators, None where it knows all that a converter makes.
    ``proven``: the golden trajectory passed on such a device.
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
class Provided:
    """A module that the device has from its own distribution instead of from a wheel.

    Versions from ``least`` on, and below ``below``, serve; ``project`` is its name among wheels.
    """

    module: str
    package: str
    project: str
    least: str = "0"
    below: str | None = None


@dataclass(frozen=True)
class Service:
    """As whom the runner serves: a user without rights, in ``groups``, with ``devices`` only.

    ``devices`` are nodes as systemd's ``DeviceAllow`` names them, ``groups`` those that may open
    them; what a device does not know is left out there.
    """

    user: str = "edgevid"
    groups: tuple[str, ...] = ("video", "render")
    devices: tuple[str, ...] = ("char-video4linux", "char-media", "char-drm")


@dataclass(frozen=True)
class Target:
    """One kind of device; ``engine`` lists the ways to execute, the preferred one first.

    ``architecture`` is what ``uname -m`` says, or ``any``; ``glibc`` the oldest version; ``wheels``
    the platform tags that fit: a ``manylinux_2_N`` stands for every older one too, and no tag at
    all for whatever the device's glibc allows. ``requires`` are wheels whatever the engine,
    ``distribution`` what does not come as a wheel. ``models`` are patterns of how such a board, or
    its processor, calls itself; ``cpu_flags`` what the wheels' native code takes for granted.
    ``proven``: edgevid served on such a device, or on its like under emulation.
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
    distribution: tuple[Provided, ...] = ()
    models: tuple[str, ...] = ()
    cpu_flags: tuple[str, ...] = ()
    udev: tuple[str, ...] = ()
    service: Service = Service()
    proven: bool = False
    note: str = ""


def folders() -> list[Path]:
    """Where target files are looked for: the user's own folder first, then the shipped one."""
    config = user_folder("XDG_CONFIG_HOME", ".config")
    packaged = Path(str(resources.files("edgevid"))) / "_targets"
    beside = Path(__file__).resolve().parent.parent / "targets"  # an editable install
    return [config / "edgevid" / "targets", packaged if packaged.is_dir() else beside]


def names() -> tuple[str, ...]:
    """Every target's name, sorted."""
    return tuple(sorted({file.stem for folder in folders() for file in folder.glob("*.toml")}))


def find(name: str) -> Path:
    """The file of the target ``name``; raises `BadInput` with the nearest name."""
    for folder in folders():
        if (file := folder / f"{name}.toml").is_file():
            return file
    raise BadInput(unknown("target", name, names()))


def load(name: str) -> Target:
    """Read the target ``name``; raises `BadInput` that names the file and the key."""
    return read(find(name))


def read(file: Path) -> Target:
    """Read one target file; raises `BadInput` that names the file, the line and the key."""
    document = settings.read(file)
    if document.data.get("name", file.stem) != file.stem:
        raise document.fault(
            ("name",), f"name must be the file's name {file.stem!r}; leave it out, or rename"
        )
    named = replace(document, data={"name": file.stem, **document.data})
    return settings.build(Target, named)
