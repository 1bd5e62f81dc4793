"""Compares two installations of edgevid: throughput, first result, memory, start-up.

    python benchmarks/versions.py --pairs 20 \
        --old old/.venv/bin/python old/demo/motion.edgevid \
        --new .venv/bin/python demo/motion.edgevid

Each version has its own environment and runs a bundle that it wrote itself. Old and new alternate
in fresh processes on the same video; a ratio is new over old within a pair. Prints one JSON
document: for each figure the median ratio with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from footage import film
from measure import run_json, summary


@dataclass(frozen=True)
class Version:
    """One installation, and the bundle that it runs."""

    python: Path
    bundle: Path
    cache: Path

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables: each version has a cache of its own."""
        return {**os.environ, "XDG_CACHE_HOME": str(self.cache)}

    def run(self, video: Path, artifact: str, *options: str) -> dict[str, Any]:
        """The summary of one `edgevid run`."""
        output = self.cache / "results.jsonl"
        command = [
            self.python,
            "-P",
            "-m",
            "edgevid",
            "run",
            self.bundle,
            video,
            "--artifact",
            artifact,
        ]
        command += ["--json", "--output", output, *options]
        found: dict[str, Any] = run_json(*command, env=self.environment, stderr=subprocess.DEVNULL)
        return found

    def wall_s(self, *args: str) -> float:
        """Wall-clock seconds of one call of its interpreter."""
        began = time.perf_counter()
        subprocess.run([self.python, "-P", *args], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


Measure = Callable[[Version], dict[str, float]]


def interleave(
    old: Version, new: Version, pairs: int, measure: Measure
) -> dict[str, dict[str, Any]]:
    """Measure both in turn; the ratio of each figure, new over old."""
    for version in (old, new):
        measure(version)  # once unmeasured: page cache, and the engine's proof
    ratios: dict[str, list[float]] = {}
    for number in range(pairs):
        order = (old, new) if number % 2 == 0 else (new, old)
        found = {version.python: measure(version) for version in order}
        for name, value in found[new.python].items():
            ratios.setdefault(name, []).append(value / found[old.python][name])
    return {name: summary(values) for name, values in ratios.items()}


def throughput(video: Path, artifact: str) -> Measure:
    return lambda version: {"fps": version.run(video, artifact, "--rate", "all")["fps"]}


def first_result(video: Path, artifact: str) -> Measure:
    def measure(version: Version) -> dict[str, float]:
        found = version.run(video, artifact)
        return {
            "first_result_s": found["first_answer_s"],
            "peak_rss_mb": found["peak_rss_mb"],
        }

    return measure


def start_up(version: Version) -> dict[str, float]:
    return {
        "import_s": version.wall_s("-c", "import edgevid"),
        "help_s": version.wall_s("-m", "edgevid", "--help"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("old", "new"):
        parser.add_argument(f"--{name}", nargs=2, type=Path, required=True)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--heights", type=int, nargs="*", default=[720, 1080])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        versions = []
        for name in ("old", "new"):
            python, bundle = getattr(options, name)
            cache = Path(folder, name)
            cache.mkdir()
            versions.append(Version(python.absolute(), bundle.resolve(), cache))
        old, new = versions
        result: dict[str, Any] = {}
        for height in options.heights:
            measure = throughput(film(height), options.artifact)
            result[f"{height}p"] = interleave(old, new, options.pairs, measure)
        measure = first_result(film(720, seconds=2), options.artifact)
        result["start"] = interleave(old, new, options.pairs, measure)
        result["start"] |= interleave(old, new, options.pairs, start_up)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
