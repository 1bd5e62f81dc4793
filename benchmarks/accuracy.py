"""Accuracy on synthetic motion clips, with controls. Prints one JSON document.

    python benchmarks/accuracy.py --recipe demo --work DIR      the demo's model
    python benchmarks/accuracy.py --recipe full --work DIR      the full recipe
    python benchmarks/accuracy.py --recipe demo --model cnn     control: a single frame
    python benchmarks/accuracy.py --recipe demo --temporal carry

Both recipes share their test clips, which training never reads: the same seed makes the same files.
Data and runs that exist in DIR are reused, and an interrupted training continues.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from edgevid.data.cache import load_clips
from edgevid.data.folders import find
from edgevid.files import write_json
from edgevid.tasks.host.training import open_training
from edgevid.training import backend, recipes


def main() -> None:
    options = _options()
    backend.start()
    recipe = {"demo": recipes.DEMO, "full": recipes.FULL}[options.recipe]
    data = options.work / f"data-{options.recipe}"
    name = "-".join(filter(None, (options.recipe, options.model, options.temporal)))
    started = time.perf_counter()
    recipe.data(data, progress=_tell)
    made_s = time.perf_counter() - started
    result = measure(data, options.work / name, recipe.config(options.model, options.temporal))
    result |= {"recipe": options.recipe, "data_seconds": round(made_s, 1)}
    write_json(options.work / f"{name}.json", result)
    print(json.dumps(result, indent=2))


def measure(data: Path, run: Path, config: Any) -> dict[str, Any]:
    """Train unless ``run`` exists; then evaluate the test clips in order and shuffled."""
    from edgevid.training.data import shuffled
    from edgevid.training.fit import train
    from edgevid.training.models import load_run
    from edgevid.training.predict import last_outputs

    if not run.exists():
        train(config, data, run, _tell)
    model, record = load_run(run)
    contract = model.contract(record.labels, record.rate_fps)
    tree = find(data)
    test = load_clips(
        tree,
        record.split["test"],
        contract.frame,
        contract.rate_fps,
        min_frames=model.config.frames,
    )
    task = open_training("classification")
    as_filmed, mixed = (
        task.figures(last_outputs(model, images), task.targets(test), tree.classes)
        for images in (test.images, shuffled(test.images))
    )
    val = json.loads((run / "metrics.json").read_text())["val"]
    return {
        "model": record.config.model.to_json(),
        "parameters": model.training.count_params(),
        "epochs": record.epochs,
        "train_seconds": record.train_seconds,
        "val_accuracy": val["accuracy"],
        "test_accuracy": as_filmed["accuracy"],
        "test_clips": as_filmed["n"],
        "test_recall": {label: found["recall"] for label, found in as_filmed["classes"].items()},
        "shuffled_accuracy": mixed["accuracy"],
        "left_out": list(test.left_out),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", choices=("demo", "full"), default="demo")
    parser.add_argument("--model", default="cnn-lstm")
    parser.add_argument("--temporal", choices=("none", "window", "carry"))
    parser.add_argument("--work", type=Path, default=Path("build/accuracy"))
    return parser.parse_args()


def _tell(what: str, done: int, total: int, note: str = "") -> None:
    if done == total:
        print(what, note, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
