"""Whether a release is healthy, judged on the device from the runner's own status."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .manifest import Manifest
from .service import ServiceControl

POLL_S = 0.25
START_S = 300.0
BEGIN_S = 20.0
"""Time allowed until the service has a process."""
SHORT_S = 8.0
"""A health window shorter than this is compared with its start, a longer one with its middle."""


class HealthOptions(NamedTuple):
    """What a release must show before it is kept."""

    seconds: float = 20.0
    p95_ms: float | None = None
    allow_degraded: bool = False
    start_s: float = START_S

    @classmethod
    def read(cls, data: dict[str, Any] | None) -> HealthOptions:
        """From a request."""
        return cls(**{key: value for key, value in (data or {}).items() if key in cls._fields})


class Unhealthy(Exception):
    """A release that must not be kept: the stage that failed, and one line."""

    def __init__(self, stage: str, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.stage, self.message, self.exit_code = stage, message, exit_code


class HealthCheck:
    """Watches one service over its health window."""

    def __init__(
        self,
        service: ServiceControl,
        manifest: Manifest,
        options: HealthOptions,
        report: Callable[[str], None],
    ) -> None:
        self._service, self._manifest, self._options, self._report = (
            service,
            manifest,
            options,
            report,
        )
        self._seen = self._served = False
        self._began = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Wait until it serves, watch it for the health window, then give a summary.

        Raises:
            Unhealthy: the release must not be kept.
        """
        self._report("waiting until the service serves")
        first = middle = last = self._until(self._serves, "start")
        began, self._served = time.monotonic(), True
        half = 0.0 if self._options.seconds < SHORT_S else self._options.seconds / 2
        elapsed = 0.0
        while elapsed < self._options.seconds:
            time.sleep(POLL_S)
            elapsed = time.monotonic() - began
            self._report(f"serving for {elapsed:.0f} of {self._options.seconds:g} s")
            last = self._look() or last
            if elapsed <= half:
                middle = last
        last = self._until(lambda document: not _proving(document), "engine")
        self._decide(middle if half else first, last)
        return summary(last)

    def _until(self, is_so: Callable[[dict[str, Any]], bool], stage: str) -> dict[str, Any]:
        while True:
            document = self._look()
            if document is not None and is_so(document):
                return document
            if time.monotonic() - self._began > self._options.start_s:
                raise Unhealthy(stage, f"it does not serve after {self._options.start_s:g} s")
            time.sleep(POLL_S)

    def _look(self) -> dict[str, Any] | None:
        """The status of the process that runs now; raises `Unhealthy` if it has ended."""
        state = self._service.state()
        absent = state.phase == "absent" and (self._seen or self._late())
        self._seen = self._seen or state.pid is not None
        if absent or state.phase == "ended" or state.restarts:
            code = state.exit_code
            how = "" if code is None else f" with exit code {code}"
            raise Unhealthy("serve" if self._served else "start", f"the service ended{how}", code)
        document = self._service.status(state.pid)
        if document is None or document.get("pid") != state.pid:
            return None
        return document

    def _late(self) -> bool:
        return time.monotonic() - self._began > BEGIN_S

    def _serves(self, document: dict[str, Any]) -> bool:
        if document.get("state") != "serving":
            return False
        keys = {bundle.get("key") for bundle in document.get("bundles") or ()}
        return all(key in keys for key in self._manifest.keys.values() if key)

    def _decide(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        if after.get("state") != "serving":
            raise Unhealthy("serve", f"the service is {after.get('state')}, not serving")
        if after.get("degraded") and not self._options.allow_degraded:
            raise Unhealthy("engine", f"it is degraded: {_why(after)}")
        counts = _counts(before)
        lanes = list(_lanes(after))
        if not lanes:
            raise Unhealthy("frames", "it has no camera")
        for key, source, lane in lanes:
            now, then = _count(lane), counts.get(key, (0, 0))
            if source.get("state") == "ended" and now[0]:
                continue
            if now[0] <= then[0]:
                raise Unhealthy("frames", f"{key[0]}: no frames arrive{_detail(source)}")
            if now[1] <= then[1]:
                raise Unhealthy("frames", f"{key[0]}: frames arrive, but none is processed")
        worst = p95_ms(after)
        if self._options.p95_ms is not None:
            if worst is None:
                raise Unhealthy("latency", "no latency is reported")
            if worst > self._options.p95_ms:
                limit = self._options.p95_ms
                raise Unhealthy(
                    "latency", f"p95 is {worst:.1f} ms, more than the {limit:g} ms allowed"
                )


def _lanes(
    document: dict[str, Any],
) -> Iterator[tuple[tuple[str, str, str], dict[str, Any], dict[str, Any]]]:
    for camera in document.get("cameras") or ():
        for source in camera.get("sources") or ():
            for lane in source.get("lanes") or ():
                key = (camera["name"], str(source.get("name")), str(lane.get("bundle")))
                yield key, source, lane


def _count(lane: dict[str, Any]) -> tuple[int, int]:
    """Frames captured and frames processed; a still frame that was gated is processed, too."""
    frames = lane["frames"]
    return frames["captured"], frames["answered"] + frames.get("gated", 0)


def _counts(document: dict[str, Any]) -> dict[tuple[str, str, str], tuple[int, int]]:
    return {key: _count(lane) for key, _, lane in _lanes(document)}


def _detail(source: dict[str, Any]) -> str:
    parts = [str(source[key]) for key in ("state", "reason", "detail") if source.get(key)]
    return f" ({': '.join(parts)})" if parts else ""


def _engines(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for bundle in document.get("bundles") or ():
        yield str(bundle.get("name")), bundle.get("engine") or {}


def _proving(document: dict[str, Any]) -> bool:
    """Whether an accelerator is still being proven, and may take over."""
    return bool(document.get("degraded")) and any(
        store.get("state") == "proving"
        for _, engine in _engines(document)
        for store in engine.get("places") or ()
    )


def _why(document: dict[str, Any]) -> str:
    reasons = [f"{name}: {e.get('reason')}" for name, e in _engines(document) if e.get("degraded")]
    return "; ".join(reasons) or "no reason is reported"


def p95_ms(document: dict[str, Any]) -> float | None:
    """The worst camera's p95."""
    found = []
    for _, _, lane in _lanes(document):
        latency = lane.get("latency_ms") or {}
        found += [float(latency[name]) for name in ("p95",) if name in latency]
    return max(found) if found else None


def summary(document: dict[str, Any]) -> dict[str, Any]:
    """What the journal keeps of a status document."""
    return {
        "degraded": bool(document.get("degraded")),
        "p95_ms": p95_ms(document),
        "frames": document.get("frames"),
        "engines": {name: engine.get("serving") for name, engine in _engines(document)},
        "alarms": document.get("alarms") or [],
    }
