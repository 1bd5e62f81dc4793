"""``edgevid run --config`` as a process of its own, and what it tells."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgevid.runner.status import ask


class Running:
    """``edgevid run --config``, with its folder."""

    def __init__(self, folder: Path, text: str, **env: str):
        self.folder, self.config = folder, folder / "site.toml"
        self.write(text)
        self.status_folder, self.answers = folder / "status", folder / "answers.jsonl"
        self.begin(**env)

    def again(self, **env: str):
        """Start it once more, after it has ended or was killed."""
        self.begin(**env)
        return self

    def begin(self, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgevid", "run", "--config", self.config, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )

    def write(self, text: str) -> None:
        self.config.write_text(f'output = "answers.jsonl"\nstatus = "status"\n{text}')

    def status(self) -> dict:
        return ask(self.status_folder)

    def until(self, is_so, timeout_s=20.0) -> dict:
        """Wait until the status satisfies ``is_so``, and give it."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                status = self.status()
                if is_so(status):
                    return status
            except Exception as error:  # noqa: BLE001 - not there yet
                status = error
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, status
            time.sleep(0.05)

    def lines(self) -> list[dict]:
        text = self.answers.read_text() if self.answers.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def end(self, number=signal.SIGTERM) -> tuple[int, dict, str]:
        self.process.send_signal(number)
        out, said = self.process.communicate(timeout=30)
        return self.process.returncode, json.loads(out) if out else {}, said


def bundle(path, name="", **more):
    lines = [f'path = "{path}"', *([f'name = "{name}"'] if name else [])]
    return "\n".join(["[[bundle]]", *lines, *(f"{k} = {json.dumps(v)}" for k, v in more.items())])


def camera(name, source="synthetic:96x64@16", **more):
    lines = [f'name = "{name}"', f'source = "{source}"']
    return "\n".join(["[[camera]]", *lines, *(f"{k} = {json.dumps(v)}" for k, v in more.items())])


def answered(status, name):
    (found,) = [one for one in status["cameras"] if one["name"] == name]
    return sum(lane["frames"]["answered"] for lane in found["sources"][0]["lanes"])


def holds(frames):
    return frames["captured"] == sum(v for k, v in frames.items() if k != "captured")
