"""What somebody sends to a device who may or may not have its key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgevid.flash.agent import locked, statement
from rigs.agent import Device, Key, Release, Session

HEALTH = {"seconds": 0.3, "start_s": 30.0}


def model(serial: int, **more: Any) -> Release:
    """A release with a model of its own."""
    return Release(serial, bundles={"door.edgevid": f"model {serial}".encode()}, **more)


def signed_request(
    key: Key,
    device_id: str,
    nonce: str,
    do: str,
    purpose: str = statement.REQUEST,
    /,
    **fields: Any,
) -> dict[str, Any]:
    """The fields of the request ``signed``."""
    text = json.dumps({"do": do, **fields})
    about = {"device": device_id, "nonce": nonce}
    return {"request": text, "key": key.public, **key.signed(text.encode(), purpose, **about)}


class LockedSession(Session):
    """The only conversation that a forced command allows, with whoever can log in."""

    def __init__(self, device: Device, config: Path, user: str = "nobody") -> None:
        self.root, self.heard = device.root, []
        command = [sys.executable, "-I", device.root / "current/agent.py", "session", "--locked"]
        command += ["--root", device.root, "--sshd-config", config]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "SUDO_USER": user},
        )
        assert self.process.stdout.readline() == b"\n"
        mark, _, text = self.process.stdout.readline().decode().partition(" ")
        assert mark == locked.MARK
        self.greeting = json.loads(text)
        self._count = 0

    def close(self) -> None:
        """End it; ``rest`` is the first line that it said without being asked, if any."""
        self.process.stdin.close()
        self.rest = json.loads(self.process.stdout.readline() or b"{}")
        super().close()

    def nonce(self) -> str:
        self._count += 1
        return f"{self.greeting['nonce']}-{self._count - 1}"

    def ask_signed(self, key: Key, do: str, /, **fields: Any) -> dict[str, Any]:
        request = signed_request(key, self.greeting["device"], self.nonce(), do, **fields)
        return self.ask("signed", **request)
