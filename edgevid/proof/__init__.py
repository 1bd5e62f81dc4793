"""Replay of the golden trajectory: does this engine, on this machine, do what the model did?

The golden trajectory is a few recorded streams with what the source model answered and remembered,
and what each artifact gave on the CPU of the machine that made it. It is replayed twice: with the
recorded state, which finds the step that is wrong, and with the engine's own state carried on, as
in service, which finds drift. A short encoded clip with its expected pixels proves decoding and
geometry too.

Native libraries abort, hang and lie, so an engine is first loaded and proven in a child process
(`prove_in_child`); the verdict is remembered per bundle, runtime version and machine.
"""

from edgevid.proof.golden import SOURCE, Golden, Taken, Trajectory
from edgevid.proof.replay import Check, compare, replay, replay_artifact
from edgevid.proof.verdict import Verdict, prove_in_child, require
from edgevid.proof.verify import verify

__all__ = [
    "SOURCE",
    "Check",
    "Golden",
    "Taken",
    "Trajectory",
    "Verdict",
    "compare",
    "prove_in_child",
    "replay",
    "replay_artifact",
    "require",
    "verify",
]
