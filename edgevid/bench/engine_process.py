"""The process that measures one engine: ``python -m edgevid.bench.engine_process``.

It imports only what a serving process imports, so that its memory and the time to its first
prediction are those of a serving process. Its requests, see `edgevid.bench.measurement`:

    open       load the engine, which has been verified
    first      process one frame of the video, or one golden step if the model takes no video;
               returns the age of the process
    round      measure one round of a job
    overhead   measure the harness itself
    end        return the peak memory
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevid import registry
from edgevid.bench import overhead
from edgevid.bench.job import Job
from edgevid.bench.playback import play
from edgevid.bench.scenarios import BoundedClip, RoundOptions, ScenarioSetup
from edgevid.bundle import Bundle
from edgevid.documents import to_json
from edgevid.isolation.json_rpc import serve_json_rpc
from edgevid.media.sources import SourceOptions
from edgevid.proof import Golden
from edgevid.runner.engines import open_engine
from edgevid.runner.meters import Meters
from edgevid.runner.stream_pipeline import DirectOutput
from edgevid.runner.worker import WorkerEngine
from edgevid.system.process import age_s, first_answer_age_s, peak_rss_mb

if TYPE_CHECKING:
    from edgevid.bench.scenarios import Scenario
    from edgevid.runtimes import Engine


class EngineProcess:
    """One engine and the scenarios that it is measured in."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._scenarios: dict[str, Scenario] = {}

    def handle(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Handle one request."""
        answer: Mapping[str, Any] = getattr(self, f"_{request['do']}")(request)
        return answer

    def _open(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self._bundle = Bundle.open(Path(request["bundle"]))
        self._video = Path(request["video"])
        job = Job.from_json(request["job"])
        engine, choice = open_engine(
            self._bundle, [job.choice], threads=job.threads, report=lambda line: None
        )
        self._engine = engine
        pids = [os.getpid()]
        if isinstance(engine, WorkerEngine):
            pids.append(engine.pid)
        self._pids = pids
        return {
            "precision": engine.precision,
            "serving": {
                "artifact": choice.artifact,
                "runtime": engine.runtime,
                "accelerator": engine.accelerator,
            },
            "pids": pids,
            "ready_s": round(age_s(), 3),
        }

    def _first(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._engine is not None
        if not self._bundle.contract.is_video:
            one = Golden.read(self._bundle).trajectories[0]
            self._engine.step(one.inputs_at(0), one.state_at(0))
            return {"first_answer_s": round(age_s(), 3)}
        options = _options(Job.from_json(request["job"]))
        meters, clip = Meters(), BoundedClip(self._video, options, until_s=0.0, least=1)
        output = DirectOutput(bool)
        play(clip, self._bundle.contract, self._engine, output, rate_fps=None, meters=meters)
        return {"first_answer_s": first_answer_age_s([meters.first_answer_s])}

    def _round(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        job = Job.from_json(request["job"])
        key = json.dumps(job.to_json(), sort_keys=True)
        if key not in self._scenarios:
            self._scenarios[key] = self._prepared(job)
        options = RoundOptions(float(request["seconds"]), int(request["samples"]))
        started = time.time()
        found: Mapping[str, Any] = to_json(self._scenarios[key].round(options).result(started))
        return found

    def _prepared(self, job: Job) -> Scenario:
        assert self._engine is not None
        setup = ScenarioSetup(
            self._bundle,
            job.artifact,
            self._engine,
            self._video,
            rate_fps=job.rate_fps or self._bundle.contract.rate_fps,
            latency_s=(job.latency_ms or 0.0) / 1000,
            options=_options(job),
        )
        made: Scenario = registry.load("scenario", job.scenario)(setup)
        return made

    def _overhead(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = to_json(overhead.measure(Bundle.open(Path(request["bundle"]))))
        return found

    def _end(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"peak_rss_mb": round(sum(map(peak_rss_mb, self._pids)), 1)}


def _options(job: Job) -> SourceOptions:
    return SourceOptions(
        decoder=job.decoder, skip_loop_filter=job.skip_loop_filter, frame_threads=False
    )


if __name__ == "__main__":
    serve_json_rpc(EngineProcess().handle)
