"""The demo's report: what was learned, what the artifacts kept of it, how fast they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote, split
from textwrap import wrap
from typing import Any

from edgevid import __version__
from edgevid.data.folders import find
from edgevid.media.video import open_file
from edgevid.report import plots
from edgevid.report.page import Page

LINE = 106
"""So many characters of a command stand in a line of the page."""


def render_report(out: Path, commands: Sequence[str], said: Mapping[str, Any]) -> str:
    """The report of the journey into ``out``, as one HTML file.

    ``said`` is what ``convert``, ``video``, ``answers`` and ``bench`` said.
    """
    page = Page(
        "Which way did it move?",
        "A small video model, trained, quantised, proven and measured on this machine by "
        "edgevid demo.",
    )
    artifacts, results = said["convert"]["artifacts"], by_engine(said["bench"]["results"])
    _headline(page, artifacts, results)
    page.code("\n".join(map(_typed, commands)))
    _learned(page, out)
    _lowered(page, artifacts)
    _answered(page, out, said["video"]["stretches"], said["answers"])
    _measured(page, results, said["bench"]["reasons"])
    run = json.loads((out / "run" / "run.json").read_bytes())
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return page.html(f"Made by edgevid {__version__}. {versions}.")


def _typed(command: str) -> str:
    """A command as it can be typed, a long one in several lines."""
    words = " ".join(quote(word).replace(" ", "\0") for word in split(command))
    lines = wrap(
        words,
        LINE,
        initial_indent="$ ",
        subsequent_indent=" " * 6,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return " \\\n".join(lines).replace("\0", " ")


def by_engine(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A bench's results as one row for each engine, of figures that were measured enough.

    Frames a second are those of ``offline``, latency and stages those of ``single``.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in results:
        job = one["job"]
        row = rows.setdefault((job["artifact"], job["runtime"]), {})
        row |= {"artifact": job["artifact"], "runtime": job["runtime"]}
        if job["scenario"] == "step":
            row["step_ms"] = _values(one["step_ms"])
        elif job["scenario"] == "single":
            row["latency_ms"] = _values(one["latency_ms"])
            row |= {name: one[name] for name in ("stages_ms", "peak_rss_mb")}
            row["first_answer_s"] = sorted(one["first_answer_s"])[len(one["first_answer_s"]) // 2]
        elif job["scenario"] == "offline":
            row["fps"] = one["fps"]["value"]
    return list(rows.values())


def _values(estimates: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: one["value"] for name, one in estimates.items() if "value" in one}


def _headline(page: Page, artifacts: Sequence[Any], results: Sequence[Any]) -> None:
    by_name = {artifact["name"]: artifact for artifact in artifacts}
    small, whole = by_name["tflite-int8"], by_name["tflite-float32"]
    fast = next(r for r in results if r["artifact"] == "tflite-int8")
    page.tiles(
        [
            (f"{100 * small['metric']['source']:.1f} %", "top-1 before conversion"),
            (f"{100 * small['metric']['artifact']:.1f} %", "top-1 in int8 (TFLite)"),
            (
                f"{100 * by_name['openvino-int8']['metric']['artifact']:.1f} %",
                "top-1 in int8 (OpenVINO)",
            ),
            (f"{small['bytes'] / 1024:.0f} kB", f"int8, {whole['bytes'] / 1024:.0f} kB in float"),
            (f"{fast['step_ms']['p50']:.2f} ms", "a step in int8, p50"),
            (f"{fast['fps']:.0f} /s", "frames, from encoded video"),
        ]
    )


def _learned(page: Page, out: Path) -> None:
    metrics = json.loads((out / "run" / "metrics.json").read_bytes())
    page.heading("What was learned")
    page.words(
        "Nine kinds of clip, made here: a shape moves one way, or it does not. The background "
        "class holds still shapes and erratic ones, so no single frame, and no set of frames out "
        "of order, gives the answer away. Here is the first, middle and last frame of one test "
        "clip of each class."
    )
    page.strip(_examples(out / "data"), least_rem=17)
    page.pictures(
        [
            ((out / "run" / "curves.png").read_bytes(), "Loss and accuracy over the epochs."),
            ((out / "run" / "confusion.png").read_bytes(), "Validation clips: truth and answer."),
        ]
    )
    page.table(
        ("class", "precision", "recall", "validation clips"),
        [
            (name, found["precision"], found["recall"], found["n"])
            for name, found in metrics["val"]["classes"].items()
        ],
    )


def _lowered(page: Page, artifacts: Sequence[Any]) -> None:
    page.heading("What the artifacts kept of it")
    clips = artifacts[0]["metric"].get("n")
    page.words(
        "Every artifact was loaded and replayed in a process of its own before it went into the "
        f"bundle. Top-1 is on {clips} test clips that training never saw, streamed frame by frame; "
        "parity is the largest difference from the source model on the golden trajectory."
    )
    page.table(
        ("artifact", "kB", "top-1", "source's top-1", "same answer", "parity", "left in float"),
        [
            (
                a["name"],
                round(a["bytes"] / 1024, 1),
                a["metric"]["artifact"],
                a["metric"]["source"],
                a["metric"].get("agreement"),
                a["parity"]["max_abs"],
                "everything" if a["quantize"] == "float32" else ", ".join(a["float_ops"]),
            )
            for a in artifacts
        ],
    )


def _answered(page: Page, out: Path, stretches: Sequence[Any], summary: Mapping[str, Any]) -> None:
    import numpy as np

    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    page.heading("A video it had not seen")
    frames = ", ".join(f"{count} {name}" for name, count in summary["frames"].items() if count)
    artifact = summary["engines"][0]["serving"]["artifact"]
    page.words(
        f"All the motions in one video, answered by {artifact}: {frames}. The darker, "
        "the surer; what was really shown is outlined. Where the motion changes, the window holds "
        "frames of both for a moment."
    )
    values = np.array([list(line["scores"].values()) for line in lines])
    times_s = [line["pts_s"] for line in lines]
    page.pictures(
        [(plots.scores(values, list(lines[0]["scores"]), times_s, stretches), "Scores over time.")]
    )
    last = {stretch["end_frame"] - 1: stretch for stretch in stretches}
    answers = {line["index"]: line for line in lines}
    page.strip(
        (
            image,
            f"{last[index]['label']}: {answers[index]['label']} {answers[index]['score']:.2f}",
            answers[index]["label"] == last[index]["label"],
        )
        for index, image in _frames(out / "video.mp4", set(last) & set(answers))
    )


def _measured(page: Page, results: Sequence[Any], reasons: Sequence[str]) -> None:
    page.heading("How fast it is on this machine")
    page.words(
        "Every frame from encoded video to the answer: one after another (latency, stages), and as "
        "fast as it goes with decoding beside the rest (frames a second). All artifacts were "
        "measured in turn. Other machines have other numbers: edgevid bench gives them."
    )
    if reasons:
        page.words(f"Not all of these figures can be relied on: {'; '.join(reasons)}.")
    page.pictures(
        [
            (plots.latency(results), "Latency of a frame."),
            (plots.stages(results), "Where the time goes."),
        ]
    )
    page.table(
        ("artifact", "runtime", "frames/s", "p50 ms", "p90 ms", "p99 ms", "peak MB", "first s"),
        [
            (
                r["artifact"],
                r["runtime"],
                r["fps"],
                *(r["latency_ms"].get(name) for name in ("p50", "p90", "p99")),
                r["peak_rss_mb"],
                r["first_answer_s"],
            )
            for r in results
        ],
    )


def _examples(data: Path) -> list[tuple[bytes, str, None]]:
    """First, middle and last frame side by side of the first test clip of each class."""
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
