"""Enter a sandbox, then run a module in it: what `python_module` starts.

    python -m edgevid.isolation.confined SANDBOX MODULE ARG...

The module is imported inside the sandbox, so it cannot skip it, and before any library can start
threads, which Landlock would not restrict. The process dies with its parent.
"""

from __future__ import annotations

import json
import runpy
import sys

from edgevid.errors import EdgevidError
from edgevid.isolation.process import die_with_parent
from edgevid.isolation.sandbox import Sandbox


def main() -> None:
    """Run the module as ``python -m`` does."""
    _, sandbox, module, *args = sys.argv
    die_with_parent()
    try:
        Sandbox.from_json(json.loads(sandbox)).enter()
    except EdgevidError as error:
        sys.exit(str(error))
    sys.argv = [module, *args]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
