"""Notices of native libraries stay off stderr; everything else gets there."""

import os

import pytest

from edgevid.isolation.notices import without_notices


def test_only_notices_are_left_out(capfd):
    with without_notices():
        os.write(2, b"INFO: Created a delegate.\nWARNING: slow\n")
        os.write(2, b"INFO: more\nhalf a line")
    os.write(2, b"\n")
    assert capfd.readouterr().err == "WARNING: slow\nhalf a line\n"


def test_an_error_loses_nothing(capfd):
    with pytest.raises(RuntimeError), without_notices():
        os.write(2, b"reason\n")
        raise RuntimeError
    assert capfd.readouterr().err == "reason\n"
    assert len(os.listdir("/proc/self/fd")) == _open_files()  # noqa: PTH208


def _open_files() -> int:
    with without_notices():
        pass
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
