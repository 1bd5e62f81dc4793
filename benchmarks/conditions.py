"""The cost of watching a machine, and whether a quiet one is ever called disturbed.

    python benchmarks/conditions.py [--runs 20] [--seconds 10] [--now]

Each run watches a process that computes without a pause. Whether a run was quiet is decided
independently: by the CPU time of every other process, summed up from /proc. A run waits until the
machine is quiet, and is repeated if it did not stay quiet. With --now nothing waits, and a run only
counts as wrong if its reason is not what other processes really used. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from edgevid.bench.interference import Monitor, disturbances

QUIET_SHARE = 0.05
BURN = """
from edgevid.isolation.process import die_with_parent
die_with_parent()
while True: sum(range(10000))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--give-up-min", type=float, default=60.0)
    parser.add_argument("--now", action="store_true", help="do not wait for a quiet machine")
    arguments = parser.parse_args()
    quiet: list[dict] = []
    loud: list[dict] = []
    end = time.monotonic() + 60 * arguments.give_up_min
    while time.monotonic() < end:
        if len(quiet) + arguments.now * len(loud) >= arguments.runs:
            break
        if not arguments.now and not now_quiet():
            continue
        run = one_run(arguments.seconds)
        (quiet if run["others_share"] < QUIET_SHARE else loud).append(run)
        print(json.dumps(run), flush=True)
    costs = sorted(run["look_ms"] for run in quiet + loud) or [0.0]
    print(
        json.dumps(
            {
                "quiet_runs": len(quiet),
                "quiet_runs_with_a_reason": sum(bool(run["reasons"]) for run in quiet),
                "disturbed_runs": len(loud),
                "disturbed_runs_with_a_reason": sum(bool(run["reasons"]) for run in loud),
                "reasons_but_others_work": [
                    reason
                    for run in quiet + loud
                    for reason in run["reasons"]
                    if not reason.startswith("other processes used ")
                ],
                "largest_error_of_others_share": max(
                    (
                        round(abs(run["others_share"] - run["others_share_by_monitor"]), 4)
                        for run in quiet + loud
                    ),
                    default=None,
                ),
                "look_ms_median": costs[len(costs) // 2],
                "look_ms_worst_run": costs[-1],
            }
        )
    )


def now_quiet() -> bool:
    """Whether other processes stay idle for two seconds."""
    before, began = others_s(0), time.monotonic()
    time.sleep(2)
    used = others_s(0) - before
    return used < QUIET_SHARE * (time.monotonic() - began) * (os.cpu_count() or 1)


def one_run(seconds: float) -> dict:
    with subprocess.Popen([sys.executable, "-c", BURN]) as process:
        time.sleep(0.3)
        before = others_s(process.pid)
        with Monitor(lambda: [process.pid]) as monitor:
            for label in ("A 1", "A 2", "A 3", "A 4", "A 5"):
                monitor.mark(label)
                time.sleep(seconds / 5)
            record = monitor.stop()
        used = others_s(process.pid) - before
        process.kill()
    whole = record.total()
    return {
        "others_share": round(used / whole.capacity_s, 4),
        "others_share_by_monitor": round((whole.others_s or 0.0) / whole.capacity_s, 4),
        "steal_share": round((whole.steal_s or 0.0) / whole.capacity_s, 4),
        "waited_share": round((whole.waited_s or 0.0) / whole.elapsed_s, 4),
        "memory_pressure_s": round(whole.pressure_s.get("memory", 0.0), 3),
        "longest_gap_s": round(whole.gap_s, 3),
        "look_ms": round(1000 * whole.looking_s / whole.looks, 3),
        "own_share_of_a_core": round(whole.own_s / whole.elapsed_s, 4),
        "reasons": disturbances(record),
    }


def others_s(measured: int) -> float:
    """CPU seconds of all processes but these two, including their children that ended."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) in (measured, os.getpid()):
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15]) * tick_s
    return total


if __name__ == "__main__":
    main()
