"""The agent's command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import health, install, locked, supervisor, watchdog
from .job_runner import JobRunner
from .session import AgentSession, default_root
from .store import Store
from .transport import Refused, Transport


def main(args: list[str]) -> int:
    """Serve a session, or run the command that is the first argument; returns the exit code."""
    os.umask(0o022)  # what is unpacked is read by the service's own user
    if args[:1] == ["install"]:
        return install.main(args[1:])
    parser = argparse.ArgumentParser(prog="agent")
    commands = ("session", "serve", "supervise", "recover", watchdog.VERB, "job")
    parser.add_argument("command", nargs="?", default="session", choices=commands)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--release", default="")
    parser.add_argument("--token", default="")
    parser.add_argument("--what", default="activate")
    parser.add_argument("--seen", default="")
    parser.add_argument("--health", default="{}")
    parser.add_argument("--locked", action="store_true")
    parser.add_argument("--sshd-config", type=Path)
    options = parser.parse_args(args)
    if options.command == "session":
        return _session(options)
    store = Store(options.root or default_root())
    try:
        return _unattended(options, store)
    except Refused as fault:
        print(f"edgevid: {fault}", file=sys.stderr)
        return 1


def _session(options: argparse.Namespace) -> int:
    """Answer a client."""
    transport = Transport(sys.stdin.buffer, sys.stdout.buffer)
    session = AgentSession(transport, options.root, is_locked=options.locked)
    if options.locked:
        try:
            greeting, fault = session.greeting(), None
            locked.check(options.sshd_config)
        except Refused as refused:
            greeting, fault = {"protocol": locked.PROTOCOL, "device": "", "nonce": ""}, refused
        print(f"\n{locked.MARK} {json.dumps(greeting)}", flush=True)
        if fault is not None:
            transport.send({"error": fault.to_json()})
            return 1
    session.run()
    return 0


def _unattended(options: argparse.Namespace, store: Store) -> int:
    """Run a command that has no client."""
    if options.command == "serve":
        return supervisor.serve(store)
    if options.command == "supervise":
        return supervisor.Supervisor(store).run()
    if options.command == "recover":
        watchdog.try_to_recover(store)
        watchdog.verify(store)
        return 0
    if options.command == "job":
        return JobRunner(store, options.release, options.token).run()
    bounds = health.HealthOptions.read(json.loads(options.health))
    return watchdog.run(store, options.release, options.token, bounds, options.what, options.seen)
