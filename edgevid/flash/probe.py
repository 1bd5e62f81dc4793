"""What a device is, as its agent tells it, and the target that fits it.

The agent reads the facts on the device; here they become a `Facts`, and are held against what a
`Target` asks for. Nothing here talks to a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgevid import settings


@dataclass(frozen=True)
class Facts:
    """One device as it is; unknown texts are empty, unknown numbers 0.

    ``architecture`` is what ``uname -m`` says of its user space, ``python`` the version of the
    ``python3`` that will run the runner, ``modules`` the versions of modules that it can import
    already, by the name they are imported by. ``nodes`` are device nodes that matter to an
    accelerator or a camera, ``usb`` the plugged devices as ``vendor:product``, ``model`` the
    board's own name. ``groups`` are those of ``user``; ``all_groups`` all that the device knows.
    """

    architecture: str
    glibc: str = ""
    python: tuple[int, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    cpu_flags: tuple[str, ...] = ()
    cpu_count: int = 0
    model: str = ""
    system: str = ""
    memory_mb: int = 0
    disk_free_mb: int = 0
    systemd: Literal["system", "user", "none"] = "none"
    systemd_version: int = 0
    user: str = ""
    groups: tuple[str, ...] = ()
    all_groups: tuple[str, ...] = ()
    sudo: bool = False
    nodes: tuple[str, ...] = ()
    usb: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    ssh_keygen: bool = False
    clock_unix_s: float = 0.0
    root: str = ""

    @property
    def python_version(self) -> str:
        """``3.11`` for 3.11.2."""
        return ".".join(map(str, self.python[:2]))


def read_facts(answer: Mapping[str, Any]) -> Facts:
    """Read the agent's answer to ``probe``; what this version does not know is passed over.

    Raises `BadInput` where something has another form than it should.
    """
    known = {name: answer[name] for name in Facts.__dataclass_fields__ if name in answer}
    return settings.build_json(Facts, known, "the device's answer")
