"""The agent as a process of its own, as a client starts it, and releases that are quickly made."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgevid.flash.agent import source, statement
from edgevid.flash.agent_client import BOOT, MARK
from rigs.need import need_program

# A runner in a few lines: it answers like the real one, as ill as site.toml says.
RUNNER = """
import json, os, re, signal, socket, sys, time
site = open(sys.argv[sys.argv.index("--config") + 1]).read()
options = json.loads(re.search(r"# (.*)", site).group(1))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
folder, began, answered = os.environ["RUNTIME_DIRECTORY"], time.time(), 0
print("beginning with", json.dumps(options), flush=True)
def tell(state, frames):
    lane = {"frames": {"captured": frames, "answered": 0 if options.get("mute") else frames},
            "latency_ms": {"p50": 1.0, "p95": options.get("p95", 2.0), "p99": 3.0}}
    camera = {"name": "door",
              "sources": [{"name": "rtsp://door", "state": "open", "lanes": [lane]}]}
    engine = {"serving": {"runtime": "null", "accelerator": "cpu", "precision": "float32"},
              "degraded": bool(options.get("degraded")), "places": [],
              "reason": "the stick fell out"}
    document = {"state": state, "pid": os.getpid(), "degraded": bool(options.get("degraded")),
                "frames": lane["frames"], "cameras": [camera], "alarms": [],
                "now_unix_s": time.time(),
                "bundles": [{"name": n, "key": k, "engine": engine}
                            for n, k in options.get("keys", {}).items()]}
    try:
        with open(folder + "/.part", "w") as file:
            json.dump(document, file)
        os.replace(folder + "/.part", folder + "/status.json")
    except OSError:  # a full disk, as for the real one
        pass
def notify(text):
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode(), name.replace("@", "\\0", 1))
frames = 0
while True:
    age = time.time() - began
    if age > options.get("dies_s", 1e9):
        print("last words", flush=True)
        sys.exit(options.get("exit", 4))
    frames += 0 if options.get("blind") else 1
    tell("serving" if age > options.get("slow_s", 0) else "starting", frames)
    if age < options.get("hangs_s", 1e9):
        notify("READY=1\\nWATCHDOG=1")
    time.sleep(0.05)
"""


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(members: dict[str, str | bytes]) -> bytes:
    """A zip, equal for equal members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return content.getvalue()


def tiny_runner() -> bytes:
    return wheel({"edgevid/__init__.py": "", "edgevid/__main__.py": RUNNER})


# What an agent starts is meant to outlive whoever asked for it; but not the tests.
REAPER = """
import os, shutil, sys
sys.stdin.read()
for pid in {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}:
    try:
        told = open(f"/proc/{pid}/cmdline").read() + open(f"/proc/{pid}/environ").read()
        if sys.argv[1] in told:
            os.kill(pid, 9)
    except (OSError, UnicodeDecodeError):
        pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory: what dies here are processes, so nothing need wait for a disk.

    It ends with this process, however that ends, and with it all that runs from there.
    """
    shared = Path("/dev/shm")
    base = shared if os.access(shared, os.W_OK) else None
    name = tempfile.mkdtemp(prefix="edgevid-test-", dir=base)
    words = [sys.executable, "-I", "-c", REAPER, name]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True):
        yield Path(name)


