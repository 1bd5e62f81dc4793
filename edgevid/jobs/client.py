"""A bench on a device: the same command there, its document here.

The device measures with the runner that a flash put there, if that is this very edgevid and holds
the runtimes that are needed, else with a throw-away one in a folder beside, which goes again. What
runs there is a job of the agent: it goes on when the link is lost or this process is killed, and
the same command finds it again, running or done.
"""

from __future__ import annotations

import base64
import json
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
from edgevid.files import canonical_json, sha256_of
from edgevid.flash import device_code, fleet, package, plan
from edgevid.flash.activation import LINK_LOST, RETRY_S
from edgevid.flash.agent.job_protocol import DOCUMENT, FILES, TRIAL
from edgevid.flash.agent_client import AgentClient, agent_source
from edgevid.flash.blob_transfer import send
from edgevid.flash.device_facts import DeviceFacts, missing_requirements
from edgevid.flash.installed import Installed, look
from edgevid.flash.inventory import DeviceEntry
from edgevid.flash.keys import SigningKey
from edgevid.flash.service_config import to_toml
from edgevid.flash.signed_request import sign
from edgevid.progress import Progress, silent
from edgevid.remote import Remote
from edgevid.targets import Target

POLL_S = 1.0
PATIENCE_S = 600.0
"""How long a device may be out of sight; what it measures goes on meanwhile."""
DEADLINE_S = 4 * 3600.0
CLEAN_S = 60.0
BUSY_S = 30.0
_BAR = re.compile(r"([A-Za-z][\w ]*): (\d+)/(\d+) ?(.*)")

Log = Callable[[str], None]
Given = TypeVar("Given")


class BenchStopped(EnvironmentFailed):
    """The person wants no more of it."""


@dataclass(frozen=True)
class BenchRequest:
    """What is to be measured, and how; ``words`` are more words of ``edgevid bench`` there.

    ``source`` is a video file here. ``runtimes`` must be there besides those that would serve.
    ``kind`` is a target's name, ``root`` edgevid's folder there; None: found by looking. ``wheels``
    are those of plug-ins of other packages.
    """

    bundle: Path
    source: Path
    words: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    kind: str | None = None
    root: str | None = None
    pause_service: bool = False
    keep_runner: bool = False
    end_other: bool = False
    trust_new: bool = False
    deadline_s: float = DEADLINE_S
    limit_kbit: float | None = None
    patience_s: float = PATIENCE_S
    wheels: tuple[Path, ...] = ()

    def name(self, target: Target) -> str:
        """What the job is called: by all that decides what it gives."""
        content = {
            "bundle": sha256_of(self.bundle),
            "source": sha256_of(self.source),
            "words": [self.bundle.name, self.source.name, *self.words],
            "code": sha256_of(device_code.archive(target)),
            "pause": self.pause_service,
        }
        return sha256_of(canonical_json(content))[:16]


@dataclass
class _Location:
    """Where it is measured: the agent's session there, and whose runner it is."""

    device: AgentClient
    release: str | None
    throw_away: bool

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Ask the agent of this folder."""
        return self.device.call({"do": verb, **fields})


def bench(
    entry: DeviceEntry,
    request: BenchRequest,
    *,
    key: Callable[[], SigningKey],
    progress: Progress = silent,
    log: Log = lambda _: None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Measure on one device, and give its document.

    ``key`` signs a throw-away runner. ``stop`` ends it from another thread: then `BenchStopped` is
    raised, once nothing is left there. Raises `DeviceFailed` where the device cannot be reached, or
    was out of sight for too long: then it goes on there, and the same again takes it over.
    """
    with Remote(entry.address, trust_new=request.trust_new) as remote:
        run = _BenchRun(entry, request, remote, key, progress, log, stop or threading.Event())
        return run.bench()


