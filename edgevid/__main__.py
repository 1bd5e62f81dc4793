"""``python -m edgevid`` is the command line, and so is ``edgevid``."""

from __future__ import annotations

import os
import signal


def _leave(number: int, frame: object) -> None:
    """End at once: so early, there is nothing to clean up, and an import cannot be unwound."""
    os.write(2, b"edgevid: interrupted\n")
    os._exit(130)


def run() -> None:
    """Run the command line; an interrupt while it is being loaded ends it without a traceback."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell's background
            signal.signal(number, _leave)
    from edgevid.cli import main

    main()


if __name__ == "__main__":
    run()
