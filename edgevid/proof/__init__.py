"""Proof: does this engine, on this machine, compute what the model computed?

Golden trajectories are a few recorded streams with the source model's outputs and states, and each
artifact's outputs on the CPU of the machine that made it. They are replayed twice: with the
recorded state, which finds the step that is wrong, and with the engine's own state carried on, as
in service, which finds drift. A short encoded clip with its expected pixels proves decoding and
preprocessing too.

Native libraries abort, hang and return wrong results, so an engine is first loaded and proven in a
child process (`prove_in_child`); its verdict is cached per bundle, runtime version and machine.
"""

from edgevid.proof.golden import SOURCE, Golden, RecordedOutputs, Trajectory
from edgevid.proof.replay import ReplayResult, compare, replay, replay_artifact
from edgevid.proof.verdict import Verdict, prove_in_child, require
from edgevid.proof.verify import verify

__all__ = [
    "SOURCE",
    "Golden",
    "RecordedOutputs",
    "ReplayResult",
    "Trajectory",
    "Verdict",
    "compare",
    "prove_in_child",
    "replay",
    "replay_artifact",
    "require",
    "verify",
]
