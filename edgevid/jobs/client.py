"""A bench on a device: the command runs there as a job, and its document is fetched.

The device measures with the runner that was deployed there, if that is this version of edgevid and
has the required runtimes, or else with a temporary runner in a folder of its own, which is removed
afterwards. The job continues if the link is lost or this process is killed, and the same command
finds it again, running or ended.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from edgevid.bundle import Bundle
from edgevid.errors import (
    BadInput,
    CheckFailed,
    DeviceFailed,
    EdgevidError,
    EnvironmentFailed,
    Inconclusive,
)
from edgevid.files import sha256_of
from edgevid.flash import device_code, fleet, package, plan, replies
from edgevid.flash.activation import LINK_LOST, RETRY_S
from edgevid.flash.agent.job_protocol import DOCUMENT, FILES, TRIAL
from edgevid.flash.agent_client import AgentClient, agent_source
from edgevid.flash.blob_transfer import missing_blobs, send
from edgevid.flash.device_facts import DeviceFacts, missing_requirements
from edgevid.flash.installed import Installed, InstalledManifest, look
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.keys import SigningKey
from edgevid.flash.replies import (
    CHECK,
    JOB,
    JOB_END,
    JOB_READ,
    JOB_STATE,
    MOST_DOCUMENT_BYTES,
    SESSION,
    STAGE,
    TUNED,
    UNINSTALL,
    JobStateReply,
    Verb,
)
from edgevid.flash.service_config import to_toml
from edgevid.flash.signed_request import sign
from edgevid.jobs import result
from edgevid.jobs.request import BenchRequest, BenchStopped, DeviceLost
from edgevid.jobs.stderr import StderrLines
from edgevid.progress import Progress, silent
from edgevid.remote import Remote
from edgevid.targets import Target

POLL_S = 1.0
CLEAN_S = 60.0
BUSY_S = 30.0

Log = Callable[[str], None]
Given = TypeVar("Given")
Reply = TypeVar("Reply")


@dataclass
class _Location:
    """Where the job runs: a session with the agent there, and whether its runner is temporary."""

    device: AgentClient
    release: str | None
    temporary: bool

    def ask(self, verb: Verb[Reply], **fields: Any) -> Reply:
        """Send the agent a request."""
        return self.device.call(verb, fields)


def bench(
    entry: DeviceEntry,
    request: BenchRequest,
    *,
    key: Callable[[], SigningKey],
    progress: Progress = silent,
    log: Log = lambda _: None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Measure on one device.

    Args:
        entry: The device.
        request: What to measure.
        key: Gives the key that signs a temporary runner.
        progress: Receives progress.
        log: Receives messages.
        stop: Ends the bench from another thread.

    Returns:
        The result document of the device.

    Raises:
        BenchStopped: The bench was stopped; nothing is left on the device.
        DeviceLost: The device was out of sight for too long. The job continues there, and the same
            request takes it over.
        DeviceFailed: The device cannot be reached, or cannot run the bench.
        BadInput: The device cannot run the bundle, or the command there rejects its arguments.
        CheckFailed: The command there failed a check.
        Inconclusive: The command there has no result.
        EnvironmentFailed: The command there was killed, or took too long.
    """
    with Remote(entry.address, trust_new=request.trust_new) as remote:
        run = BenchRun(entry, request, remote, key, progress, log, stop or threading.Event())
        return run.bench()