class _BenchRun:
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
        device = AgentClient(self.remote, root)
        device.name = self.entry.name
        return device

    def log(self, text: str) -> None:
        """Tell the person something of this device."""
        self._log(f"{self.entry.name}: {text}")

    def bench(self) -> dict[str, Any]:
        """From the first look to nothing being left there."""
        facts, installed = look(self._main)
        target = self._target(facts, installed)
        place = self._place(facts, installed, target)
        name = self.request.name(target)
        with self._tidy(place, name):
            self._patiently(lambda: self._begin(place, name, facts, target))
            document = self._fetched(place, name, self._followed(place, name))
            document |= self._about(place, installed, target)
            if document.get("tuned"):
                document["tuned"]["kept"] = self._patiently(lambda: self._tuned(document["tuned"]))
        return document

    # ------------------------------------------------------------ where

    def _target(self, facts: DeviceFacts, installed: Installed) -> Target:
        manifest = json.loads(installed.manifest) if installed.manifest else {}
        kind = self.request.kind or self.entry.target or manifest.get("target")
        target = plan.choose(self.entry.name, kind, facts, self._log)
        blocking = [lack for lack in missing_requirements(facts, target) if lack.blocks]
        plan.stop(self.entry.name, blocking, self._log)
        return target

    def _place(self, facts: DeviceFacts, installed: Installed, target: Target) -> _Location:
        if installed.manifest is not None and self._serves(installed.manifest, facts, target):
            return _Location(self._main, installed.current, throw_away=False)
        return _Location(self._device(facts.root + TRIAL), None, throw_away=True)

    def _serves(self, manifest: bytes, facts: DeviceFacts, target: Target) -> bool:
        """Whether the runner that is there is this edgevid, with what this bundle needs."""
        there = json.loads(manifest)["runner"]["wheels"]
        if sha256_of(device_code.archive(target)) not in {wheel["sha256"] for wheel in there}:
            return False
        wanted = package.wanted_wheels(facts, target, [self._bundle], self._site)
        projects = {_project(wheel["name"]) for wheel in there} | set(wanted.provided)
        return all(_project(requirement) in projects for requirement in wanted.requirements)

    @property
    def _bundle(self) -> Bundle:
        return Bundle.open(self.request.bundle)

    @property
    def _site(self) -> bytes:
        """A configuration of nothing but the runtimes that are to be there."""
        return to_toml({"bundle": [{"runtime": name} for name in self.request.runtimes]})

    # ------------------------------------------------------------ to begin

    def _begin(self, place: _Location, name: str, facts: DeviceFacts, target: Target) -> None:
        """Bring all that is needed, and start the job; the device is free for others then."""
        request = self.request
        told = place.ask("job-state", id=name)
        if told["state"] in ("running", "ended"):
            if not self._asked:
                self.log(f"the same bench is there already, {told['state']}; it is taken over")
            return
        if told["busy"] and not request.end_other:
            raise DeviceFailed(
                f"{self.entry.name}: another bench runs there; wait for its end, or end it with "
                "--end-other",
                "occupied",
            )
        self.log("measures " + ("with a throw-away runner" if place.throw_away else "there"))
        if request.end_other:
            place.ask("job-end")
        if place.throw_away:
            place.release = self._stage(place, facts, target)
        place.ask("session", trial=True)
        files: dict[str, Path | bytes] = {
            "agent.py": agent_source(),
            request.bundle.name: request.bundle,
            request.source.name: request.source,
        }
        if len(files) < 3:
            raise BadInput(f"{request.bundle} and {request.source} have one name; rename one")
        named = {file: sha256_of(content) for file, content in files.items()}
        self._send(place, {named[file]: one for file, one in files.items()}, facts.root)
        args = ["bench", f"../{FILES}/{request.bundle.name}", "--source"]
        args += [f"../{FILES}/{request.source.name}", "--out", DOCUMENT, *request.words]
        self._asked = True
        place.ask(
            "job",
            id=name,
            release=place.release,
            args=args,
            files=named,
            deadline_s=request.deadline_s,
            pause=facts.root if request.pause_service else None,
            throw_away=place.throw_away and not request.keep_runner,
        )
        place.device.close()

    def _stage(self, place: _Location, facts: DeviceFacts, target: Target) -> str:
        """Bring a throw-away runner; gives the release that it is in."""
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
        signed = sign(made, self._key())
        place.ask("check", **signed)
        place.ask("session", trial=True)
        self._send(place, made.blobs, facts.root)
        return str(place.ask("stage", trial=True, **signed)["release"])

    def _send(self, place: _Location, blobs: Mapping[str, Path | bytes], beside: str) -> None:
        """Send what is there neither in this folder nor in the one beside."""
        sizes = {sha256: package.size_of(blob) for sha256, blob in blobs.items()}
        missing = place.ask("missing", blobs=sizes, beside=beside)["missing"]
        limit = self.request.limit_kbit
        send(place.device, blobs, missing, limit_kbit=limit, progress=self._working)

    def _working(self, what: str, done: int, total: int, note: str = "") -> None:
        self._check()
        self._progress(what, done, total, note)

    # ------------------------------------------------------------ to follow

    def _followed(self, place: _Location, name: str) -> dict[str, Any]:
        """Wait for its end, over lost links too, and pass on what it says."""
        said, lines = 0, _Lines(self.log, self._progress)
        while True:
            told = self._patiently(lambda at: place.ask("job-state", id=name, said=at), said)
            said = int(told.get("said", said))
            lines.hear(str(told.get("stderr", "")))
            if told["state"] == "ended" and not told["stderr"]:
                return {**told, "last": lines.last}
            if told["state"] in ("lost", "absent"):
                raise EnvironmentFailed(
                    f"{self.entry.name}: what measured there was killed, or the device was "
                    "restarted; do the same again"
                )
            if told["state"] == "running":
                self._check(POLL_S)

    def _fetched(self, place: _Location, name: str, end: Mapping[str, Any]) -> dict[str, Any]:
        """Give its document, whole; raises what kept it from giving one."""
        if end["document"] is None:
            self._raise(end)
        size, content = end["document"]["size"], b""
        while len(content) < size:
            offset = len(content)
            part = self._patiently(
                lambda at: place.ask("job-read", id=name, file="document", offset=at), offset
            )
            if not part["content"]:
                break
            content += base64.b64decode(part["content"])
            self._progress("fetching", len(content), size)
        if sha256_of(content) != end["document"]["sha256"]:
            raise DeviceFailed(f"{self.entry.name}: its result is damaged; do the same again")
        document = json.loads(content)
        if not isinstance(document, dict):
            raise DeviceFailed(f"{self.entry.name}: its result is none; do the same again")
        return document

    def _raise(self, end: Mapping[str, Any]) -> NoReturn:
        kinds: dict[Any, type[EdgevidError]] = {1: CheckFailed, 2: BadInput, 3: Inconclusive}
        if end["why"] == "deadline":
            hours = self.request.deadline_s / 3600
            raise EnvironmentFailed(
                f"{self.entry.name}: it was ended after {hours:.3g} hours; measure less at once"
            )
        text = str(end["last"]).removeprefix("edgevid: ") if end["why"] == "ended" else end["why"]
        error = kinds.get(end["exit_code"], EnvironmentFailed)
        raise error(f"{self.entry.name}: {text or 'it ended without a word'}")

    def _about(self, place: _Location, installed: Installed, target: Target) -> dict[str, Any]:
        """What the document says of where it comes from."""
        service = None
        if installed.current is not None:
            service = "paused" if self.request.pause_service else "beside"
        return {
            "release": None if place.throw_away else place.release,
            "throw_away": place.throw_away,
            "service": service,
            "device": {"name": self.entry.name, "target": target.name},
        }

    def _tuned(self, tuned: Mapping[str, Any]) -> bool:
        """Put the choice where the service there looks for it."""
        answer = self._main.call(
            {"do": "tuned", "name": tuned["name"], "content": tuned["content"]}
        )
        return bool(answer["kept"])

    # ------------------------------------------------------------ patience, and leaving

    def _check(self, wait_s: float = 0.0) -> None:
        if self._stop.wait(wait_s) if wait_s else self._stop.is_set():
            raise BenchStopped(f"{self.entry.name}: interrupted; nothing is left there")

    def _patiently(self, act: Callable[..., Given], *words: Any) -> Given:
        """Do something over a link that may be lost in between."""
        until = time.monotonic() + self.request.patience_s
        lost = False
        while True:
            try:
                given = act(*words)
            except DeviceFailed as error:
                if error.kind not in LINK_LOST:
                    raise
                if time.monotonic() > until:
                    raise DeviceLost(self.entry.name) from error
                if not lost:
                    self._log(f"{error}; what runs there goes on; trying to see it again")
                lost = True
            else:
                if lost:
                    self.log("it is there again")
                return given
            self._check(RETRY_S)

    @contextmanager
    def _tidy(self, place: _Location, name: str) -> Iterator[None]:
        """Leave nothing there, unless it cannot be seen."""
        try:
            yield
        except DeviceLost:
            raise
        except BaseException:
            place.device.close()  # a question may still be open
            with suppress(EdgevidError):
                self._clean(place, name)
            raise
        try:
            self._patiently(lambda: self._clean(place, name))
        except EdgevidError as error:  # the figures matter more
            self.log(f"could not be tidied up: {error}; the next bench does it")

    def _clean(self, place: _Location, name: str) -> None:
        place.ask("job-end", id=name)
        until = time.monotonic() + BUSY_S
        while place.throw_away and not self.request.keep_runner:
            try:
                place.ask("uninstall", trial=True)
                break
            except DeviceFailed as error:  # a session of ours that was broken off goes on a little
                if error.kind != "busy" or time.monotonic() > until:
                    raise
                time.sleep(POLL_S)
        place.device.close()


