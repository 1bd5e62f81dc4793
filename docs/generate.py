"""Generates the pages that are read from the code or from benchmark results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"

Row = tuple[str, str, str]
"""What was measured, the value, the script."""


def read(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def ratio(value: float, interval: list[float] | None = None) -> str:
    text = f"{value:.3f}"
    return f"{text} ({interval[0]:.3f} to {interval[1]:.3f})" if interval else text


def accuracy() -> list[Row]:
    rows = []
    for name, what in (
        ("accuracy-demo", "demo recipe, `window`, accuracy on 900 test clips"),
        ("accuracy-demo-cnn", "control: single-frame `cnn`"),
        ("accuracy-demo-carry", "demo recipe, `carry`"),
        ("accuracy-full", "full recipe (1,200 clips per class, 14 epochs)"),
    ):
        rows.append((what, percent(read(name)["test_accuracy"]), "accuracy.py"))
    shuffled = percent(read("accuracy-demo")["shuffled_accuracy"])
    chance = "the same clips with frames in random order (chance: 11 %)"
    rows.insert(1, (chance, shuffled, "accuracy.py"))
    for source in ("bikes", "bigbuckbunny"):
        value = percent(read(f"real-texture-{source}")["test_accuracy"])
        what = f"camera motion over real footage, `{source}` held out"
        rows.append((what, value, "real_texture.py"))
    return rows


def conversion() -> list[Row]:
    rows = []
    for bundle, artifacts in read("conversion").items():
        for artifact, found in artifacts.items():
            if "times_as_fast" in found:
                speed, low, high = found["times_as_fast"]
                what = f"`{bundle.removesuffix('.edgevid')}`, {artifact} against float32"
                size = found["share_of_float32"]
                value = f"{speed} times as fast ({low} to {high}), {size} of the bytes"
                rows.append((what, value, "conversion.py"))
    for mode in ("window", "carry"):
        worst = max(one["max_abs"] for one in read(f"streaming-{mode}")["results"])
        what = f"streamed float32 against the source model, `{mode}`, largest difference"
        rows.append((what, f"{worst:.1e}", "streaming.py"))
    for model, found in read("others").items():
        differences = found["largest_difference"]
        both = ", ".join(f"{name} {value:.1e}" for name, value in sorted(differences.items()))
        rows.append((f"`{model}` against its own runtime, largest difference", both, "others.py"))
    return rows


def converting() -> list[Row]:
    rows = []
    for run, formats in read("converting")["runs"].items():
        for name, found in formats.items():
            metric = found["metric"]
            before, after = percent(metric["source"]), percent(metric["artifact"])
            what = f"`{run}` in {name} int8, {metric['name']} on {metric['n']} held-out clips"
            rows.append((what, f"{before} before, {after} after", "converting.py"))
    return rows


def running() -> list[Row]:
    rows = []
    for one in read("pipeline")["results"]:
        size = one["video"].split("-")[1]
        rows.append(
            (
                f"`run --rate all` against a bare decode-scale-step loop, {size}",
                ratio(one["run_ratio"], one["run_ratio_95"]),
                "pipeline.py",
            )
        )
    cameras = read("cameras")["equal"]
    age = cameras["age_ms"]
    rows.append(
        (
            "eight 720p RTSP cameras at 15 frames/s: CPU cores per camera; latency p50, p99",
            f"{cameras['cpu_cores_per_camera']:.2f}; {age['p50']:.0f} ms, {age['p99']:.0f} ms",
            "cameras.py",
        )
    )
    slow = read("slow-engine")["age_ms"]
    rows.append(
        (
            "25 frames/s into a 200 ms engine for 5 minutes: latency p50, p99",
            f"{slow['p50']:.0f} ms, {slow['p99']:.0f} ms",
            "slow_engine.py",
        )
    )
    memory = read("footprint")
    rows.append(
        (
            "memory with one RTSP camera (shared pages counted once): CPU; with a worker process",
            "; ".join(f"{memory[one]['most_mb']['pss']:.0f} MB" for one in ("cpu", "slow worker")),
            "footprint.py",
        )
    )
    loss = read("failover")["loss"]
    for kind in ("error", "abort", "hang", "wrong"):
        if kind in loss:
            first = loss[kind]["first_cpu_answer_s"] * 1000
            what = f"accelerator fault `{kind}`: time to the CPU's first result"
            rows.append((what, f"{first:.0f} ms", "failover.py"))
    for one in read("start")["run"]:
        first = one["first_answer_s"]
        rows.append(
            (
                f"first result after process start, {one['artifact']}: median, worst; peak memory",
                f"{first['median']:.2f} s, {first['max']:.2f} s; {one['peak_rss_mb']:.0f} MB",
                "start.py",
            )
        )
    return rows


def deploying() -> list[Row]:
    flash = read("flash")
    moving, whole = flash["flash_over_scp_moving"], flash["flash_over_scp_whole"]
    what = (
        f"first deployment of {flash['bytes'] / 1e6:.0f} MB over 8 Mbit/s against `scp`: "
        "transfer; whole command"
    )
    return [(what, f"{moving['median']:.3f}; {whole['median']:.3f}", "flash.py")]


def benchmarking() -> list[Row]:
    harness = read("harness")["harness_us"]
    rows: list[Row] = [
        (
            "overhead of the harness per step, p50, p99",
            f"{harness['p50']:.1f} us, {harness['p99']:.1f} us",
            "harness.py",
        )
    ]
    for one in read("vendors")["results"]:
        tool = "benchmark_app" if one["tool"] == "openvino" else "litert-benchmark"
        what = f"step latency against `{tool}`, {one['artifact']}"
        rows.append((what, ratio(one["ratio"], one["ratio_95"]), "vendors.py"))
    quiet = read("conditions")
    rows.append(
        (
            f"{quiet['quiet_runs']} runs on a quiet machine: wrongly called disturbed",
            str(quiet["quiet_runs_with_a_reason"]),
            "conditions.py",
        )
    )
    return rows


def pixels() -> list[Row]:
    found, rows = read("pixels"), []
    for name, what in (("edgevid", "edgevid"), ("opencv", "OpenCV")):
        mean = max(one[name]["mean"] for one in found["pixels"])
        worst = max(one[name]["worst"] for one in found["pixels"])
        value = f"{mean} on average, {worst} at worst"
        rows.append((f"{what}'s pixels against floating point, of 255", value, "pixels.py"))
    for one in found["labels"]:
        model, sure = f"`{one['model']}`, {one['fit']}", one["beyond_error"]
        what = f"labels of `run` like those of the owner's OpenCV pipeline, {model}"
        missed = "" if one["reached"][0] else "; misses the 97 % that are wanted"
        value = f"{percent(one['agree_with_opencv'])} of {one['frames']} frames{missed}"
        rows.append((what, value, "pixels.py"))
        what = f"the same, frames whose label OpenCV's own error cannot change, {model}"
        value = f"{percent(sure['agree_with_opencv'])} of {sure['frames']} frames"
        rows.append((what, value, "pixels.py"))
        what = f"OpenCV's labels like those of floating point, {model}"
        rows.append((what, percent(one["opencv_agrees_with_reference"]), "pixels.py"))
    return rows


def models() -> list[Row]:
    found = read("models")
    summary = found["summary"]
    rows = [
        (
            "models that are right in float32 in both formats (largest error at most 1e-3)",
            f"{summary['float32_right_in_both']} of {summary['models']}",
            "models.py",
        )
    ]
    for name, one in found["models"].items():
        ours = one["edgevid"]["artifacts"]
        for form in ("tflite", "openvino"):
            theirs = one.get("bare", {}).get(form, {})
            precisions = ("float32", "int8") if one["trained"] else ("float32",)
            values = []
            for precision in precisions:
                mine = ours.get(f"{form}-{precision}")
                other = theirs.get(f"{form}-{precision}", {})
                bare = f"{other['rms']:.1e}" if "rms" in other else "none"
                shown = "refused" if mine is None else f"{mine['rms']:.1e}"
                values.append(f"{precision} {shown} (bare: {bare})")
            what = f"`{name}` in {form}: error as a share of the outputs' deviation"
            rows.append((what, ", ".join(values), "models.py"))
    return rows


def conversion_time() -> list[Row]:
    rows = []
    for name, one in read("conversion-time")["models"].items():
        wall, memory = one["wall_s"], one["peak_pss_mb"]
        repaired = ", with a repair" if one["repaired"] else ""
        value = f"{wall['ratio']} times the time, {memory['ratio']} times the memory{repaired}"
        what = f"`{name}`, four artifacts with proof and page, against the bare converters"
        rows.append((what, value, "conversion_time.py"))
    return rows


BUSY = 2
"""Beyond this load wall-clock times tell little."""


def sandbox() -> list[Row]:
    found = read("sandbox")
    what = "converting a small ONNX model, {} with the sandbox relative to without it"
    busy = f" on a busy machine (load {found['load']:g})" if found["load"] > BUSY else ""
    return [
        (what.format(name), ratio(found[key]["ratio"], found[key]["interval"]), "sandbox.py")
        for key, name in (("wall_s", f"time{busy}"), ("cpu_s", "processor time"))
    ]


SECTIONS: tuple[tuple[str, Callable[[], list[Row]]], ...] = (
    ("Accuracy", accuracy),
    ("Conversion: size, speed, parity", conversion),
    ("Conversion: accuracy in int8", converting),
    ("Conversion: models as their owners give them", models),
    ("Conversion: time and memory", conversion_time),
    ("Conversion: cost of the sandbox", sandbox),
    ("Pixels and labels", pixels),
    ("Running", running),
    ("Deployment", deploying),
    ("Benchmark harness", benchmarking),
)


def results_page() -> str:
    """The tables of the results page, as Markdown."""
    lines: list[str] = []
    for title, rows in SECTIONS:
        lines += [f"## {title}", "", "| measured | value | script |", "|---|---|---|"]
        lines += [f"| {what} | {value} | `{script}` |" for what, value, script in rows()]
        lines.append("")
    return "\n".join(lines)


def exit_code_table() -> str:
    """The exit codes, read from the exception classes."""
    from edgevid import errors

    lines = ["| code | raised as | meaning |", "|---|---|---|", "| 0 | | done |"]
    classes = [one for one in vars(errors).values() if isinstance(one, type)]
    for one in sorted(classes, key=lambda one: (one.exit_code, one.__name__)):
        if one is not errors.EdgevidError:
            summary = (one.__doc__ or "").partition("\n")[0].rstrip(".")
            lines.append(f"| {one.exit_code} | `{one.__name__}` | {summary} |")
    return "\n".join([*lines, "| 130 | | interrupted (Ctrl-C or SIGTERM) |", ""])


def onnx_operator_table() -> str:
    """List the ONNX operators that become TFLite, by family."""
    from edgevid_converters.importers.onnx_operators import FAMILIES, FOLDED, LIMITS

    lines = ["| family | operators |", "|---|---|"]
    for family, table in FAMILIES.items():
        listed = ", ".join(
            f"`{name}` ({LIMITS[name]})" if name in LIMITS else f"`{name}`"
            for name in sorted(table)
        )
        lines.append(f"| {family} | {listed} |")
    listed = ", ".join(f"`{name}`" for name in FOLDED)
    lines.append(f"| Computed beforehand, where they depend on no input | {listed} |")
    return "\n".join(lines) + "\n"


def write_generated_pages(docs: Path) -> None:
    """Write every generated page below ``docs/_generated``."""
    folder = docs / "_generated"
    folder.mkdir(exist_ok=True)
    for name, make in {
        "results": results_page,
        "exit-codes": exit_code_table,
        "onnx-operators": onnx_operator_table,
    }.items():
        (folder / f"{name}.md").write_text(make(), "utf-8")
