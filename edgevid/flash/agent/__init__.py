"""The program on the device: everything that a flash does there, and what starts the service.

It is sent over SSH as one text and lies in every release as ``agent.py``; the device's own
``python3 -I`` runs it, with nothing but the standard library. So the modules of this folder are
written for Python 3.7 and import each other relatively, never edgevid. This file alone stays on
the host.

Conversation (one session): requests are one line of JSON, ``{"do": ...}``, ``blob`` followed by
its bytes; every request may say ``root``, the first that does decides. Each is answered, in order,
by any number of ``{"at": ...}`` and then ``{"ok": true, ...}`` or
``{"error": {"kind", "message", "fix"}}``.

    probe       {"modules"?: [name], "libraries"?: [name]} -> facts (see
                edgevid.flash.device_facts.DeviceFacts), "installed": see status. Writes nothing.
    check       {"manifest", "signature", "key"?, "pin"?, "allow_downgrade"?}: everything that
                ``stage`` refuses, before a byte is sent; writes nothing.
                -> "release", "missing": {sha256: offset}, "need_bytes", "first", "notes": [text]
    read        {"sha256", "offset"?} of a file of the release that serves -> "content": base64 of
                at most 1 MiB
    session     {"trial"?} take the lock of the device -> "root", "release"
    missing     {"blobs": {sha256: size}, "beside"?: another root, to borrow from}
                -> "missing": {sha256: offset that is there} for what is not there whole
    blob        {"sha256", "size", "offset", "bytes": n} and n bytes -> "have": bytes there so far
    stage       as check, "trial"?: compile nothing -> "release", "already": whether it serves now;
                leaves it beside the others
    activate    {"id"?, "health"?: {"seconds", "p95_ms", "allow_degraded", "start_s"}}
                -> "release", "started": False where the very same release serves (nothing is
                restarted), "activation": token. A watchdog on the device goes on alone from here.
    watch       {"activation"?} -> {"at": ...} now and then; at last "state": "idle"|"rolled-back",
                "release", "healthy", "reason", "health"
    rollback    {"health"?} -> as activate, of the release before
    status      -> "installed": {"current", "manifest": its text, "journal", "key", ...};
                "service": {...}, "status": the runner's own document
    history     {"last"?: n} -> "history": [...]
    uninstall   {"trial"?: unless a job runs there} -> "removed": [path]
    job         {"id", "release", "words", "files": {name: sha256}, "deadline_s"?, "pause"?: root,
                "throw_away"?}: ``python3 -m edgevid WORDS`` in the release's runner, going on by
                itself; see `jobs`. -> "already": whether the same one is there
    job-state   {"id", "said"?: offset} -> "state": "absent"|"running"|"ended"|"lost",
                "stderr", "said", "busy"; at the end "exit_code", "why",
                "document": {"sha256", "size"}
    job-read    {"id", "file": "document"|"stdout"|"stderr", "offset"} -> "content", as ``read``
    job-end     {"id"?} -> "ended": ends it, and forgets it; without an id whichever there is
    tuned       {"name", "content"|None} -> "kept": a choice where the service looks for it

The manifest travels as its very text, the signature as ``ssh-keygen -Y sign -n edgevid`` wrote it,
``key`` as the line of a public key. ``pin`` is ``{"key": line, "signature"}``: that key from now
on; the signature, of the key that is pinned, is over ``edgevid pin``, a line's end, and the line.
The manifest is signed by the new key then.
"""

from __future__ import annotations

from pathlib import Path

_LOADER = '''\
# edgevid on this device: see edgevid/flash/agent. Made from its modules, the same in every release.
import sys

SOURCES = {sources}


def fault(message, fix):
    line = '{{"error": {{"kind": "python", "message": "%s", "fix": "%s"}}}}'
    print(line % (message, fix))
    sys.stdout.flush()
    sys.exit(4)


if sys.version_info < (3, 7):
    version = ".".join(map(str, sys.version_info[:3]))
    fault("its python3 is " + version, "edgevid needs a system with Python 3.11 or newer")


try:
    from importlib.machinery import ModuleSpec
except ImportError as error:
    fault("its python3 is not whole: " + str(error).replace('"', ""), "apt-get install python3")


class Finder(object):
    """Finds the modules in this text."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        package, _, module = name.partition(".")
        if package == "edgevid_agent" and (not module or module in SOURCES):
            return ModuleSpec(name, Finder, is_package=not module)

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        name = module.__name__.rpartition(".")[2]
        code = compile(SOURCES.get(name, ""), name + ".py of the agent", "exec")
        exec(code, module.__dict__)


sys.meta_path.insert(0, Finder)
try:
    from edgevid_agent.main import main
except ImportError as error:
    fault("its python3 is not whole: " + str(error).replace('"', ""), "apt-get install python3")
sys.exit(main(sys.argv[1:]))
'''


def source() -> bytes:
    """Give the program as one text; equal files give equal bytes."""
    folder = Path(__file__).parent
    files = sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")
    lines = [f"    {file.stem!r}: {file.read_text('utf-8')!r},\n" for file in files]
    return _LOADER.format(sources="{\n" + "".join(lines) + "}").encode()
