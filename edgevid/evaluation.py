"""The task's metric of each artifact on held-out clips, through the runner's own stream.

A clip is streamed from its first frame on, with an empty state. Its annotated frames, which the
task selects, are decoded to predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.predictions import Prediction
from edgevid.progress import Progress, silent
from edgevid.runner.engines import Choice, open_engine
from edgevid.runner.stream import Stream
from edgevid.tasks import model_frame, open_task
from edgevid.tasks.host import Annotated, HostTask, flat, open_host
from edgevid.tasks.host.metrics import DECIMALS, ChanceTest, Comparison, Metric

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.contract import Contract, Tensors
    from edgevid.data.cache import Clips
    from edgevid.data.video_files import Ignored
    from edgevid.runtimes import Engine

SPLITS = ("train", "val", "test", "all")


@dataclass(frozen=True)
class Score:
    """The metric of one model on annotated samples.

    Attributes:
        name: The metric's name.
        value: The metric, rounded to six decimals.
        n: How many samples it is measured on.
        predictions: One for each sample.
        higher_is_better: False if the metric is an error.
    """

    name: str
    value: float
    n: int
    predictions: tuple[Prediction, ...]
    higher_is_better: bool = True

    def keeps(self, limit: float) -> bool:
        """Whether it is as good as a limit; NaN never is."""
        return self.value >= limit if self.higher_is_better else self.value <= limit


@dataclass(frozen=True)
class Evaluation:
    """One row of ``edgevid evaluate``: a model, or an artifact in a runtime, on one split."""

    artifact: str
    runtime: str
    accelerator: str
    score: Score
    split: str
    left_out: tuple[Mapping[str, str], ...] = ()
    ignored: tuple[Ignored, ...] = ()
    chance: ChanceTest | None = None

    @property
    def weakness(self) -> str | None:
        """Why it is no better than chance, in one line; None if it is better, or has no test."""
        verdict = self.chance.verdict() if self.chance else None
        if verdict is None:
            return None
        score = self.score
        return f"{self.artifact}: {score.name} {score.value:.3f} on {score.n} clips {verdict}"

    @property
    def at_chance(self) -> bool:
        """Whether it is no better than chance on enough samples to tell."""
        return self.chance is not None and self.chance.decidable and not self.chance.better

    def below(self, min_metric: float) -> str | None:
        """Why it is worse than a minimum, in one line; None if it is not."""
        if self.score.keeps(min_metric):
            return None
        return (
            f"{self.artifact}: {self.score.name} {self.score.value:.3f} is worse than "
            f"--min-metric {min_metric:g}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "artifact": self.artifact,
            "runtime": self.runtime,
            "accelerator": self.accelerator,
            "metrics": {self.score.name: self.score.value},
            "n": self.score.n,
            "split": self.split,
            "left_out": [dict(one) for one in self.left_out],
            "ignored": [one.to_json() for one in self.ignored],
            "chance": self.chance.to_json() if self.chance else None,
        }


def step_clips(
    contract: Contract,
    engine: Engine,
    clips: Clips,
    annotated: Sequence[Annotated],
    progress: Progress = silent,
    what: str = "evaluating",
) -> Iterator[Tensors]:
    """Stream each clip through ``engine`` and yield the outputs of its annotated frames.

    Args:
        contract: The model's contract.
        engine: Steps the frames.
        clips: Decoded clips, uint8 ``(frames, height, width, 3)`` each.
        annotated: Which frames of each clip to yield, in the order of the clips.
        progress: Called after each clip.
        what: What progress shows.

    Raises:
        EngineFailed: A step fails.
    """
    name, stream = contract.require_video("the model").name, Stream(contract)
    for done, (frames, wanted) in enumerate(zip(clips.images, annotated, strict=True), 1):
        stream.reset()
        for index in range(max(wanted.frames, default=-1) + 1):
            outputs = stream.step(engine, {name: frames[index : index + 1]})
            if index in wanted.frames:
                yield outputs
        progress(what, done, len(clips))


def predict(contract: Contract, outputs: Iterable[Tensors]) -> list[Prediction]:
    """Decode outputs of a contract's model to predictions in the model's own frame."""
    task, frame = open_task(contract), model_frame(contract)
    return [task.decode(one, frame) for one in outputs]


def score(
    contract: Contract, predictions: Sequence[Prediction], annotated: Sequence[Annotated]
) -> Score:
    """Measure predictions, one for each annotated frame.

    Raises:
        BadInput: The task has no metric, or there is no prediction.
    """
    metric, truths = metric_of(open_host(contract.task)), flat(annotated)
    if not predictions:
        raise BadInput("no clip is left to evaluate on; give data of the kind that was trained on")
    value = round(metric.value(predictions, truths), DECIMALS)
    return Score(metric.name, value, len(truths), tuple(predictions), metric.higher_is_better)


def metric_of(host: HostTask) -> Metric[Any]:
    """Return a task's metric.

    Raises:
        BadInput: It has none.
    """
    if host.metric is None:
        raise BadInput(f"the task {host.name} has no metric; compare with edgevid verify")
    return host.metric


def compare(
    contract: Contract,
    source: Sequence[Prediction],
    artifact: Sequence[Prediction],
    annotated: Sequence[Annotated],
) -> Comparison:
    """Compare an artifact's predictions with its source model's, one for each annotated frame.

    Raises:
        BadInput: The task has no metric, or there is no prediction.
    """
    before, after = (score(contract, one, annotated) for one in (source, artifact))
    metric = metric_of(open_host(contract.task))
    return Comparison(
        name=metric.name,
        source=before.value,
        artifact=after.value,
        n=after.n,
        higher_is_better=metric.higher_is_better,
        samples=metric.samples,
        agreement=round(open_task(contract).agreement(source, artifact), DECIMALS),
        paired=metric.paired_test(source, artifact, flat(annotated)),
        chance=metric.chance_test(source, flat(annotated)),
    )


def choose_clips(
    contract: Contract,
    recorded: Mapping[str, Sequence[str]],
    data: Path,
    split: str,
    progress: Progress = silent,
) -> Clips:
    """Decode the clips of a split as it was recorded at training; ``all`` takes every clip.

    Raises:
        BadInput: The data does not fit the model, or recorded files are missing.
    """
    from edgevid.data.cache import load_clips

    if split not in SPLITS:
        raise BadInput(registry.unknown("split", split, SPLITS))
    host = open_host(contract.task)
    tree = host.find(data)
    host.check_data(tree, contract)
    there = {file.path for file in tree.files}
    paths = sorted(there) if split == "all" else list(recorded.get(split, ()))
    if missing := [path for path in paths if path not in there]:
        raise BadInput(
            f"{data}: {len(missing)} of {len(paths)} files of the recorded split {split!r} are "
            f"missing, the first is {missing[0]}; give the data of the training, or --split all"
        )
    frame = contract.require_video("the model")
    return load_clips(tree, paths, frame, contract.rate_fps, progress=progress)


def evaluate_bundle(
    bundle: Bundle,
    wanted: Sequence[Choice],
    clips: Clips,
    split: str,
    *,
    progress: Progress = silent,
    log: Callable[[str], None],
) -> list[Evaluation]:
    """Measure each of the wanted artifacts on decoded clips of a split.

    Raises:
        BadInput: The task has no metric, or no clip is left.
        EngineFailed: A step fails.
    """
    annotated = open_host(bundle.contract.task).annotations(clips)
    results = []
    for one in wanted:
        engine, choice = open_engine(bundle, [one], report=log)
        try:
            outputs = step_clips(
                bundle.contract, engine, clips, annotated, progress, choice.artifact
            )
            found = score(bundle.contract, predict(bundle.contract, outputs), annotated)
        finally:
            engine.close()
        engine_name = (choice.artifact, choice.runtime, choice.accelerator)
        results.append(evaluation_of(engine_name, found, split, clips, annotated, bundle.contract))
    return results


def evaluation_of(
    engine: tuple[str, str, str],
    found: Score,
    split: str,
    clips: Clips,
    annotated: Sequence[Annotated],
    contract: Contract,
) -> Evaluation:
    """Return the row of a score, with what is left out of the data and a comparison with chance.

    Args:
        engine: Names of artifact, runtime and accelerator.
        found: The score.
        split: The split.
        clips: The clips that it was measured on.
        annotated: What is annotated in them.
        contract: The contract of the model.
    """
    metric = metric_of(open_host(contract.task))
    chance = metric.chance_test(found.predictions, flat(annotated))
    return Evaluation(*engine, found, split, clips.left_out, clips.ignored, chance)