class Key:
    """An SSH key pair."""

    def __init__(self, folder: Path, name: str = "key") -> None:
        self.path = folder / name
        words = [need_program("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", ""]
        subprocess.run([*words, "-C", "a test", "-f", self.path], check=True)
        self.public = self.path.with_name(f"{name}.pub").read_text().strip()

    def sign(self, content: bytes, purpose: str = statement.RELEASE) -> str:
        words = ["ssh-keygen", "-Y", "sign", "-n", purpose, "-f", self.path]
        done = subprocess.run(words, input=content, capture_output=True, check=True)
        return done.stdout.decode()

    def signed(self, content: bytes, purpose: str = statement.RELEASE, **about) -> dict[str, str]:
        """What is sent of a signed content; ``about`` are more fields of the statement."""
        text = statement.of(content, **about)
        return {"statement": text, "signature": self.sign(text.encode(), purpose)}


class Release:
    """A manifest and its blobs."""

    def __init__(
        self,
        serial: int = 1,
        *,
        wheels: dict[str, bytes] | None = None,
        bundles: dict[str, bytes] | None = None,
        site: bytes | None = None,
        sick: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        wheels = {"edgevid-1-py3-none-any.whl": tiny_runner()} if wheels is None else wheels
        bundles = {"door.edgevid": b"a model"} if bundles is None else bundles
        keys = {name: sha(content)[:12] for name, content in bundles.items()}
        if site is None:
            site = f"# {json.dumps({'keys': keys, **(sick or {})})}\n".encode()
        agent = source()
        self.blobs = {sha(c): c for c in [*wheels.values(), *bundles.values(), site, agent]}
        named = [{"name": n, "sha256": sha(c), "size": len(c)} for n, c in wheels.items()]
        data = {
            "format": 1, "edgevid": "0", "created_unix_s": 1, "serial": serial, "target": "local",
            "architecture": platform.machine(), "python": "3.11", "glibc": "2.17",
            "runner": {"id": sha(b"".join(wheels.values()))[:16], "wheels": named, "packages": []},
            "bundles": [{"name": n, "sha256": sha(c), "size": len(c), "key": keys[n]}
                        for n, c in bundles.items()],
            "site": {"sha256": sha(site), "size": len(site)},
            "agent": {"sha256": sha(agent), "size": len(agent)},
            "service": {"user": "root", "groups": [], "devices": []},
            "limits": {"memory_mb": 512, "disk_mb": 1},
        }  # fmt: skip
        data["python"] = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self.data = {**data, **more}

    @property
    def manifest(self) -> bytes:
        return json.dumps(self.data, indent=2, sort_keys=True).encode() + b"\n"

    @property
    def id(self) -> str:
        return sha(self.manifest)[:16]


class Fault(Exception):
    def __init__(self, fault: dict[str, str]) -> None:
        super().__init__(f"{fault['kind']}: {fault['message']}; {fault['fix']}")
        self.kind, self.message, self.fix = fault["kind"], fault["message"], fault["fix"]


class Session:
    """One conversation with the agent, over pipes."""

    def __init__(self, root: Path, before: tuple[str, ...] = (), python: str = sys.executable):
        self.root, self.heard = root, []
        words: list[str | Path] = [*before, python, "-I", "-c", BOOT]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        sent = zlib.compress(source(), 9)
        self.write(b"%d\n%s" % (len(sent), sent))
        while self.process.stdout.readline().strip() != MARK.encode():
            pass

    def write(self, content: bytes) -> None:
        self.process.stdin.write(content)
        self.process.stdin.flush()

    def ask(self, verb: str, payload: bytes = b"", **fields: Any) -> dict[str, Any]:
        request = {"do": verb, "root": str(self.root), **fields}
        if payload:
            request["bytes"] = len(payload)
        self.write(json.dumps(request).encode() + b"\n" + payload)
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise EOFError(f"the agent is gone at {verb}")
            answer = json.loads(line)
            if "error" in answer:
                raise Fault(answer["error"])
            if "ok" in answer:
                return answer
            self.heard.append(answer["at"])

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


HEALTH = {"seconds": 0.5, "start_s": 30.0}


class Device:
    """A folder that plays the device, and the key with which it is flashed."""

    def __init__(self, root: Path, key: Key) -> None:
        self.root, self.key = root, key

    @contextmanager
    def session(self, **options: Any) -> Iterator[Session]:
        session = Session(self.root, **options)
        try:
            yield session
        finally:
            session.close()

    def package(
        self, release: Release, about: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        """The fields of a package, signed for any device, if ``about`` does not say otherwise."""
        text, key = release.manifest, self.key.public
        return {
            "manifest": text.decode(),
            "key": key,
            **self.key.signed(text, **about or {}),
            **more,
        }

    @property
    def id(self) -> str:
        """The device's id, once something is installed."""
        return json.loads((self.root / "trusted/record.json").read_text())["device"]

    def stage(self, session: Session, release: Release, **more: Any) -> dict[str, Any]:
        package = self.package(release, **more)
        session.ask("check", **package)
        session.ask("session")
        self.send(session, release)
        return session.ask("stage", **package)

    def send(self, session: Session, release: Release) -> int:
        sizes = {name: len(content) for name, content in release.blobs.items()}
        missing = session.ask("missing", blobs=sizes)["missing"]
        for name, offset in missing.items():
            rest = release.blobs[name][offset:]
            session.ask("blob", rest, sha256=name, size=sizes[name], offset=offset)
        return sum(sizes[name] - offset for name, offset in missing.items())

    def flash(self, release: Release, health: dict[str, Any] = HEALTH, **more: Any) -> dict:
        """The whole way, as a client goes it; gives what `watch` gave, and whether it started."""
        with self.session() as session:
            staged = self.stage(session, release, **more)
            begun = session.ask("activate", id=staged["release"], health=health)
            if not begun["started"]:
                return begun
            return {**begun, **session.ask("watch", activation=begun["activation"])}

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        with self.session() as session:
            return session.ask(verb, **fields)

    def journal(self) -> dict[str, Any]:
        return json.loads((self.root / "journal.json").read_text())

    def current(self) -> str | None:
        link = self.root / "current"
        return link.readlink().name if link.is_symlink() else None

    def serving(self, release: Release | None, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until this very release answers (None: any that is ``current``)."""
        return until(lambda: self._answers(release), timeout_s)

    def _answers(self, release: Release | None) -> dict[str, Any] | None:
        wanted = release.id if release else self.current()
        status = self.ask("status")
        return status if status["service"]["release"] == wanted and status["status"] else None


def until(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found
