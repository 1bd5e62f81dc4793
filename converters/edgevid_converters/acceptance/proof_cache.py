"""Replays of earlier conversions: the same bundle in the same runtime gives the same verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgevid.bundle import Bundle
from edgevid.proof import Verdict
from edgevid.proof.verdict import engine_identity
from edgevid_converters import conversion_cache


def remembered_verdict(
    draft: Path, artifact: str, runtime: str, record: Path, replay: Callable[[], Verdict]
) -> Verdict:
    """Return an earlier verdict with what was recorded, or replay and keep both.

    Args:
        draft: A bundle with the artifact and the golden trajectories; it is all that a replay
            depends on, but for the runtime.
        artifact: Name of the artifact.
        runtime: Name of the runtime.
        record: The file that a replay writes.
        replay: Replays in a child process. What crashed or hung there is not kept.
    """
    cache = conversion_cache.current()
    if cache is None:
        return replay()
    identity = {"unit": "proof", **engine_identity(Bundle.open(draft), artifact, runtime, "cpu")}
    known = cache.fetch(identity, record.parent)
    if known is not None:
        return Verdict(**known)
    verdict = replay()
    if verdict.precision is not None and record.exists():
        cache.store(identity, verdict.to_json(), record.parent, [record])
    return verdict
