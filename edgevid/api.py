"""The Python API on the host, besides `edgevid.model`: evaluating what was trained or converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgevid.arguments import checked
from edgevid.evaluation import Evaluation
from edgevid.progress import Progress, silent


@checked
def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    artifact: str | None = None,
    runtime: str | None = None,
    progress: Progress = silent,
    log: Callable[[str], None] | None = None,
) -> list[Evaluation]:
    """Measure the task's metric of a run's model, or of each artifact of a bundle.

    Args:
        model: A run folder or a bundle.
        data: Folder of the dataset.
        split: ``train``, ``val`` or ``test`` as recorded at training, or ``all``.
        artifact: Only this artifact of a bundle.
        runtime: Only in this runtime.
        progress: Called as clips are decoded and streamed.
        log: Receives a message for each artifact that cannot be run here.

    Returns:
        One evaluation per model or artifact.

    Raises:
        WrongType: An argument has another type.
        BadInput: There is no such model, or the data isn't that of its training.
        MissingExtra: A library is not installed.
        EngineFailed: A step failed.
    """
    model, data = Path(model), Path(data)
    if model.is_dir():
        from edgevid.training.score import evaluate_run

        return [evaluate_run(model, data, split, progress)]
    from edgevid import evaluation, targets
    from edgevid.bundle import Bundle
    from edgevid.runner import engines

    report = log or (lambda text: None)
    bundle = Bundle.open(model)
    wanted = engines.choices(bundle, targets.load("local"), artifact=artifact, runtime=runtime)
    wanted = engines.installed(wanted, report)
    recorded = bundle.evidence.get("split", {})
    clips = evaluation.choose_clips(bundle.contract, recorded, data, split, progress)
    return evaluation.evaluate_bundle(bundle, wanted, clips, split, progress=progress, log=report)
