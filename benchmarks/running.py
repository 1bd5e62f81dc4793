"""A service under measurement, started from a configuration and observed from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from edgevid.errors import BadInput
from edgevid.runner.meters import percentiles_ms
from edgevid.runner.status import ask

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for the rigs
# What executes on which accelerator. The stand-in's artifact is the float one: on the CPU, in the
# service's own process, it takes no other.
ENGINES = {
    "cpu": 'artifact = "tflite-int8"\nruntime = "tflite"\naccelerator = "cpu"',
    "slow cpu": 'artifact = "tflite-float32"\nruntime = "null"\naccelerator = "cpu"',
    "slow worker": 'artifact = "tflite-float32"\nruntime = "null"\naccelerator = "null"',
}
START_S = 180.0
TICKS = os.sysconf("SC_CLK_TCK")


class Running:
    """`edgevid run --config` with its results on a pipe; ``lines`` has each with its arrival."""

    def __init__(self, folder: Path, tables: str, **environment: str) -> None:
        self._folder = folder / "status"
        config = folder / "site.toml"
        config.write_text(f"status = '{self._folder}'\n{tables}")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgevid", "run", "--config", config],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.lines: list[tuple[float, dict[str, Any]]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.time(), json.loads(line)))

    def wait(self, engine: str) -> None:
        """Wait until every camera has a result and the engine, one of `ENGINES`, is running."""
        accelerator = "null" if engine == "slow worker" else "cpu"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if _serves(self.status(), accelerator):
                    return
            except BadInput:  # not yet
                pass
            time.sleep(0.2)
        raise SystemExit("the service does not answer every camera, or not with what was asked for")

    def status(self) -> dict[str, Any]:
        """Its status document."""
        return ask(self._folder)

    def accounts(self) -> dict[str, dict[str, int]]:
        """The frame counters of each camera."""
        return {camera["name"]: frames(camera) for camera in self.status()["cameras"]}

    def cpu_s(self) -> float:
        """CPU seconds of all its living processes."""
        return sum(cpu_s(pid) for pid in tree(self._process.pid))

    def memory_mb(self) -> dict[str, float]:
        """Memory of all its processes in megabytes: ``pss`` and ``rss``."""
        totals = {"Pss": 0, "Rss": 0}
        pids = tree(self._process.pid)
        for pid in pids:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name = line.partition(":")[0]
                if name in totals:
                    totals[name] += int(line.split()[1])
        return {
            "processes": len(pids),
            "pss": round(totals["Pss"] / 1024, 1),
            "rss": round(totals["Rss"] / 1024, 1),
        }

    def stop(self) -> None:
        """Stop it with SIGTERM."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _serves(status: dict[str, Any], accelerator: str) -> bool:
    serving = {bundle["engine"]["serving"]["accelerator"] for bundle in status["bundles"]}
    counts = [frames(camera)["answered"] for camera in status["cameras"]]
    return serving == {accelerator} and bool(counts) and all(counts)


def frames(camera: dict[str, Any]) -> dict[str, int]:
    """The frame counters of a camera with one bundle, from the status document."""
    account: dict[str, int] = camera["sources"][0]["lanes"][0]["frames"]
    return account


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for parent in found:
        for file in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(word) for word in file.read_text().split()]
    return found


def named(word: str) -> int:
    """A descendant process whose command line contains ``word``."""
    for pid in tree(os.getpid())[1:]:
        if word in Path(f"/proc/{pid}/cmdline").read_text():
            return pid
    raise SystemExit(f"no process {word}")


def busy_s() -> float:
    """CPU seconds that the whole machine has used."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq = map(int, first[:7])
    return (user + nice + system + irq + softirq) / TICKS


def cpu_s(pid: int) -> float:
    """CPU seconds of one process."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / TICKS


def ages(lines: list[tuple[float, dict[str, Any]]]) -> dict[str, float]:
    """Milliseconds from a frame's arrival to its result's arrival here."""
    found = percentiles_ms([at - line["captured_unix_s"] for at, line in lines], (50, 99, 100))
    return {name: round(value, 1) for name, value in found.items()}


def machine() -> dict[str, Any]:
    """The machine, and its load before the measurement."""
    return {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[0], 2)}