class BenchRun:
    """One bench on one device."""

    def __init__(
        self,
        entry: DeviceEntry,
        request: BenchRequest,
        remote: Remote,
        key: Callable[[], SigningKey],
        progress: Progress,
        log: Log,
        stop: threading.Event,
    ) -> None:
        self.entry, self.request, self.remote = entry, request, remote
        self._key, self._progress, self._log, self._stop = key, progress, log, stop
        self._made: package.Package | None = None
        self._asked = False
        self._main = self._device(request.root or entry.root)

    def _device(self, root: str | None) -> AgentClient:
        device = AgentClient(self.remote, root, key=self._key)
        device.name = self.entry.name
        return device

    def log(self, text: str) -> None:
        """Log a message about this device."""
        self._log(f"{self.entry.name}: {text}")

    def bench(self) -> dict[str, Any]:
        """Run the job to its end and clean up; returns its document."""
        facts, installed = look(self._main)
        target = self._target(facts, installed)
        place = self._place(facts, installed, target)
        name = self.request.name(target)
        with self._tidy(place, name):
            self._across_links(lambda: self._begin(place, name, facts, target))
            document = self.fetch_document(place, name, *self._followed(place, name))
            document |= self._about(place, installed, target)
            result.check(document, self.entry.name)
            if tuned := result.tuning(document, self.entry.name):
                document["tuned"]["kept"] = self._across_links(
                    lambda: self._main.call(TUNED, tuned).kept
                )
        return document

    # ------------------------------------------------------------ the location

    def _target(self, facts: DeviceFacts, installed: Installed) -> Target:
        there = installed.content.target if installed.content else None
        kind = self.request.kind or self.entry.target or there
        target = plan.choose(self.entry.name, kind, facts, self._log)
        blocking = [lack for lack in missing_requirements(facts, target) if lack.blocks]
        plan.stop(self.entry.name, blocking, self._log)
        return target

    def _place(self, facts: DeviceFacts, installed: Installed, target: Target) -> _Location:
        if installed.content is not None and self.runner_fits(installed.content, facts, target):
            return _Location(self._main, installed.current, temporary=False)
        return _Location(self._device(facts.root + TRIAL), None, temporary=True)

    def runner_fits(self, manifest: InstalledManifest, facts: DeviceFacts, target: Target) -> bool:
        """Whether a deployed runner is this version of edgevid and has what the bundle needs."""
        there = manifest.runner.wheels
        if sha256_of(device_code.archive(target)) not in {wheel.sha256 for wheel in there}:
            return False
        wanted = package.wanted_wheels(facts, target, [self._bundle], self._site)
        projects = {_project(wheel.name) for wheel in there} | set(wanted.provided)
        return all(_project(requirement) in projects for requirement in wanted.requirements)

    @property
    def _bundle(self) -> Bundle:
        return Bundle.open(self.request.bundle)

    @property
    def _site(self) -> bytes:
        """A service configuration that only names the required runtimes."""
        return to_toml({"bundle": [{"runtime": name} for name in self.request.runtimes]})

    # ------------------------------------------------------------ starting

    def _begin(self, place: _Location, name: str, facts: DeviceFacts, target: Target) -> None:
        """Send what is missing, and start the job; then the device's lock is free again."""
        request = self.request
        reported = place.ask(JOB_STATE, id=name)
        if reported.state in ("running", "ended"):
            if not self._asked:
                self.log(f"the same benchmark is already there, {reported.state}; attaching to it")
            return
        if reported.busy and not request.end_other:
            raise DeviceFailed(
                f"{self.entry.name}: another benchmark is running there; wait until it ends, or "
                "stop it with --end-other",
                "occupied",
            )
        self.log(
            "measures "
            + ("with a temporary runner" if place.temporary else "with the deployed runner")
        )
        if request.end_other:
            place.ask(JOB_END)
        if place.temporary:
            place.release = self._stage(place, facts, target)
        place.ask(SESSION, trial=True)
        files: dict[str, Path | bytes] = {
            "agent.py": agent_source(),
            request.bundle.name: request.bundle,
            request.source.name: request.source,
        }
        if len(files) < 3:
            raise BadInput(f"{request.bundle} and {request.source} have the same name; rename one")
        named = {file: sha256_of(content) for file, content in files.items()}
        self._send(place, {named[file]: one for file, one in files.items()}, facts.root)
        args = ["bench", f"../{FILES}/{request.bundle.name}", "--source"]
        args += [f"../{FILES}/{request.source.name}", "--out", DOCUMENT, *request.args]
        self._asked = True
        place.ask(
            JOB,
            id=name,
            release=place.release,
            args=args,
            files=named,
            deadline_s=request.deadline_s,
            pause=facts.root if request.pause_service else None,
            throw_away=place.temporary and not request.keep_runner,
        )
        place.device.close()

    def _stage(self, place: _Location, facts: DeviceFacts, target: Target) -> str:
        """Stage a temporary runner; returns its release."""
        if self._made is None:
            self._made = package.build(
                facts,
                target,
                [self.request.bundle],
                self._site,
                plugins=self.request.wheels,
                progress=self._working,
                log=self._log,
            )
        made = self._made
        signed = sign(made, self._key(), device=look(place.device)[1].id)
        place.ask(CHECK, **signed)
        place.ask(SESSION, trial=True)
        self._send(place, made.blobs, facts.root)
        place.ask(STAGE, trial=True, **signed)
        return made.release

    def _send(self, place: _Location, blobs: Mapping[str, Path | bytes], beside: str) -> None:
        """Send what is missing, unless the device's own folder ``beside`` has it."""
        sizes = {sha256: package.size_of(blob) for sha256, blob in blobs.items()}
        missing = missing_blobs(place.device, sizes, beside)
        limit = self.request.limit_kbit
        send(place.device, blobs, missing, limit_kbit=limit, progress=self._working)

    def _working(self, what: str, done: int, total: int, note: str = "") -> None:
        self._check()
        self._progress(what, done, total, note)

    # ------------------------------------------------------------ following

    def _followed(self, place: _Location, name: str) -> tuple[JobStateReply, str]:
        """Wait for the end of the job, across lost links, and pass on its stderr.

        Returns:
            The last state, and the last line of the stderr.
        """
        offset, lines = 0, StderrLines(self.log, self._progress)
        until = time.monotonic() + self.request.deadline_s + self.request.out_of_sight_s
        while True:
            reported = self._across_links(lambda at: place.ask(JOB_STATE, id=name, said=at), offset)
            offset = reported.said
            more = lines.feed(reported.stderr)
            if reported.state == "ended" and not (reported.stderr and more):
                return reported, lines.last
            if reported.state in ("lost", "absent"):
                raise EnvironmentFailed(
                    f"{self.entry.name}: the job was killed, or the device was restarted; try again"
                )
            if time.monotonic() > until:
                raise EnvironmentFailed(
                    f"{self.entry.name}: the job did not end in time; measure less at once"
                )
            if reported.state == "running":
                self._check(POLL_S)

    def fetch_document(
        self, place: _Location, name: str, end: JobStateReply, last: str = ""
    ) -> dict[str, Any]:
        """Fetch the job's document.

        Args:
            place: Where the job ran.
            name: The job's id.
            end: The job's final state.
            last: The last line of its stderr.

        Returns:
            The document.

        Raises:
            DeviceFailed: The document is damaged, too large or not a document.
            EdgevidError: The job failed; this is its own error.
        """
        if end.document is None:
            self._raise(end, last)
        size, content = end.document.size, bytearray()
        if size > MOST_DOCUMENT_BYTES:
            raise DeviceFailed(f"{self.entry.name}: its result is too large; measure less at once")
        while len(content) < size:
            reply = self._across_links(
                lambda at: place.ask(JOB_READ, id=name, file="document", offset=at), len(content)
            )
            if not reply.content:
                break
            content += replies.part(reply, size - len(content), self.entry.name)
            self._progress("fetching", len(content), size)
        if sha256_of(bytes(content)) != end.document.sha256:
            raise DeviceFailed(f"{self.entry.name}: its result is damaged; try again")
        return replies.frame(bytes(content), self.entry.name)

    def _raise(self, end: JobStateReply, last: str) -> NoReturn:
        kinds: dict[Any, type[EdgevidError]] = {1: CheckFailed, 2: BadInput, 3: Inconclusive}
        if end.why == "deadline":
            hours = self.request.deadline_s / 3600
            raise EnvironmentFailed(
                f"{self.entry.name}: it was stopped after {hours:.3g} hours; measure less at once"
            )
        text = last.removeprefix("edgevid: ") if end.why == "ended" else end.why
        error = kinds.get(end.exit_code, EnvironmentFailed)
        raise error(f"{self.entry.name}: {text or 'it ended without a message'}")

    def _about(self, place: _Location, installed: Installed, target: Target) -> dict[str, Any]:
        """The origin of the document."""
        service = None
        if installed.current is not None:
            service = "paused" if self.request.pause_service else "beside"
        return {
            "release": None if place.temporary else place.release,
            "throw_away": place.temporary,
            "service": service,
            "device": {"name": self.entry.name, "target": target.name},
        }

    # ------------------------------------------------------------ lost links, and cleaning up

    def _check(self, wait_s: float = 0.0) -> None:
        if self._stop.wait(wait_s) if wait_s else self._stop.is_set():
            raise BenchStopped(f"{self.entry.name}: interrupted; nothing is left there")

    def _across_links(self, act: Callable[..., Given], *args: Any) -> Given:
        """Call a function until the link holds, as long as the device may be out of sight."""
        until = time.monotonic() + self.request.out_of_sight_s
        lost = False
        while True:
            try:
                given = act(*args)
            except DeviceFailed as error:
                if error.kind not in LINK_LOST:
                    raise
                if time.monotonic() > until:
                    raise DeviceLost(self.entry.name) from error
                if not lost:
                    self._log(f"{error}; the job continues; reconnecting")
                lost = True
            else:
                if lost:
                    self.log("reconnected")
                return given
            self._check(RETRY_S)

    @contextmanager
    def _tidy(self, place: _Location, name: str) -> Iterator[None]:
        """Leave nothing on the device, unless it is out of sight."""
        try:
            yield
        except DeviceLost:
            raise
        except BaseException:
            place.device.close()  # a request may still be open
            with suppress(EdgevidError):
                self._clean(place, name)
            raise
        try:
            self._across_links(lambda: self._clean(place, name))
        except EdgevidError as error:  # the document matters more
            self.log(f"could not be cleaned up: {error}; the next benchmark will do it")

    def _clean(self, place: _Location, name: str) -> None:
        place.ask(JOB_END, id=name)
        until = time.monotonic() + BUSY_S
        while place.temporary and not self.request.keep_runner:
            try:
                place.ask(UNINSTALL, trial=True)
                break
            except DeviceFailed as error:  # an interrupted session of ours may take a moment to end
                if error.kind != "busy" or time.monotonic() > until:
                    raise
                time.sleep(POLL_S)
        place.device.close()


