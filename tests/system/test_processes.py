"""The fields of processes."""

import pytest

from edgevid.system.processes import stat


def test_names_of_processes_may_hold_anything():
    fields = " ".join(str(n) for n in range(4, 53))
    found = stat(f"77 (a ) R b) S {fields}", 0.01)
    assert found is not None
    assert (found.parent, found.faults, found.started) == (4, 12, 22)
    assert found.all_s == pytest.approx(0.14 + 0.15 + 0.16 + 0.17)
    assert stat(None, 0.01) is stat("77 (x) S 1", 0.01) is None
