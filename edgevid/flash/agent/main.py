"""What the agent was started for."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from . import guard, health, jobs, supervisor
from .session import Session, default_root
from .store import Store
from .wire import Refused, Wire


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
        Session(Wire(sys.stdin.buffer, sys.stdout.buffer), given.root).run()
        return 0
    place = Store(given.root or default_root())
    try:
        return _alone(given, place)
    except Refused as fault:
        print(f"edgevid: {fault}", file=sys.stderr)
        return 1


def _alone(given: argparse.Namespace, place: Store) -> int:
    """What runs without a client."""
    if given.verb == "serve":
        return supervisor.serve(place)
    if given.verb == "supervise":
        return supervisor.Supervisor(place).run()
    if given.verb == "recover":
        guard.try_to_recover(place)
        return 0
    if given.verb == "job":
        return jobs.Keeper(place, given.release, given.token).run()
    wish = health.Wish.read(json.loads(given.health))
    return guard.watch_over(place, given.release, given.token, wish, given.what, given.seen)
