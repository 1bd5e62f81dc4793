"""A model that is served: its bundle, its engines and the thread that steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgevid import targets
from edgevid.bundle import Bundle
from edgevid.errors import BadInput
from edgevid.runner import tuned
from edgevid.runner.engine_failover import EngineFailover
from edgevid.runner.engines import choices, preferring
from edgevid.runner.scheduler import Scheduler

if TYPE_CHECKING:
    from edgevid.contract import Contract
    from edgevid.runner.config import BundleUse

FINISH_S = 5.0
"""How long an orderly end may take; whatever hangs after that is left to the kernel."""


def rate_fps(text: str | None, contract: Contract) -> float | None:
    """Read a rate of steps.

    Args:
        text: ``all``, a number, or None for the model's own rate.
        contract: The model's contract.

    Returns:
        Steps per second; None steps every frame.

    Raises:
        BadInput: The text is neither ``all`` nor a number above 0.
    """
    if text is None:
        return contract.rate_fps
    if text == "all":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise BadInput(f"--rate is {text!r}; give all, or steps per second such as 12.5")
    return rate


def may_skip_loop_filter(uses: Sequence[BundleUse]) -> bool:
    """Whether tuning found every one of these models as accurate without the loop filter."""
    found = [tuned.chosen(use, Bundle.open(use.path)) for use in uses]
    return bool(found) and all(one is not None and one.skip_loop_filter for one in found)


@dataclass
class ServedModel:
    """One model of a service."""

    use: BundleUse
    bundle: Bundle
    failover: EngineFailover
    scheduler: Scheduler
    thread: threading.Thread

    @classmethod
    def open(cls, use: BundleUse, *, live: bool, report: Callable[[str], None]) -> ServedModel:
        """Open a bundle and prove its engines; raises what `EngineFailover` raises.

        Args:
            use: The bundle and its engine, as configured.
            live: Whether a stream may be live. If so, the CPU serves while accelerators are proven.
            report: Gets one line for each change of engines.
        """
        bundle = Bundle.open(use.path)
        bundle.contract.require_video(str(use.path))
        rate_fps(use.rate, bundle.contract)
        wanted = choices(
            bundle,
            targets.load("local"),
            artifact=use.artifact,
            runtime=use.runtime,
            accelerator=use.accelerator,
        )
        best = tuned.chosen(use, bundle)
        if best is not None:
            wanted = preferring(wanted, best.choice)
            report(
                f"{bundle.path.name}: tuned: {best}; to undo, run: edgevid bench --tune --forget"
            )
        threads = use.threads or (best.threads if best else None)
        failover = EngineFailover(bundle, wanted, threads=threads, report=report, wait=not live)
        tolerance = bundle.artifact(failover.choice.artifact).tolerance
        scheduler = Scheduler(failover, tolerance.get(failover.precision, 0.0))
        name = f"scheduler of {use.name}"
        thread = threading.Thread(target=scheduler.run, name=name, daemon=True)
        return cls(use, bundle, failover, scheduler, thread)

    def finish(self) -> None:
        """Step the frames that wait, and wait for that, but not forever."""
        self.scheduler.finish()
        if self.thread.ident is not None:
            self.thread.join(FINISH_S)

    def close(self) -> None:
        """Release the engines, unless one of them hangs."""
        if not self.thread.is_alive():
            self.failover.close()
