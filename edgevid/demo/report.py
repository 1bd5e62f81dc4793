"""The demo's page: what the model learned, what the artifacts kept of it, and how fast they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote, split
from statistics import median_high
from textwrap import wrap
from typing import Any

from edgevid import __version__
from edgevid.bench.host import charts
from edgevid.bench.result import BenchResult, JobResult, read_result
from edgevid.bench.statistics import Estimate
from edgevid.bench.tables import Table
from edgevid.data.folders import find
from edgevid.media.video import open_file
from edgevid.report import plots, svg
from edgevid.report.pages import markup, render
from edgevid.report.svg import Chart

LINE = 106
"""The longest line of a command on the page."""
INT8 = "tflite-int8"


def render_report(out: Path, commands: Sequence[str], outputs: Mapping[str, Any]) -> str:
    """Render the page of the demo in the folder ``out`` as HTML.

    Args:
        out: The demo's folder.
        commands: The commands of its stages.
        outputs: The JSON that the stages ``convert``, ``video``, ``answers`` and ``bench`` printed.
    """
    run = json.loads((out / "run" / "run.json").read_bytes())
    artifacts = outputs["convert"]["artifacts"]
    bench = read_result(outputs["bench"], "the result of bench")
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    metric = artifacts[0]["metric"]["name"]
    return render(
        Path(__file__).parent / "templates",
        "demo.html",
        title="Which way did it move?",
        lead="A small video model, trained, quantised, verified and measured on this machine by "
        "edgevid demo.",
        footer=f"Made by edgevid {__version__}. {versions}.",
        tiles=_tiles(artifacts, bench),
        commands="\n".join(map(typed, commands)),
        examples=_examples(out / "data"),
        metric=metric,
        clips=artifacts[0]["metric"].get("n"),
        artifacts=[_artifact(one) for one in artifacts],
        **_training(out / "run"),
        **predictions_section(out, outputs["video"]["stretches"], outputs["answers"]),
        **speed_section(bench),
    )


def typed(command: str) -> str:
    """Return a command as it can be typed, a long one on several lines."""
    text = " ".join(quote(arg).replace(" ", "\0") for arg in split(command))
    lines = wrap(
        text,
        LINE,
        initial_indent="$ ",
        subsequent_indent=" " * 6,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return " \\\n".join(lines).replace("\0", " ")


def _tiles(artifacts: Sequence[Any], bench: BenchResult) -> list[tuple[str, str]]:
    by_name = {artifact["name"]: artifact for artifact in artifacts}
    small, whole = by_name[INT8], by_name["tflite-float32"]
    jobs = {one.job.scenario: one for one in bench.results if one.job.artifact == INT8}
    step, fps = jobs["step"].percentiles["p50"].value, jobs["offline"].fps
    name = small["metric"]["name"]
    openvino = by_name["openvino-int8"]["metric"]["artifact"]
    return [
        (f"{100 * small['metric']['source']:.1f} %", f"{name} before conversion"),
        (f"{100 * small['metric']['artifact']:.1f} %", f"{name} in int8 (TFLite)"),
        (f"{100 * openvino:.1f} %", f"{name} in int8 (OpenVINO)"),
        (f"{small['bytes'] / 1024:.0f} kB", f"int8, {whole['bytes'] / 1024:.0f} kB in float"),
        (f"{step:.2f} ms" if step else "–", "a step in int8, p50"),
        (f"{fps.value:.0f} /s" if isinstance(fps, Estimate) else "–", "frames, from encoded video"),
    ]


def _training(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_bytes())
    captions = {
        "curves": "Loss and metric over the epochs.",
        "confusion": "Validation clips: truth and prediction.",
    }
    classes = metrics["val"]["classes"].items()
    return {
        "training": [_drawn(run / f"{name}.svg", text) for name, text in captions.items()],
        "classes": [(name, one["precision"], one["recall"], one["n"]) for name, one in classes],
    }


def _drawn(path: Path, caption: str) -> dict[str, Any]:
    """A chart that training wrote, as `edgevid.report.svg.Chart` is to a template."""
    drawn = markup(svg.adopt_svg(path.read_text(encoding="utf-8"), caption))
    return {"svg": drawn, "caption": caption, "alarms": (), "wide": False}


def _artifact(one: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        one["name"],
        round(one["bytes"] / 1024, 1),
        one["metric"]["artifact"],
        one["metric"]["source"],
        one["metric"].get("agreement"),
        one["parity"]["max_abs"],
        "everything" if one["quantize"] == "float32" else ", ".join(one["float_ops"]),
    )


def predictions_section(
    out: Path, stretches: Sequence[Any], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """What the model predicted of the video, against the truth."""
    import numpy as np

    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    values = np.array([list(line["scores"].values()) for line in lines])
    truth = [(one["label"], one["start_s"], one["end_s"]) for one in stretches]
    names, times_s = list(lines[0]["scores"]), [line["pts_s"] for line in lines]
    last = {one["end_frame"] - 1: one["label"] for one in stretches}
    by_index = {line["index"]: line for line in lines}
    frames = _frames(out / "video.mp4", set(last) & set(by_index))
    counts = ((name, count) for name, count in summary["frames"].items() if count)
    return {
        "artifact": summary["engines"][0]["serving"]["artifact"],
        "frames": ", ".join(f"{count} {name}" for name, count in counts),
        "scores": Chart(
            plots.heatmap(values, names, times_s, truth),
            "scores over time",
            "Scores over time.",
            wide=True,
        ),
        "stills": [
            (
                image,
                f"{last[index]}: {by_index[index]['label']} {by_index[index]['score']:.2f}",
                by_index[index]["label"] == last[index],
            )
            for index, image in frames
        ],
    }


def speed_section(bench: BenchResult) -> dict[str, Any]:
    """The values of the report's section on speed."""
    single = [one for one in bench.results if one.job.scenario == "single"]
    return {
        "reasons": bench.reasons,
        "benchmarks": [*map(charts.distribution, _plain(single)), charts.stages(single)],
        "speed": speed_table(bench.results),
    }


