"""A first flash beside plain scp, over a link that is limited on the way to the device.

    python benchmarks/flash_link.py [--mbit 8] [--megabytes 6] [--pairs 5]

Both move the same bytes to the same OpenSSH server, in turn, in a network namespace behind ``tc
tbf``. Two ratios to scp: of the transfer alone, and of the whole flash, which also looks at the
device, signs, checks, unpacks, hashes and makes everything durable there. Needs root.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from edgevid.flash import keys
from edgevid.flash.client import Device, flash
from edgevid.flash.package import Package
from rigs.devices import link
from rigs.packages import package, wheel
from rigs.sshd import Sshd, make_key, sshd


def time_scp(server: Sshd, blobs: list[Path | bytes], folder: Path) -> float:
    source, there = folder / "source", folder / "there"
    source.write_bytes(b"".join(map(_bytes, blobs)))
    words = ["-q", "-F", server.folder / "client", source, f"device:{there}"]
    began = time.monotonic()
    subprocess.run(["scp", *map(str, words)], check=True)
    elapsed_s = time.monotonic() - began
    assert there.read_bytes() == source.read_bytes()
    return elapsed_s


def _bytes(blob: Path | bytes) -> bytes:
    return blob if isinstance(blob, bytes) else blob.read_bytes()


def time_flash(
    server: Sshd, made: Package, folder: Path, key: keys.SigningKey
) -> tuple[float, float]:
    """Seconds of the transfer, and of the whole."""
    root = folder / "root"
    began = time.monotonic()
    with server.remote() as remote, Device(remote, str(root)) as device:
        done = flash(device, made, key=key, activate=False)
    elapsed_s = time.monotonic() - began
    assert done["outcome"] == "staged"
    shutil.rmtree(root)
    return done["send_s"], elapsed_s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mbit", type=float, default=8.0)
    parser.add_argument("--megabytes", type=float, default=6.0)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    ratios: dict[str, list[float]] = {"transfer": [], "whole": []}
    with tempfile.TemporaryDirectory() as name, link() as wire:
        folder = Path(name)
        (folder / "sshd").mkdir()
        key = keys.load(make_key(folder / "signing"))
        inside = ("nsenter", f"--net={wire.file}")
        with sshd(folder / "sshd", wire.far, inside) as server:
            wire.limit(given.mbit)
            made = package(wheel(filler=int(given.megabytes * 1e6)))
            for _ in range(given.pairs):
                scp_s = time_scp(server, list(made.blobs.values()), folder)
                sent_s, whole_s = time_flash(server, made, folder, key)
                ratios["transfer"].append(scp_s / sent_s)
                ratios["whole"].append(scp_s / whole_s)
                print(f"scp {scp_s:.2f} s, sent {sent_s:.2f} s, whole {whole_s:.2f} s", flush=True)
    summary = {
        name: {"median": statistics.median(found), "least": min(found), "most": max(found)}
        for name, found in ratios.items()
    }
    print(json.dumps({"mbit": given.mbit, "megabytes": given.megabytes, **summary}))


if __name__ == "__main__":
    main()
