"""Tasks that misbehave, for a fork server that imports this module; a thread, if asked for one."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from edgevid_converters import child_tasks


def _echo(task: dict[str, Any]) -> dict[str, Any]:
    return {"pid": os.getpid(), "parent": os.getppid(), "value": task["value"]}


def _sleep(task: dict[str, Any]) -> None:
    Path(task["file"]).write_text(str(os.getpid()))
    time.sleep(600)


child_tasks.TASKS |= {"echo": _echo, "sleep": _sleep, "abort": lambda task: os.abort()}
if os.environ.get("FORK_TASKS_THREAD"):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