def _plain(jobs: Iterable[JobResult]) -> list[JobResult]:
    """Jobs without warnings, which the page lists once."""
    from dataclasses import replace

    return [replace(one, reasons=()) for one in jobs]


def speed_table(jobs: Iterable[JobResult]) -> Table:
    """Return one row an engine: throughput of ``offline``, latency of ``single``."""
    by_engine: dict[tuple[str, str], dict[str, JobResult]] = {}
    for one in jobs:
        by_engine.setdefault(one.engine, {})[one.job.scenario] = one
    rows = []
    for name, found in by_engine.items():
        single, offline = found["single"], found["offline"]
        first = median_high(single.first_answer_s) if single.first_answer_s else None
        rows.append(
            (
                *name,
                None if offline.fps is None else offline.fps.value,
                *(single.percentiles[p].value for p in ("p50", "p90", "p99")),
                single.peak_rss_mb,
                first,
            )
        )
    head = ("artifact", "engine", "frames/s", "p50 ms", "p90 ms", "p99 ms", "peak MB", "first s")
    return Table("speed", "Speed", head, tuple(rows))


def _examples(data: Path) -> list[tuple[bytes, str, None]]:
    """The first, middle and last frame side by side, of the first test clip of each class."""
    import numpy as np

    first: dict[str, str] = {}
    for file in find(data).files:
        if file.split == "test":
            first.setdefault(file.annotation, file.path)
    examples = []
    for label, path in first.items():
        with open_file(str(data / path)) as source:
            frames = [captured.image.to_ndarray(format="rgb24") for captured in source]
        side = [frames[0], frames[len(frames) // 2], frames[-1]]
        examples.append((_jpeg(np.concatenate(side, axis=1), 90), label, None))
    return examples


def _frames(video: Path, wanted: set[int]) -> list[tuple[int, bytes]]:
    """Some frames of a video by their index, as JPEG."""
    with open_file(str(video)) as source:
        return [
            (captured.index, _jpeg(captured.image.to_ndarray(format="rgb24"), 85))
            for captured in source
            if captured.index in wanted
        ]


def _jpeg(pixels: Any, quality: int) -> bytes:
    import cv2

    _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(encoded)
