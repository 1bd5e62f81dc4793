"""Quotas of cgroups."""

from edgevid.system.cgroups import Hierarchy, above, hierarchies, limit
from rigs import machines


def test_what_is_no_quota_is_none(tmp_path):
    machines.machine(tmp_path, {"v2/cpu.max": "max 100000", "v1/cpu.cfs_quota_us": "-1"})
    assert limit(tmp_path / "v2") is limit(tmp_path / "v1") is limit(tmp_path) is None
    assert hierarchies(tmp_path) == []
    assert above(Hierarchy(2, tmp_path, "/"), "1:name=systemd:/x\n") == []


def test_what_is_not_mounted_here_is_left_alone(tmp_path):
    """``..`` would lead out of the mount, to files of something else."""
    assert above(Hierarchy(2, tmp_path, "/"), "0::/../../other\n") == [("/", tmp_path)]
