"""Eight cameras at 15 frames/s, 720p, from a real RTSP server; then one ten times busier.

    python benchmarks/cameras.py demo/motion.edgevid --seconds 60

Every frame is stepped (``rate = "all"``), and all cameras send their key frames at the same moment.
The server runs on the same cores; its CPU time is listed separately, and so is that of all other
processes, which should be small. Three trials: eight ``equal`` cameras; one of them ``busier``, at
150 frames/s; the same ``saturated`` by milliseconds added to each step, where the busy camera must
drop frames and the others none. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from footage import busier, camera_film
from running import ENGINES, Running, ages, busy_s, cpu_s, frames, machine, named

from rigs.rtsp import RtspCamera

CAMERAS, FPS, TIMES = 8, 15, 10
WARM_S = 5
KINDS = ("captured", "answered", "dropped", "failed")


def trial(bundle: Path, engine: str, mounts: dict[str, Path], seconds: float, **env: str) -> dict:
    tables = f"""
[[bundle]]
path = "{bundle.resolve()}"
{ENGINES[engine]}
rate = "all"
"""
    found = machine()
    with tempfile.TemporaryDirectory() as folder, RtspCamera(**mounts) as server:
        for name in mounts:
            tables += f'\n[[camera]]\nname = "{name}"\nsource = "{server.url(name)}"\n'
        server_pid = named("rtsp.py")
        with Running(Path(folder), tables, **env) as run:
            run.wait(engine)
            time.sleep(WARM_S)
            before, from_line = run.status(), len(run.lines)
            spent_s, served_s, began = run.cpu_s(), cpu_s(server_pid), time.monotonic()
            worked_s = busy_s()
            time.sleep(seconds)
            after, lines = run.status(), run.lines[from_line:]
            took_s = time.monotonic() - began
            spent_s, served_s = run.cpu_s() - spent_s, cpu_s(server_pid) - served_s
            others_s = busy_s() - worked_s - spent_s - served_s
            memory = run.memory_mb()
            run.stop()
    found |= {
        "seconds": round(took_s, 1),
        "cpu_cores": round(spent_s / took_s, 3),
        "cpu_cores_per_camera": round(spent_s / took_s / len(mounts), 4),
        "server_cpu_cores": round(served_s / took_s, 3),
        "other_cpu_cores": round(others_s / took_s, 3),
        "memory_mb": memory,
        "alarms": after["alarms"],
        "age_ms": ages(lines),
        "cameras": {},
    }
    counted_s = after["now_unix_s"] - before["now_unix_s"]  # the status is written once a second
    earlier = {camera["name"]: frames(camera) for camera in before["cameras"]}
    for camera in after["cameras"]:
        name, counts = camera["name"], frames(camera)
        since = {key: counts[key] - earlier[name][key] for key in KINDS}
        found["cameras"][name] = {
            "fps": round(since["captured"] / counted_s, 2),
            **since,
            "age_ms": ages([line for line in lines if line[1]["source"] == name]),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slow-ms", type=float, default=2, help="added to each step, third trial")
    parser.add_argument("--only", choices=["equal", "busier", "saturated"])
    options = parser.parse_args()
    film = camera_film(720, FPS, int(options.seconds + WARM_S + 25))
    equal = {f"camera{number}": film for number in range(CAMERAS)}
    unequal = {**equal, "camera0": busier(film, TIMES)}
    slow = {"EDGEVID_NULL": json.dumps({"latency_ms": options.slow_ms})}
    trials = {
        "equal": (equal, "cpu", {}),
        "busier": (unequal, "cpu", {}),
        "saturated": (unequal, "slow cpu", slow),
    }
    results = {
        name: trial(options.bundle, engine, mounts, options.seconds, **env)
        for name, (mounts, engine, env) in trials.items()
        if options.only in (None, name)
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
