"""The task's metric of each artifact, through the runner's own stream, on held-out clips.

A clip is streamed from its first frame on, with an empty memory; its answer is the one at its last
frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.progress import Progress, silent
from edgevid.runner.engines import Choice, open_engine
from edgevid.runner.stream import Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.bundle import Bundle
    from edgevid.contract import Contract, Tensors
    from edgevid.data.cache import Clips
    from edgevid.runtimes import Engine
    from edgevid.tasks import Task

SPLITS = ("train", "val", "test", "all")


def answers(
    contract: Contract, engine: Engine, clips: Clips, progress: Progress = silent, what: str = ""
) -> list[Tensors]:
    """The raw answer at the last frame of each clip, streamed through ``engine``."""
    found = []
    stream = Stream(contract)
    for done, pictures in enumerate(clips.pictures):
        stream.reset()
        found.append(_last(stream, engine, pictures))
        progress(what or "evaluating", done + 1, len(clips))
    return found


def _last(stream: Stream, engine: Engine, pictures: NDArray[np.uint8]) -> Tensors:
    answer: Tensors = {}
    for number in range(len(pictures)):
        answer = stream.step(engine, pictures[number : number + 1])
    return answer


def score(contract: Contract, given: Sequence[Tensors], clips: Clips) -> dict[str, Any]:
    """The metric of raw answers: ``name``, ``value``, ``n`` clips, and the readable ``answers``."""
    task = registry.load("task", contract.task)(contract)
    read = [task.read(answer) for answer in given]
    truths = [clips.classes[target] for target in clips.targets]
    if task.metric_name is None:
        raise BadInput(f"the task {contract.task} has no metric; compare with edgevid verify")
    if not read:
        raise BadInput("no clip is left to evaluate on; give data of the kind that was trained on")
    return {
        "name": task.metric_name,
        "value": round(task.metric(read, truths), 6),
        "n": len(read),
        "answers": read,
    }


def artifact_metrics(
    contract: Contract,
    engines: Mapping[str, Engine],
    clips: Clips,
    source: Sequence[Tensors],
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Score each engine, by its artifact's name, and the source model's answers beside it.

    ``source`` is the source model's raw answer to each clip. Gives ``name``, ``source``,
    ``artifact``, ``n``, ``agreement``, the share of clips on which both say the same, and the
    clips on which the artifact alone is worse (``lost``) or better (``won``).
    """
    task = registry.load("task", contract.task)(contract)
    truth = score(contract, source, clips)
    before = _each(task, truth["answers"], clips)
    metrics = {}
    for name, engine in engines.items():
        found = score(contract, answers(contract, engine, clips, progress, name), clips)
        after = _each(task, found["answers"], clips)
        metrics[name] = {
            "name": found["name"],
            "source": truth["value"],
            "artifact": found["value"],
            "n": found["n"],
            "agreement": round(task.agreement(truth["answers"], found["answers"]), 6),
            "lost": sum(own < other for own, other in zip(after, before, strict=True)),
            "won": sum(own > other for own, other in zip(after, before, strict=True)),
        }
    return metrics


def _each(task: Task, read: Sequence[dict[str, Any]], clips: Clips) -> list[float]:
    """The metric of each clip by itself."""
    truths = [clips.classes[target] for target in clips.targets]
    return [task.metric([one], [truth]) for one, truth in zip(read, truths, strict=True)]


def choose_clips(
    contract: Contract,
    recorded: Mapping[str, Sequence[str]],
    data: Path,
    split: str,
    progress: Progress = silent,
) -> Clips:
    """Decode the clips of ``split`` as it was recorded at training; ``all`` takes every clip.

    Raises `BadInput` where the data's classes are not the model's, or the recorded files are not
    there.
    """
    from edgevid.data.cache import load_clips
    from edgevid.data.folders import find

    if split not in SPLITS:
        raise BadInput(registry.unknown("split", split, SPLITS))
    tree = find(data)
    if strange := sorted(set(tree.classes) - set(contract.labels)):
        raise BadInput(
            f"{data}: class {strange[0]!r} is not one of the model's: {', '.join(contract.labels)}"
        )
    there = {file.path for file in tree.files}
    paths = sorted(there) if split == "all" else list(recorded.get(split, ()))
    if missing := [path for path in paths if path not in there]:
        raise BadInput(
            f"{data}: {len(missing)} of {len(paths)} files of the recorded split {split!r} are not "
            f"there, the first is {missing[0]}; give the data of the training, or --split all"
        )
    return load_clips(tree, paths, contract.frame, progress=progress)


def evaluate_bundle(
    bundle: Bundle,
    wanted: Sequence[Choice],
    clips: Clips,
    split: str,
    *,
    progress: Progress = silent,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Score each of ``wanted``: ``artifact``, ``runtime``, ``metrics``, ``n``, ``split``."""
    results = []
    for wish in wanted:
        engine, choice = open_engine(bundle, [wish], say=say)
        try:
            given = answers(bundle.contract, engine, clips, progress, choice.artifact)
        finally:
            engine.close()
        found = score(bundle.contract, given, clips)
        results.append(
            {
                "artifact": choice.artifact,
                "runtime": choice.runtime,
                "accelerator": choice.accelerator,
                "metrics": {found["name"]: found["value"]},
                "n": found["n"],
                "split": split,
                "left_out": [dict(one) for one in clips.left_out],
            }
        )
    return results
