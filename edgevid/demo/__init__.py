"""The whole journey on one machine, from nothing to a report: each stage a command anyone can type.

A stage is done when its product is there; products appear whole or not at all, so a demo that was
stopped goes on where it was when it is run again.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgevid.errors import CheckFailed, EdgevidError, EnvironmentFailed, Inconclusive, MissingExtra
from edgevid.files import write_bytes, write_json
from edgevid.registry import install_line
from edgevid.training.recipes import DEMO

BAR = 0.85
"""The least top-1 accuracy on held-out clips with which the demo calls its model learned."""


@dataclass(frozen=True)
class Stage:
    """One command of the journey: what it is for, its words, and what it leaves behind.

    ``keep`` names the file, below ``.demo/``, that keeps what the command said as JSON. A command
    that ``doubts`` its own result says so in it and with exit code 3; it is shown with its doubts.
    """

    title: str
    words: tuple[str, ...]
    product: str
    keep: str | None = None
    doubts: bool = False

    @property
    def spoken(self) -> str:
        """The command as one would type it."""
        return shlex.join(("edgevid", *self.words))

    def kept(self, out: Path) -> Path:
        """Where the command's JSON is kept."""
        return out / ".demo" / f"{self.keep}.json"

    def done(self, out: Path) -> bool:
        """Whether all that it makes is there."""
        return (out / self.product).exists() and (self.keep is None or self.kept(out).exists())


def stages(out: Path) -> tuple[Stage, ...]:
    """The journey into the folder ``out``."""
    data, run, bundle, video = (
        f"{out}/{n}" for n in ("data", "run", "motion.edgevid", "video.mp4")
    )
    return (
        Stage(
            "Make labelled clips that only time tells apart",
            (
                *("dataset", "synth", "motion", "--out", data, "--train", str(DEMO.train)),
                *("--val", str(DEMO.val), "--test", str(DEMO.test)),
            ),
            "data",
        ),
        Stage(
            "Train a CNN with two LSTM layers",
            (
                *("train", data, "--model", "cnn-lstm", "--out", run),
                *(word for option in DEMO.options.items() for word in _option(*option)),
            ),
            "run",
        ),
        Stage(
            "Convert to both formats, and prove what comes out",
            (
                *("convert", run, "-f", "tflite", "-f", "openvino"),
                *("--quantize", "float32", "--quantize", "int8", "-o", bundle),
            ),
            "motion.edgevid",
            "convert",
        ),
        Stage(
            "Film all the motions, one after the other",
            ("dataset", "synth", "video", "--out", video, "--seed", "7"),
            "video.mp4",
            "video",
        ),
        Stage(
            "Answer the video",
            ("run", bundle, video, "--artifact", "tflite-int8", "--output", f"{out}/answers.jsonl"),
            "answers.jsonl",
            "answers",
        ),
        Stage(
            "Bench every artifact, from encoded video to answer",
            (
                *("bench", bundle, "--source", video, "--rounds", "5"),
                *("--scenario", "step", "--scenario", "single", "--scenario", "offline"),
            ),
            ".demo",
            "bench",
            doubts=True,
        ),
    )


def _option(name: str, value: object) -> tuple[str, str]:
    return f"--{name.replace('_', '-')}", str(value)


def demo(out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Go the whole way into ``out``; give the report's path and the main figures.

    Raises `CheckFailed` where the model did not learn, and what a stage that fails says.
    """
    for package in ("openvino", "tensorflow"):  # looked for, not imported: that is the stages' part
        if find_spec(package) is None:
            raise MissingExtra(install_line(f"package {package}", "all"))
    journey = stages(out)
    for number, stage in enumerate(journey, 1):
        say(f"\n[{number}/{len(journey)}] {stage.title}\n$ {stage.spoken}")
        if stage.done(out):
            say("done before")
        else:
            take(stage, out)
    from edgevid.demo.report import render_report

    said = {s.keep: json.loads(s.kept(out).read_bytes()) for s in journey if s.keep}
    report = out / "report.html"
    write_bytes(report, render_report(out, [stage.spoken for stage in journey], said).encode())
    return _judged(report, said)


def take(stage: Stage, out: Path) -> None:
    """Call one stage's command in a process of its own; raises what it fails with."""
    done = subprocess.run(
        [sys.executable, "-m", "edgevid", *stage.words, "--json"], stdout=subprocess.PIPE, text=True
    )
    if done.returncode and not (stage.doubts and _is_doubtful(done)):
        raise _error(stage, done)
    if stage.keep:
        write_json(stage.kept(out), json.loads(done.stdout))


def _is_doubtful(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a command gave its whole result, and the reasons why it is worth little."""
    if done.returncode != Inconclusive.exit_code:
        return False
    try:
        return "reasons" in json.loads(done.stdout)
    except ValueError:
        return False


def _error(stage: Stage, done: subprocess.CompletedProcess[str]) -> BaseException:
    """The error that a stage ended with, with its own exit code."""
    if done.returncode == 130:
        return KeyboardInterrupt()
    kinds = {1: CheckFailed, 2: EdgevidError, 3: Inconclusive}
    try:
        message = json.loads(done.stdout)["error"]
    except (ValueError, KeyError):
        message = f"ended with exit code {done.returncode}"
    return kinds.get(done.returncode, EnvironmentFailed)(f"{stage.spoken}: {message}")


def _judged(report: Path, said: dict[str, Any]) -> dict[str, Any]:
    artifacts = said["convert"]["artifacts"]
    accuracy = artifacts[0]["metric"]["source"]
    if accuracy < BAR:
        raise CheckFailed(
            f"the model reached {accuracy:.3f} top-1, under {BAR}; see {report}, or remove "
            f"{report.parent} and run the demo again"
        )
    return {
        "report": str(report),
        "accuracy": accuracy,
        "artifacts": {a["name"]: a["metric"]["artifact"] for a in artifacts},
        "frames": said["answers"]["frames"],
    }
