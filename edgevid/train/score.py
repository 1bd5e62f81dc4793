"""The task's metric of a run's source model, on the split that the run recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgevid.contract import SCORES
from edgevid.evaluate import choose_clips, score
from edgevid.progress import Progress, silent
from edgevid.train.backend import start


def evaluate_run(
    run: Path, data: Path, split: str, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Score the source model: one result, ``artifact`` is ``source``; raises `BadInput`."""
    start()
    from edgevid.train.fit import last_scores
    from edgevid.train.models import load_run

    model, record = load_run(run)
    train = record["train"]
    contract = model.contract(tuple(record["labels"]), train["rate_fps"], train["fit"])
    clips = choose_clips(contract, record["split"], data, split, progress)
    scores = last_scores(model, clips.pictures)
    found = score(contract, [{SCORES: row[None]} for row in scores], clips)
    return [
        {
            "artifact": "source",
            "runtime": "keras",
            "accelerator": "cpu",
            "metrics": {found["name"]: found["value"]},
            "n": found["n"],
            "split": split,
            "left_out": [dict(one) for one in clips.left_out],
        }
    ]