# ---------------------------------------------------------------- several devices


def bench_all(
    devices: Sequence[DeviceEntry],
    request: BenchRequest,
    *,
    key: Callable[[], SigningKey],
    parallel: int = fleet.PARALLEL,
    log: Log = print,
) -> list[fleet.Outcome]:
    """Measure on several devices at a time.

    An interrupt ends all of them, and leaves nothing on those that can be reached.

    Args:
        devices: The devices.
        request: What to measure.
        key: Gives the key that signs temporary runners.
        parallel: How many devices measure at a time.
        log: Receives messages.

    Returns:
        The outcome of each device, in their order. Its ``result`` has the ``document``, and its
        state is ``valid`` or ``INVALID``.
    """
    stop, ends = threading.Event(), []
    once = threading.Lock()

    def signer() -> SigningKey:
        with once:
            return key()

    def act(entry: DeviceEntry) -> dict[str, Any]:
        over = threading.Event()
        ends.append(over)
        try:
            document = bench(entry, request, key=signer, log=log, stop=stop)
        finally:
            over.set()
        return {"outcome": "valid" if document["valid"] else "INVALID", "document": document}

    everything = [len(devices)]
    try:
        return fleet.roll(
            devices, act, waves=everything, may_fail=len(devices), parallel=parallel, log=log
        )
    except KeyboardInterrupt:
        stop.set()
        until = time.monotonic() + CLEAN_S
        for over in list(ends):
            over.wait(max(0.0, until - time.monotonic()))
        raise


# ---------------------------------------------------------------- small things


def _project(text: str) -> str:
    """The normalised project of a wheel's file name or of a requirement."""
    found = re.match(r"[A-Za-z0-9._]+(?:-(?!\d)[A-Za-z0-9._]+)*", text)
    return re.sub(r"[-_.]+", "-", found[0] if found else text).lower()