class DeviceLost(DeviceFailed):
    """The device was not seen again; it goes on by itself."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: not seen again; it goes on measuring, and the same command takes it over",
            "lost",
        )


class _Lines:
    """What a job writes on stderr, as it comes: bars become progress, the rest is passed on."""

    def __init__(self, log: Log, progress: Progress) -> None:
        self._log, self._progress, self._rest = log, progress, ""
        self.last = ""

    def hear(self, text: str) -> None:
        """Take the next part."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            found = _BAR.fullmatch(line.strip())
            if found:
                self._progress(found[1], int(found[2]), int(found[3]), found[4])
            elif not line.startswith("written: "):
                self.last = line.strip()
                self._log(self.last)


# ---------------------------------------------------------------- several devices


def bench_all(
    devices: Sequence[DeviceEntry],
    request: BenchRequest,
    *,
    key: Callable[[], SigningKey],
    parallel: int = fleet.PARALLEL,
    log: Log = print,
) -> list[fleet.Outcome]:
    """Measure on several devices at once, and give what became of each, in their order.

    The ``result`` of an outcome holds the ``document``; its ``outcome`` is ``valid`` or
    ``INVALID``. An interrupt ends them all, and leaves nothing on those that can be reached.
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
    """The project of a wheel's file name, or of a requirement."""
    found = re.match(r"[A-Za-z0-9._]+(?:-(?!\d)[A-Za-z0-9._]+)*", text)
    return re.sub(r"[-_.]+", "-", found[0] if found else text).lower()
