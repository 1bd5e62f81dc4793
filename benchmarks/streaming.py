"""Does the streamed output equal the whole-clip model's, frame by frame?

    python benchmarks/streaming.py demo/run demo/motion.edgevid demo/data --clips 50

Streams test clips through the bundle's float32 artifacts and compares with the Keras model in its
training form: for `window` on every window of T frames, from the first full one; for `carry` on the
whole clip, from its first frame. Prints the largest difference of any score as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgevid import runtimes
from edgevid.bundle import Bundle
from edgevid.evaluation import choose_clips
from edgevid.runner.stream import Stream
from edgevid.runtimes import Engine, catalog
from edgevid.training import backend


def whole(model: Any, pictures: np.ndarray) -> np.ndarray:
    """Scores, float32 (N, C), of the frames from the first warm one, by the training form."""
    from edgevid.training.predict import predict

    if model.config.temporal == "carry":
        return predict(model, [pictures])[0]
    frames = model.config.frames
    return predict(model, [pictures[n : n + frames] for n in range(len(pictures) - frames + 1)])


def streamed(bundle: Bundle, engine: Engine, pictures: np.ndarray) -> np.ndarray:
    stream, rows = Stream(bundle.contract), []
    for number in range(len(pictures)):
        answer = stream.step(engine, {"frame": pictures[number : number + 1]})
        if stream.warm:
            rows.append(answer["scores"][0])
    return np.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=50)
    options = parser.parse_args()
    backend.start()
    from edgevid.training.models import load_run

    model, record = load_run(options.run)
    bundle = Bundle.open(options.bundle)
    clips = choose_clips(bundle.contract, record.split, options.data, "test")
    chosen = clips.images[:: max(1, len(clips) // options.clips)]
    results = []
    for artifact in bundle.artifacts:
        if artifact.quantize != "float32":
            continue
        runtime = runtimes.get(catalog.made_for(artifact.format)[0])
        engine = runtime.load(bundle.files(artifact), bundle.contract)
        worst, frames = 0.0, 0
        for pictures in chosen:
            want, got = whole(model, np.asarray(pictures)), streamed(bundle, engine, pictures)
            assert want.shape == got.shape
            assert np.isfinite(got).all()
            worst, frames = max(worst, float(np.abs(want - got).max())), frames + len(got)
        results.append({"artifact": artifact.name, "frames": frames, "max_abs": worst})
    print(json.dumps({"temporal": model.config.temporal, "clips": len(chosen), "results": results}))


if __name__ == "__main__":
    main()
