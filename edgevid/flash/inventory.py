"""The user's devices, in a TOML file: ``$XDG_CONFIG_HOME/edgevid/devices.toml``.

    [[device]]
    name = "gate-1"
    host = "10.0.0.21"                # an address, a name, or a Host of your ~/.ssh/config
    target = "raspberry-pi-5"
    tags = ["gates", "north"]

OpenSSH's configuration provides what is left out (user, port, key, jump hosts). The file has no
passwords.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgevid import settings
from edgevid.errors import BadInput
from edgevid.files import user_folder
from edgevid.registry import unknown
from edgevid.remote.ssh import Address
from edgevid.settings import Document, option, shown
from edgevid.text import expand

FILE = Path("edgevid") / "devices.toml"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A name must not look like an option of ssh or like syntax of the device's shell.
_HOST = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}|[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%[\w.-]+)?"
)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}")


def _text(pattern: re.Pattern[str], wanted: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError(wanted)
        return value

    return read


_name = _text(_NAME, "letters, digits, dots, dashes and underscores, a letter or digit first")
_host = _text(_HOST, "a name or an address, without user and port")
_user = _text(_USER, "a user's name")


def _port(value: Any) -> int:
    if type(value) is not int or not 0 < value < 1 << 16:
        raise ValueError("a port from 1 to 65535")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("a list of names")
    return tuple(_name(one) for one in value)


def _key(value: Any) -> Path:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError("the name of a file")
    path = expand(value)
    if path.startswith("~"):
        raise ValueError("a file's name without ~, since there is no such home folder")
    return Path(path)


def _absolute(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        raise ValueError("a folder from the root on, as in /opt/edgevid")
    return value


@dataclass(frozen=True)
class DeviceEntry:
    """One device; None leaves a value to OpenSSH or to the device.

    Attributes:
        name: Its name here.
        host: An address, a host name, or a ``Host`` of ``~/.ssh/config``.
        port: The port of its SSH server.
        user: The user to log in as.
        target: The kind of device, the name of a target.
        tags: Names for groups of devices.
        key: The private key to log in with.
        root: edgevid's folder on the device.
    """

    name: str = option(read=_name)
    host: str = option(read=_host)
    port: int | None = option(None, read=_port)
    user: str | None = option(None, read=_user)
    target: str | None = option(None, read=_name)
    tags: tuple[str, ...] = option((), read=_names)
    key: Path | None = field(default=None, metadata={"read": _key})
    root: str | None = option(None, read=_absolute)

    @property
    def address(self) -> Address:
        """Its address for OpenSSH."""
        return Address(self.host, self.user, self.port, self.key)


@dataclass(frozen=True)
class _File:
    device: tuple[DeviceEntry, ...] = ()


def inventory_file() -> Path:
    """The path of the inventory, which may not exist."""
    return user_folder("XDG_CONFIG_HOME", ".config") / FILE


def read_inventory(path: Path | None = None) -> tuple[DeviceEntry, ...]:
    """Read an inventory.

    Args:
        path: The file; None: the user's own, which is empty if it does not exist.

    Raises:
        BadInput: The file is not valid; the message has the line, the key and the remedy.
    """
    if path is None and not inventory_file().exists():
        return ()
    document = settings.read(path or inventory_file())
    tables = settings.build(_File, document).device
    _check(document, tables)
    folder = document.file.parent
    return tuple(t if t.key is None else replace(t, key=folder / t.key) for t in tables)


def _check(document: Document, tables: Sequence[DeviceEntry]) -> None:
    first: dict[str, int] = {}
    for index, entry in enumerate(tables):
        if entry.name in first:
            line = document.line(("device", first[entry.name]))
            raise document.fault(
                ("device", index, "name"),
                f"device {shown(entry.name)} is already defined on line {line}; "
                "give each device its own name",
            )
        first[entry.name] = index
    for index, entry in enumerate(tables):
        for tag in entry.tags:
            if tag in first:
                raise document.fault(
                    ("device", index, "tags"),
                    f"device {shown(entry.name)}: the tag {shown(tag)} is also the name of a "
                    "device; rename one of them",
                )


def resolve(word: str, inventory: Sequence[DeviceEntry]) -> list[DeviceEntry]:
    """Find the devices for a name, a tag, or ``user@host:port``.

    A plain word that is neither a name nor a tag is refused, since it is more likely a typo than
    a host.

    Raises:
        BadInput: There is no such device or tag.
    """
    found = [entry for entry in inventory if entry.name == word]
    found = found or [entry for entry in inventory if word in entry.tags]
    if found:
        return found
    if any(sign in word for sign in "@:.["):
        return [_by_address(word)]
    known = {entry.name for entry in inventory} | {tag for e in inventory for tag in e.tags}
    what = unknown("device or tag", word, sorted(known)) if known else f"no device {shown(word)}"
    raise BadInput(f"{what}; write user@host:port, or add it to {inventory_file()}")


def resolve_all(texts: Iterable[str], inventory: Sequence[DeviceEntry]) -> list[DeviceEntry]:
    """Find the devices for several names, tags or addresses, each once, in their order.

    Raises:
        BadInput: One of them is unknown.
    """
    return list(
        {entry.name: entry for text in texts for entry in resolve(text, inventory)}.values()
    )


def some(inventory: Sequence[DeviceEntry]) -> list[DeviceEntry]:
    """Return all devices of an inventory.

    Raises:
        BadInput: It is empty.
    """
    if not inventory:
        raise BadInput(
            f"the inventory is empty; add devices to {inventory_file()}, or give --target"
        )
    return list(inventory)


def _by_address(word: str) -> DeviceEntry:
    address = Address.parse(word)
    try:
        return DeviceEntry(
            name=word,
            host=_host(address.host),
            user=None if address.user is None else _user(address.user),
            port=address.port,
        )
    except ValueError as error:
        raise BadInput(f"{shown(word)} is not an address: {error}; write user@host:port") from None
