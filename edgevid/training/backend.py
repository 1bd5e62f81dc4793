"""Importing Keras and its backend without their messages."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from edgevid.registry import need


def start() -> None:
    """Import Keras and its backend.

    TensorFlow writes about CUDA and oneDNN to the standard error while it is imported, before its
    own log level applies. That text is shown only if the import fails.

    Raises:
        MissingExtra: They are not installed.
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
    """Hold back what native code writes to the standard error, and show it only on an error."""
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
