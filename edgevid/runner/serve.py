"""A whole run: an engine, sources one after another, sinks, and the summary at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.runner.engines import Choice, open_engine
from edgevid.runner.meters import Meters
from edgevid.runner.pipeline import Sink, run
from edgevid.runner.process import age_s, peak_rss_mb

if TYPE_CHECKING:
    from edgevid.bundle import Bundle
    from edgevid.contract import Contract
    from edgevid.runtimes import Engine


def rate_fps(wish: str | None, contract: Contract) -> float | None:
    """Steps a second from what was asked: the model's own rate, a number, or ``all`` (`None`)."""
    if wish is None:
        return contract.frame.rate_fps
    if wish == "all":
        return None
    try:
        rate = float(wish)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise BadInput(f"--rate is {wish!r}; give all, or steps a second such as 12.5")
    return rate


def serve(
    bundle: Bundle,
    wanted: list[Choice],
    sources: list[str],
    sinks: list[Sink],
    *,
    rate_fps: float | None,
    threads: int | None = None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Answer every source in turn with the first engine that serves; give the summary.

    Each source starts with an empty memory. Sources are opened before the engine is, so that a
    misspelt name costs no wait.
    """
    open_source = registry.load("source", "file")
    opened = [open_source(name) for name in sources]
    engine, choice = open_engine(bundle, wanted, threads=threads, say=say)
    meters = Meters()
    try:
        for source in opened:
            run(source, bundle.contract, engine, sinks, rate_fps=rate_fps, meters=meters)
    finally:
        for source in opened:
            source.close()
        engine.close()
    return summary(meters, choice, engine)


def summary(meters: Meters, choice: Choice, engine: Engine) -> dict[str, Any]:
    """What a run did, as plain data for JSON."""
    return {
        "frames": meters.frames.to_json(),
        "fps": round(meters.fps, 2),
        "latency_ms": meters.latency.percentiles_ms(),
        "stages_ms": {name: stage.mean_ms() for name, stage in meters.stages.items()},
        "first_answer_s": first_answer_age_s(meters),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "artifact": choice.artifact,
        "runtime": choice.runtime,
        "accelerator": choice.accelerator,
        "precision": engine.precision,
        "truncated": meters.truncated,
    }


def first_answer_age_s(meters: Meters) -> float | None:
    """Seconds from the start of this process to its first answer."""
    if meters.first_answer_s is None:
        return None
    return round(age_s() - (time.perf_counter() - meters.first_answer_s), 3)
