"""The cost of supervising an accelerator, and how long its loss lasts.

    python benchmarks/failover.py BUNDLE [--artifact tflite-int8] [--steps 4000]

The stand-in accelerator runs the real artifact in a process of its own, like any accelerator.
Prints: a step there against a step in this process, in interleaved blocks; the time from a fault
to the CPU's first result, and how many earlier results had to be rerun; the memory of both
processes (PSS); and, where Debian's chromium provides a software Vulkan driver, a step of the
float32 artifact on LiteRT's GPU accelerator.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from edgevid import runtimes, targets
from edgevid.bundle import Bundle
from edgevid.errors import EngineFailed
from edgevid.proof import Golden
from edgevid.runner.accelerator_supervisor import BackoffPolicy
from edgevid.runner.engine_failover import EngineFailover
from edgevid.runner.engines import Choice, choices
from edgevid.runner.worker import WorkerEngine

FAULTS = ("error", "hang", "freeze", "abort", "vanish", "nan", "wrong")
DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
BLOCKS, REPEATS, RATE_FPS = 20, 5, 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    bundle = Bundle.open(options.bundle)
    result = {
        "bundle": str(options.bundle),
        "artifact": options.artifact,
        "step": overhead(bundle, options.artifact, options.steps),
        "loss": {kind: loss(bundle, options.artifact, kind) for kind in FAULTS},
    }
    if DRIVER.is_file():
        os.environ["VK_DRIVER_FILES"] = str(DRIVER)
        result["software_gpu"] = software_gpu(bundle)
    print(json.dumps(result, indent=1))


def moment(bundle: Bundle, artifact: str) -> tuple[Any, dict[str, Any]]:
    """The inputs of a golden step and the state before it."""
    one = Golden.read(bundle, artifact).trajectories[0]
    return one.inputs_at(len(one) - 1), {name: values[-2] for name, values in one.states.items()}


def timed(engine: Any, inputs: Any, state: Any, steps: int) -> list[float]:
    spent = []
    for _ in range(steps):
        began = time.perf_counter()
        engine.step(inputs, state)
        spent.append(time.perf_counter() - began)
    return spent


def overhead(bundle: Bundle, artifact: str, steps: int) -> dict[str, float]:
    inputs, state = moment(bundle, artifact)
    name = bundle.artifact(artifact).format
    here = runtimes.get(name).load(bundle.files(artifact), bundle.contract)
    there = WorkerEngine(bundle, artifact, "null", "null")
    began = time.perf_counter()
    there.prove()
    ready_s = time.perf_counter() - began
    pairs = [
        [statistics.median(timed(one, inputs, state, steps // BLOCKS)) for one in (here, there)]
        for _ in range(BLOCKS)
    ]
    try:
        return {
            "here_us": round(1e6 * statistics.median(pair[0] for pair in pairs), 1),
            "apart_us": round(1e6 * statistics.median(pair[1] for pair in pairs), 1),
            "difference_us": round(1e6 * statistics.median(b - a for a, b in pairs), 1),
            "ready_s": round(ready_s, 2),
            "parent_pss_mb": pss_mb(os.getpid()),
            "worker_pss_mb": pss_mb(there.pid),
        }
    finally:
        there.close()


def pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return round(next(int(one.split()[1]) for one in lines if one.startswith("Pss:")) / 1024, 1)


def loss(bundle: Bundle, artifact: str, kind: str) -> dict[str, Any]:
    inputs, state = moment(bundle, artifact)
    spent, redone = [], []
    with tempfile.TemporaryDirectory() as folder:
        trigger = Path(folder) / "broken"
        fault = {"on": "null", "faults": [{"kind": kind, "when": str(trigger)}]}
        os.environ["EDGEVID_NULL"] = json.dumps(fault)
        for _ in range(REPEATS):
            failover = EngineFailover(
                bundle,
                [Choice(artifact, "null", "null")],
                report=lambda line: None,
                backoff=BackoffPolicy(first_s=600, longest_s=600),
            )
            for _ in range(50):
                failover.step(inputs, state)
                failover.check()
            trigger.touch()
            began, unconfirmed = time.perf_counter(), 0
            while failover.guarded:
                try:
                    failover.step(inputs, state)
                    unconfirmed += 1
                    failover.check()
                except EngineFailed as error:
                    failover.lost(error)
                if failover.guarded:
                    time.sleep(1 / RATE_FPS)
            for _ in range(unconfirmed + 1):  # the steps to retake, and the next one
                failover.step(inputs, state)
            spent.append(time.perf_counter() - began)
            redone.append(unconfirmed)
            trigger.unlink()
            failover.close()
    os.environ.pop("EDGEVID_NULL")
    return {
        "first_cpu_answer_s": round(statistics.median(spent), 4),
        "worst_s": round(max(spent), 4),
        "answers_taken_again": max(redone),
    }


def software_gpu(bundle: Bundle) -> dict[str, Any]:
    local = targets.load("local")
    choice = choices(bundle, local, artifact="tflite-float32", accelerator="gpu")[0]
    engine = WorkerEngine(bundle, choice.artifact, choice.runtime, choice.accelerator)
    try:
        began = time.perf_counter()
        engine.prove()
        ready_s = time.perf_counter() - began
        frame, state = moment(bundle, choice.artifact)
        spent = timed(engine, frame, state, 100)
        return {
            "ready_s": round(ready_s, 2),
            "step_ms": round(1000 * statistics.median(spent), 2),
            "worker_pss_mb": pss_mb(engine.pid),
        }
    finally:
        engine.close()


if __name__ == "__main__":
    main()
