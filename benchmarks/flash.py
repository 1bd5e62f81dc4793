"""A first deployment to a device against plain `scp` of the same number of bytes, over a slow link.

    python benchmarks/flash.py                 # as root; 8 Mbit/s, one pair takes 2 minutes

The device is a Debian system behind a link limited by `tc tbf`, empty before each deployment. Two
times are measured: on the device from the first byte on its disk to the last (`moving_s`), and on
the host from the start of the command to its end (`whole_s`), which for flash includes probing the
device, unpacking, compiling and syncing to disk. scp copies one file of random bytes of the size
that flash sends. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from rigs.bundles import write_null
from rigs.devices import Device, Person, device

POLL_S = 0.02


def timed(command: Callable[[], subprocess.Popen], come: Callable[[], int], total: int) -> dict:
    """Seconds until the last of ``total`` bytes: since the first one, and of the whole command."""
    started = time.perf_counter()
    process = command()
    while not come():
        assert process.poll() is None, process.communicate()
        time.sleep(POLL_S)
    began = time.perf_counter()
    while come() < total:
        time.sleep(POLL_S)
    moving_s = time.perf_counter() - began
    said = process.communicate()
    assert process.returncode == 0, said
    return {"moving_s": round(moving_s, 2), "whole_s": round(time.perf_counter() - started, 2)}


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def flash(person: Person, made: Device, bundle: Path, total: int) -> dict:
    """Stage a first release; activation does not depend on the link."""
    words = ("flash", bundle, "--source", "synthetic:64x64@15", "--target", made.name, "--stage")
    blobs = made.root / "opt/edgevid/blobs"
    taken = timed(lambda: person.start(*words), lambda: sum(map(size, blobs.glob("*"))), total)
    done = person.edgevid("flash", "--uninstall", "--target", made.name)
    assert done.returncode == 0, done.stderr
    return taken


def scp(person: Person, made: Device, file: Path) -> dict:
    """Copy a file there."""
    command = ["scp", "-q", str(file), f"{made.name}:/tmp/copied"]
    copied = made.root / "tmp/copied"

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, env=person.environment, stderr=subprocess.PIPE)

    taken = timed(start, lambda: size(copied), file.stat().st_size)
    copied.unlink()
    return taken


def dry(person: Person, made: Device, bundle: Path) -> int:
    """The number of bytes that a first deployment sends."""
    words = ("flash", bundle, "--source", "synthetic:64x64@15", "--target", made.name)
    done = person.edgevid(*words, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["send_bytes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mbit", type=float, default=8.0)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    pairs = []
    folder = Path(tempfile.mkdtemp())
    person = Person(folder / "person")
    try:
        with device(person, "slow") as made:
            person.inventory(made)
            bundle = write_null(folder / "motion.edgevid")
            total = dry(person, made, bundle)
            file = folder / "bytes"
            file.write_bytes(os.urandom(total))
            made.link.limit(options.mbit)
            for number in range(options.pairs):
                ways = [lambda: flash(person, made, bundle, total), lambda: scp(person, made, file)]
                order = (0, 1) if number % 2 == 0 else (1, 0)
                took = {which: ways[which]() for which in order}
                pairs.append({"flash": took[0], "scp": took[1]})
                print(pairs[-1], file=sys.stderr)
    finally:
        shutil.rmtree(folder)
    result = {"link_mbit": options.mbit, "bytes": total, "pairs": pairs}
    for what in ("moving_s", "whole_s"):
        ratios = [pair["scp"][what] / pair["flash"][what] for pair in pairs]
        name = f"flash_over_scp_{what.removesuffix('_s')}"
        result[name] = {
            "median": round(statistics.median(ratios), 4),
            "min": round(min(ratios), 4),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
