"""Bundles of the built-in arithmetic step, which need no library to run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgevid import bundle, runtimes
from edgevid.bundle import Artifact
from edgevid.contract import Contract, FrameInput, Output, StateTensor
from edgevid.proof import Golden, Trajectory
from rigs.films import pictures

CONTRACT = Contract(
    task="classification",
    frame=FrameInput(height=16, width=24, rate_fps=16.0),
    outputs=(Output("scores", (1, 3)),),
    labels=("dark", "middle", "bright"),
    temporal="carry",
    frames=4,
    states=(StateTensor("level", (1, 2)),),
)
"""A small classifier with a carried memory."""


def golden_of(engine, contract: Contract, frames: np.ndarray) -> Golden:
    """What ``engine`` answers to ``frames``, as the golden trajectory of a source like it."""
    states = {s.name: [np.zeros(s.shape, np.float32)] for s in contract.states}
    answers: dict[str, list[np.ndarray]] = {o.name: [] for o in contract.outputs}
    for frame in frames:
        answer, after = engine.step(frame[None], {n: v[-1] for n, v in states.items()})
        for name, value in answer.items():
            answers[name].append(value)
        for name, value in after.items():
            states[name].append(value)
    trajectory = Trajectory(
        frames[:, None],
        {name: np.stack(values) for name, values in answers.items()},
        {name: np.stack(values) for name, values in states.items()},
    )
    return Golden((trajectory,))


def write_null(path: Path, contract: Contract = CONTRACT, **behaviour: object) -> Path:
    """Write one that behaves so; what the runtime does not know only makes it another bundle."""
    parameters = {"decay": 0.5, "sharpness": 8.0}
    engine = runtimes.get("null").load({"json": json.dumps(parameters).encode()}, contract)
    frames = pictures(6, contract.frame.height, contract.frame.width)
    golden = golden_of(engine, contract, frames)
    files = {"json": json.dumps({**parameters, "behaviour": behaviour}).encode()}
    artifact = Artifact(name="null-float32", format="null", quantize="float32")
    bundle.write(path, contract, [(artifact, files)], golden.to_members(), {})
    return path
