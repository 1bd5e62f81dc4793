"""What the agent was started for."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import health, jobs, supervisor, watchdog
from .session import AgentSession, default_root
from .store import Store
from .transport import Refused, Transport


def main(words: list[str]) -> int:
    """Serve a session (no words), or do what the first word says; gives the exit code."""
    os.umask(0o022)  # what is unpacked is read by the service's own user
    parser = argparse.ArgumentParser(prog="agent")
    verbs = ("session", "serve", "supervise", "recover", "guard", "job")
    parser.add_argument("verb", nargs="?", default="session", choices=verbs)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--release", default="")
    parser.add_argument("--token", default="")
    parser.add_argument("--what", default="activate")
    parser.add_argument("--seen", default="")
    parser.add_argument("--health", default="{}")
    given = parser.parse_args(words)
    if given.verb == "session":
        AgentSession(Transport(sys.stdin.buffer, sys.stdout.buffer), given.root).run()
        return 0
    store = Store(given.root or default_root())
    try:
        return _alone(given, store)
    except Refused as fault:
        print(f"edgevid: {fault}", file=sys.stderr)
        return 1


def _alone(given: argparse.Namespace, store: Store) -> int:
    """What runs without a client."""
    if given.verb == "serve":
        return supervisor.serve(store)
    if given.verb == "supervise":
        return supervisor.Supervisor(store).run()
    if given.verb == "recover":
        watchdog.try_to_recover(store)
        return 0
    if given.verb == "job":
        return jobs.JobRunner(store, given.release, given.token).run()
    options = health.HealthOptions.read(json.loads(given.health))
    return watchdog.watch_over(store, given.release, given.token, options, given.what, given.seen)
