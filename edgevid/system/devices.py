"""Accelerators in ``/dev`` and ``/sys``, found without any vendor's library."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from edgevid.system.kernel import text

ROOT = Path("/")
"""Root of the file system; tests replace it with another machine's."""

LIBRARIES = ("usr/local/lib", "usr/lib", "lib", "usr/lib64", "lib64")


def beneath(pattern: str) -> list[Path]:
    """Paths that match a pattern such as ``dev/accel/accel*``, sorted."""
    return sorted(ROOT.glob(pattern))


def no_access(devices: Iterable[Path], group: str) -> str | None:
    """Why this user can open none of the devices.

    Args:
        devices: Device nodes, at least one.
        group: The group that may open them.

    Returns:
        The reason with its fix; None if a device can be opened.
    """
    listed = list(devices)
    if any(os.access(device, os.R_OK | os.W_OK) for device in listed):
        return None
    name = f"/{listed[0].relative_to(ROOT)}"
    return f"no permission for {name}; run: sudo usermod -aG {group} $USER, then log in again"


def usb(ids: Iterable[str]) -> Iterator[Path]:
    """Device nodes of USB devices.

    Args:
        ids: ``vendor:product`` in lower-case hexadecimal.

    Yields:
        The node of each device that is plugged in.
    """
    wanted = set(ids)
    for device in beneath("sys/bus/usb/devices/*"):
        try:
            vendor, product, bus, number = (
                (device / name).read_text().strip()
                for name in ("idVendor", "idProduct", "busnum", "devnum")
            )
        except OSError:  # an interface and not a device
            continue
        if f"{vendor}:{product}" in wanted:
            yield ROOT / "dev/bus/usb" / f"{int(bus):03d}" / f"{int(number):03d}"


def shared_library(name: str) -> Path | None:
    """Find a shared library by file name where the loader searches; None if it is missing."""
    named = [Path(one) for one in os.environ.get("LD_LIBRARY_PATH", "").split(":") if one]
    folders = [ROOT / one for one in LIBRARIES]
    for folder in (*named, *folders, *(f for one in folders for f in one.glob("*-linux-gnu*"))):
        if (folder / name).exists():
            return folder / name
    return None


def in_package(package: str, pattern: str) -> bool | None:
    """Whether an installed package contains a file. The package is not imported.

    Args:
        package: The package.
        pattern: A pattern relative to its folder.

    Returns:
        None if the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return any(
        next(Path(folder).glob(pattern), None) is not None
        for folder in spec.submodule_search_locations
    )


def drm_vendor(node: Path) -> str | None:
    """The PCI vendor of a render node, such as ``0x8086``; None if unknown."""
    try:
        return (ROOT / "sys/class/drm" / node.name / "device/vendor").read_text().strip()
    except OSError:
        return None


def video_device_name(root: Path, node: Path) -> str | None:
    """The name that a video device reports; None if it reports none.

    Args:
        root: Root of the machine's file system.
        node: The device node, such as ``/dev/video0``.

    Returns:
        The name.
    """
    return text(root / "sys/class/video4linux" / node.name / "name")
