"""The task's metric of a run's source model, on the split that the run recorded."""

from __future__ import annotations

from pathlib import Path

from edgevid.evaluation import Evaluation, choose_clips, evaluation_of, predict, score
from edgevid.progress import Progress, silent
from edgevid.tasks.host import open_host
from edgevid.training.backend import start


def evaluate_run(run: Path, data: Path, split: str, progress: Progress = silent) -> Evaluation:
    """Measure the source model of a run folder on one of its recorded splits.

    Args:
        run: The run folder.
        data: Folder of the dataset.
        split: ``train``, ``val``, ``test`` or ``all``.
        progress: Called as clips are decoded.

    Returns:
        The metric.

    Raises:
        BadInput: The folder is no run, or the data is not that of its training.
    """
    start()
    from edgevid.training.models import load_run
    from edgevid.training.predict import last_outputs

    model, record = load_run(run)
    contract = model.contract(record.labels, record.rate_fps, record.config.fit)
    clips = choose_clips(contract, record.split, data, split, progress)
    name = contract.outputs[0].name
    outputs = [{name: row[None]} for row in last_outputs(model, clips.images)]
    annotated = open_host(contract.task).annotations(clips)
    found = score(contract, predict(contract, outputs), annotated)
    return evaluation_of(("source", "keras", "cpu"), found, split, clips, annotated, contract)
