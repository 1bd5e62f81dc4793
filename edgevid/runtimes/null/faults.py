"""Scheduled faults: when the stand-in fails, how, and for how long."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid.errors import BadInput, EngineFailed
from edgevid.registry import unknown

if TYPE_CHECKING:
    from edgevid.contract import Tensors

FALSIFIED = ("nan", "wrong")
KINDS = ("abort", "error", "freeze", "hang", *FALSIFIED, "vanish")
LOADING = -1


@dataclass
class Fault:
    """One fault. It begins at a step, after a time, or while a file exists; see `Faults`."""

    kind: str
    at: int | None = None
    after_s: float | None = None
    when: str | None = None
    times: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        """Read one entry of ``faults``.

        Raises:
            BadInput: A key or a kind is unknown, or it is not clear when the fault begins.
        """
        known = [field.name for field in fields(cls)]
        if unexpected := sorted(set(data) - set(known)):
            raise BadInput(unknown("key of a fault", unexpected[0], known))
        if data.get("kind") not in KINDS:
            raise BadInput(unknown("fault", str(data.get("kind")), KINDS))
        fault = cls(**data)
        if (fault.at, fault.after_s, fault.when).count(None) != 2:
            raise BadInput("a fault begins with one of: at, after_s, when")
        if fault.times is None and fault.when is None and fault.kind not in FALSIFIED:
            fault.times = 1
        return fault

    def strikes(self, step: int, age_s: float) -> bool:
        """Whether it strikes at this step; each strike is counted against ``times``."""
        if self.times == 0 or not self._has_begun(step, age_s):
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def _has_begun(self, step: int, age_s: float) -> bool:
        if self.when is not None:
            return step != LOADING and Path(self.when).exists()
        if self.after_s is not None:
            return step != LOADING and age_s >= self.after_s
        return self.at is not None and step >= self.at


class Faults:
    """The schedule of one engine; the steps of the proof count, too."""

    def __init__(self, entries: list[Mapping[str, Any]]) -> None:
        self._faults = [Fault.from_json(entry) for entry in entries]
        self._began_s = time.monotonic()
        self._step = LOADING

    def strike(self) -> str | None:
        """Do what is due at this step.

        Returns:
            How to falsify the step, one of `FALSIFIED`; None to leave it as it is.
        """
        step, age_s = self._step, time.monotonic() - self._began_s
        self._step += 1
        falsify = None
        for fault in self._faults:
            if fault.strikes(step, age_s):
                falsify = fault.kind if fault.kind in FALSIFIED else falsify
                _act(fault.kind)
        return falsify


def _act(kind: str) -> None:
    if kind == "error":
        raise EngineFailed("null engine failed on schedule")
    if kind == "abort":
        os.abort()
    if kind == "vanish":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "freeze":
        ctypes.PyDLL(None).sleep(3600)  # in native code, holding Python's lock
    while kind == "hang":
        time.sleep(3600)


def falsified(values: Tensors, kind: str) -> Tensors:
    """Plausible wrong values: the right ones in other positions, or only NaN."""
    import numpy as np

    if kind == "nan":
        return {name: np.full_like(value, np.nan) for name, value in values.items()}
    return {name: np.roll(value, 1, axis=-1) for name, value in values.items()}


def falsified_state(values: Tensors, kind: str) -> Tensors:
    """The same for a state, which is halved as well, so that a uniform one changes, too."""
    import numpy as np

    return {name: value * np.float32(0.5) for name, value in falsified(values, kind).items()}
