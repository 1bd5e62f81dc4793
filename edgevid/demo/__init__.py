"""The whole workflow on one machine, from nothing to a report; each stage is a command.

A stage is done when its product exists. Products appear completely or not at all, so a demo that
was interrupted continues where it stopped.
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
from edgevid.files import text_bytes, write_bytes, write_json
from edgevid.registry import install_line
from edgevid.training.recipes import DEMO

BAR = 0.85
"""The least metric on held-out clips for the demo to succeed."""


@dataclass(frozen=True)
class Stage:
    """One command of the workflow.

    Attributes:
        title: Its purpose.
        args: Its arguments.
        product: The file or folder that it creates.
        keep: The name of the file below ``.demo/`` with the JSON that it printed.
        may_be_invalid: Whether exit code 3 with reasons is accepted and shown.
    """

    title: str
    args: tuple[str, ...]
    product: str
    keep: str | None = None
    may_be_invalid: bool = False

    @property
    def command(self) -> str:
        """The command as it can be typed."""
        return shlex.join(("edgevid", *self.args))

    def kept(self, out: Path) -> Path:
        """Return the file with the command's JSON."""
        return out / ".demo" / f"{self.keep}.json"

    def done(self, out: Path) -> bool:
        """Return whether its product exists."""
        return (out / self.product).exists() and (self.keep is None or self.kept(out).exists())


def stages(out: Path) -> tuple[Stage, ...]:
    """Return the stages of a demo in the folder ``out``."""
    data, run, bundle, video = (
        f"{out}/{n}" for n in ("data", "run", "motion.edgevid", "video.mp4")
    )
    return (
        Stage(
            "Create labelled clips that differ only over time",
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
                *(arg for option in DEMO.options.items() for arg in _option(*option)),
            ),
            "run",
        ),
        Stage(
            "Convert to both formats and verify the artifacts",
            (
                *("convert", run, "-f", "tflite", "-f", "openvino"),
                *("--quantize", "float32", "--quantize", "int8", "-o", bundle),
            ),
            "motion.edgevid",
            "convert",
        ),
        Stage(
            "Create a video of all motions, one after another",
            ("dataset", "synth", "video", "--out", video, "--seed", "7"),
            "video.mp4",
            "video",
        ),
        Stage(
            "Run the model on the video",
            ("run", bundle, video, "--artifact", "tflite-int8", "--output", f"{out}/answers.jsonl"),
            "answers.jsonl",
            "answers",
        ),
        Stage(
            "Benchmark every artifact, from encoded video to prediction",
            (
                *("bench", bundle, "--source", video, "--rounds", "5"),
                *("--scenario", "step", "--scenario", "single", "--scenario", "offline"),
            ),
            ".demo",
            "bench",
            may_be_invalid=True,
        ),
    )


def _option(name: str, value: object) -> tuple[str, str]:
    return f"--{name.replace('_', '-')}", str(value)


def demo(out: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """Run the demo.

    Args:
        out: The folder of everything that it creates.
        log: Called with a line about each stage.

    Returns:
        The report's path and the main figures.

    Raises:
        CheckFailed: If the model did not learn.
        MissingExtra: If a library is not installed.
        EdgevidError: If a stage fails.
    """
    for package in ("openvino", "tensorflow"):  # found, not imported: the stages import them
        if find_spec(package) is None:
            raise MissingExtra(install_line(f"package {package}", "all"))
    todo = stages(out)
    for number, stage in enumerate(todo, 1):
        log(f"\n[{number}/{len(todo)}] {stage.title}\n$ {stage.command}")
        if stage.done(out):
            log("already done")
        else:
            run_stage(stage, out)
    from edgevid.demo.report import render_report

    outputs = {s.keep: json.loads(s.kept(out).read_bytes()) for s in todo if s.keep}
    report = out / "report.html"
    page = render_report(out, [stage.command for stage in todo], outputs)
    write_bytes(report, text_bytes(page))
    return _checked(report, outputs)


def run_stage(stage: Stage, out: Path) -> None:
    """Run one stage's command in a process of its own.

    Raises:
        EdgevidError: If it fails, with its message and exit code.
    """
    done = subprocess.run(
        [sys.executable, "-m", "edgevid", *stage.args, "--json"], stdout=subprocess.PIPE, text=True
    )
    if done.returncode and not (stage.may_be_invalid and _is_invalid(done)):
        raise _error(stage, done)
    if stage.keep:
        write_json(stage.kept(out), json.loads(done.stdout))


def _is_invalid(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a command printed a whole result and why it is invalid."""
    if done.returncode != Inconclusive.exit_code:
        return False
    try:
        return "reasons" in json.loads(done.stdout)
    except ValueError:
        return False


def _error(stage: Stage, done: subprocess.CompletedProcess[str]) -> BaseException:
    """The error of a stage, with its exit code."""
    if done.returncode == 130:
        return KeyboardInterrupt()
    kinds = {1: CheckFailed, 2: EdgevidError, 3: Inconclusive}
    try:
        message = json.loads(done.stdout)["error"]
    except (ValueError, KeyError):
        message = f"ended with exit code {done.returncode}"
    return kinds.get(done.returncode, EnvironmentFailed)(f"{stage.command}: {message}")


def _checked(report: Path, outputs: dict[str, Any]) -> dict[str, Any]:
    artifacts = outputs["convert"]["artifacts"]
    metric = artifacts[0]["metric"]
    reached = metric["source"]
    if reached < BAR:
        raise CheckFailed(
            f"the model reached a {metric['name']} of {reached:.3f}, below {BAR}; see {report}, or "
            f"remove {report.parent} and run the demo again"
        )
    return {
        "report": str(report),
        metric["name"]: reached,
        "artifacts": {a["name"]: a["metric"]["artifact"] for a in artifacts},
        "frames": outputs["answers"]["frames"],
    }
