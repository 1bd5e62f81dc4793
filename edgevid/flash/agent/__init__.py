"""The agent: the program on the device that checks, stages, activates and judges releases.

It is sent over SSH as one text, and is ``agent.py`` in every release; the device's own
``python3 -I`` runs it with nothing but the standard library. So the modules of this folder are
written for Python 3.7 and import each other relatively, never edgevid. Only this file stays on the
host.

    main                        the command line
    install, fault_kinds        ``agent.py install FILE``: a release from an archive
    session, fields, transport  requests of a client
    package_check, trust        what a package can be refused for
    statement, record           what is signed, and what the device remembers of it
    locked                      the login that can only run this agent
    accounts, untrusted         the service's user; folders that other users can write
    store, build, manifest      the folder of edgevid on the device
    integrity                   whether a release is still what was signed
    deployment, watchdog        the states of a deployment, and who moves it on
    health, runner_status       whether a release is healthy
    credentials                 secrets, which are in no release
    service*, supervisor        what keeps the runner running
    jobs, job_runner            commands that run with nobody connected
    probe, disk, processes      the device itself

Requests are one line of JSON, ``{"do": ...}``; a ``blob`` is followed by its bytes. Any request may
have a ``root``; the first one decides. The replies come in the same order: any number of
``{"at": text}``, and then ``{"ok": true, ...}`` or ``{"error": {"kind", "message", "fix"}}``.

    probe       {"modules"?: [name], "libraries"?: [name]} -> facts (see
                edgevid.flash.device_facts.DeviceFacts), "installed": see status, "second": the
                error of a second installation, or null, "nonce". Writes nothing.
    check       {"manifest", "statement", "signature", "key"?, "pin"?}: all checks of
                ``stage``, before a byte is sent; writes nothing.
                -> "release", "missing": {sha256: offset}, "need_bytes", "first", "notes": [text]
    read        {"sha256", "offset"?} of a file of the release that serves -> "content": base64 of
                at most 1 MiB
    session     {"trial"?} take the lock of the device -> "root", "release"
    missing     {"blobs": {sha256: size}, "beside"?: another root, to link from}
                -> "missing": {sha256: bytes received} of each blob that is not whole
    blob        {"sha256", "size", "offset", "bytes": n} and n bytes -> "have": bytes received
    credential  {"name", "sha256", "bytes": n} and the n bytes of a secret that a release names
                -> "changed": whether it differs from the stored one; if so, ``activate`` restarts
                the service
    stage       as check, "trial"?: compile nothing -> "release", "already": whether it serves now;
                what serves is not touched; "credentials": those that it names and that are missing
    activate    {"id"?, "health"?: {"seconds", "p95_ms", "allow_degraded", "start_s"}}
                -> "release", "started": False if the same release serves (nothing is restarted),
                "activation": token. A watchdog on the device takes it from here.
    watch       {"activation"?} -> {"at": ...} now and then; at last "state": "idle"|"rolled-back",
                "release", "healthy", "reason", "health"
    rollback    {"health"?} -> as activate, of the previous release
    status      -> "installed": {"current", "manifest": its text, "signature", "journal", ...};
                "service": {...}, "status": the runner's own document, "others": [folder] of other
                installations
    revoke      {"what": a release's id, or a key's fingerprint} -> "revoked": everything that
                is revoked. The request must be signed
    history     {"last"?: n} -> "history": [...]
    uninstall   {"trial"?: unless a job runs there} -> "removed": [path], "left": [path] of files in
                its folder that are not edgevid's, "others": see status
    job         {"id", "release", "args", "files": {name: sha256}, "deadline_s"?, "pause"?: root,
                "throw_away"?}: run ``python3 -m edgevid ARGS`` with the release's runner; see
                `jobs`. -> "already": whether the same job exists
    job-state   {"id", "said"?: offset} -> "state": "absent"|"running"|"ended"|"lost",
                "stderr", "said", "busy"; at the end "exit_code", "why",
                "document": {"sha256", "size"}
    job-read    {"id", "file": "document"|"stdout"|"stderr", "offset"} -> "content", as ``read``
    job-end     {"id"?} -> "ended": end and forget a job; without an id, whichever runs
    tuned       {"name", "content"|None} -> "kept": a tuning, stored where the service looks for it

The manifest is sent verbatim, with a `statement` about it; the statement is signed with
``ssh-keygen -Y sign -n edgevid-release``. ``key`` is the line of the public key. ``pin`` is
``{"key": line, "statement", "signature"}``: the key from now on, signed by the one that is pinned
now, for the purpose ``edgevid-key``; the manifest is then signed by the new key.

A request that must be signed is sent as ``{"do": "signed", "request": its text, "statement",
"signature", "key"?, "pin"?}``, for the purpose ``edgevid-request``. Its nonce is that of the
session (see ``probe``), a hyphen, and the number of signed requests before it. A `locked` agent
requires a signature on every request except ``probe``, ``status``, ``history`` and, after
``session``, ``blob``.
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

_LOADER = '''\
# The agent of edgevid, made from the modules in edgevid/flash/agent.
import sys

SOURCES = {sources}


def fault(message, fix):
    line = '{{"error": {{"kind": "python", "message": "%s", "fix": "%s"}}}}'
    print(line % (message, fix))
    sys.stdout.flush()
    sys.exit(4)


if sys.version_info < (3, 7):
    version = ".".join(map(str, sys.version_info[:3]))
    fault("its python3 is " + version, "install a system with Python 3.11 or newer")


try:
    from importlib.machinery import ModuleSpec
except ImportError as error:
    fault("its python3 is incomplete: " + str(error).replace('"', ""), "apt-get install python3")


class Finder(object):
    """Finds the modules in this program."""

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
    fault("its python3 is incomplete: " + str(error).replace('"', ""), "apt-get install python3")
sys.exit(main(sys.argv[1:]))
'''


def source() -> bytes:
    """Return the program; the same modules give the same bytes."""
    folder = Path(__file__).parent
    files = sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")
    lines = [f"    {file.stem!r}: {lean(file.read_text('utf-8'))!r},\n" for file in files]
    return _LOADER.format(sources="{\n" + "".join(lines) + "}").encode()


def lean(text: str) -> str:
    """Strip a module's comments and docstrings, which every deployment would send again.

    Args:
        text: The module.

    Returns:
        The same program; each docstring becomes an empty string.
    """
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    texts = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    for node in sorted(texts, key=lambda one: one.lineno, reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        rest = lines[last][node.end_col_offset :]
        lines[first : last + 1] = [lines[first][: node.col_offset] + b'""' + rest]
    shorter = b"".join(lines).decode()
    marks = tokenize.generate_tokens(io.StringIO(shorter).readline)
    kept = shorter.splitlines(keepends=True)
    for token in [one for one in marks if one.type == tokenize.COMMENT]:
        row, column = token.start
        code = kept[row - 1][:column].rstrip()
        kept[row - 1] = f"{code}\n" if code else ""
    return "".join(kept)
