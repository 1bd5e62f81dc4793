"""The result of a job on a device, validated before any of it is used or sent back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgevid.bench.result import BenchResult, ForgottenTuning, TuningResult
from edgevid.flash import replies
from edgevid.runner.tuned import Tuned

_NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class _TuningContent:
    """What `edgevid.runner.tuned` stores."""

    identity: Mapping[str, Any]
    tuned: Tuned


def check(document: Mapping[str, Any], device: str) -> None:
    """Check that a document is a result of ``edgevid bench``.

    Args:
        document: The document.
        device: The device's name, for messages.

    Raises:
        DeviceFailed: It is not.
    """
    tuned = document.get("tuned")
    forgets = isinstance(tuned, Mapping) and tuned.get("choice", "") is None
    replies.read(ForgottenTuning if forgets else BenchResult, document, device)


def tuning(document: Mapping[str, Any], device: str) -> dict[str, Any] | None:
    """Return the fields of the request that stores a result's tuning.

    Args:
        document: The result.
        device: The device's name, for messages.

    Returns:
        ``name``, and ``content`` rebuilt from the known fields of a tuning (None to forget the
        stored one); None if the result has no tuning.

    Raises:
        DeviceFailed: It is not a valid tuning.
    """
    if not document.get("tuned"):
        return None
    found = replies.read(TuningResult, document["tuned"], device)
    if not _NAME.fullmatch(found.name):
        replies.unreadable(device, "tuned.name is not the name of a tuning")
    if found.content is None:
        return {"name": found.name, "content": None}
    content = replies.read(_TuningContent, found.content, device)
    return {"name": found.name, "content": asdict(content)}
