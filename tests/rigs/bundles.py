"""Bundles of the built-in arithmetic step, which need no library to run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgevid import bundle, runtimes
from edgevid.bundle import Artifact
from edgevid.contract import Contract, FrameInput, Output, StateTensor
from edgevid.proof import Golden, Trajectory
from rigs.videos import moving_images

CONTRACT = Contract(
    task="classification",
    inputs=(FrameInput("frame", 16, 24),),
    rate_fps=16.0,
    outputs=(Output("scores", (1, 3)),),
    labels=("dark", "middle", "bright"),
    temporal="carry",
    frames=4,
    states=(StateTensor("level", (1, 2)),),
)
"""A small classifier with a carried memory."""


def golden_of(engine, contract: Contract, inputs: dict[str, np.ndarray]) -> Golden:
    """What ``engine`` returns for ``inputs`` (S, *shape), as the golden trajectory of a source."""
    states = {s.name: [np.zeros(s.shape, np.float32)] for s in contract.states}
    answers: dict[str, list[np.ndarray]] = {o.name: [] for o in contract.outputs}
    for step in range(len(next(iter(inputs.values())))):
        now = {name: values[step] for name, values in inputs.items()}
        answer, after = engine.step(now, {n: v[-1] for n, v in states.items()})
        for name, value in answer.items():
            answers[name].append(value)
        for name, value in after.items():
            states[name].append(value)
    trajectory = Trajectory(
        inputs,
        {name: np.stack(values) for name, values in answers.items()},
        {name: np.stack(values) for name, values in states.items()},
    )
    return Golden((trajectory,))


def inputs_of(contract: Contract, steps: int) -> dict[str, np.ndarray]:
    """Moving images and numbers in 0..1 for every input of a contract: name -> (S, *shape)."""
    rng = np.random.default_rng(0)
    found = {}
    for number, one in enumerate(contract.inputs):
        if one.kind == "frame":
            found[one.name] = np.roll(moving_images(steps, one.height, one.width), number, 0)[
                :, None
            ]
        else:
            found[one.name] = rng.random((steps, *one.shape)).astype(np.float32)
    return found


def write_null(path: Path, contract: Contract = CONTRACT, **behaviour: object) -> Path:
    """Write one that behaves so; what the runtime does not know only makes it another bundle."""
    parameters = {"decay": 0.5, "sharpness": 8.0}
    engine = runtimes.get("null").load({"json": json.dumps(parameters).encode()}, contract)
    golden = golden_of(engine, contract, inputs_of(contract, 6))
    files = {"json": json.dumps({**parameters, "behaviour": behaviour}).encode()}
    artifact = Artifact(name="null-float32", format="null", quantize="float32")
    bundle.write(path, contract, [(artifact, files)], golden.to_members(), {})
    return path
