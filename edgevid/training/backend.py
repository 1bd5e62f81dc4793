"""The start of the training backend: late, once, and without its chatter."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from edgevid.registry import need


def start() -> None:
    """Import keras and its backend; raises `MissingExtra` where they are not installed.

    TensorFlow reports on CUDA and oneDNN straight to the standard error while it is imported, ahead
    of its own log level; that is kept back, and shown only if the import fails.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _held_back():
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        need(backend, "train")
        need("keras", "train")


@contextmanager
def _held_back() -> Iterator[None]:
    """Keep what native code writes to the standard error, and let go of it only on an error."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
