"""The child process in which a library is tried: import it, and see whether that survives."""

from __future__ import annotations

import sys
from importlib import import_module

from edgevid.isolation.child_task import child_task


def _main() -> int:
    with child_task() as (task, answer):
        module = import_module(task["module"])
        if task.get("lazy"):  # it loads native code that is as likely to be broken
            getattr(module, task["lazy"])
        answer({"module": module.__name__})
    return 0


if __name__ == "__main__":
    sys.exit(_main())
