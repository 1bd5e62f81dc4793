"""Named arrays in memory that two mappings share."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevid.isolation.shared_memory import ALIGNED_BYTES, ArraySpec, SharedArrays
from rigs.processes import descriptors

specs = st.lists(
    st.builds(
        ArraySpec,
        name=st.text("abcdef", min_size=1, max_size=3),
        dtype=st.sampled_from(["uint8", "float32", "int64"]),
        shape=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda spec: spec.name,
)


@given(st.lists(specs, min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_what_one_writes_the_other_reads_and_no_array_overlaps_another(groups, seed):
    rng = np.random.default_rng(seed)
    ours = SharedArrays(groups)
    theirs = SharedArrays(groups, os.dup(ours.fd))
    written = []
    for group, views in zip(groups, ours.groups, strict=True):
        for spec in group:
            values = rng.integers(0, 200, spec.shape).astype(spec.dtype)
            views[spec.name][...] = values
            assert views[spec.name].ctypes.data % ALIGNED_BYTES == 0
            written.append(values)
    read = [views[spec.name] for group, views in zip(groups, theirs.groups, strict=True)
            for spec in group]  # fmt: skip
    for values, found in zip(written, read, strict=True):
        np.testing.assert_array_equal(values, found)
        assert found.dtype == values.dtype
    del read, found
    ours.close()
    theirs.close()


def test_nothing_is_left_behind():
    before = descriptors()
    shared = SharedArrays([[ArraySpec("x", "float32", (4,))]])
    shared.close_descriptor()
    assert shared.fd == -1
    shared.groups[0]["x"][...] = 1  # the memory stays mapped
    shared.close()
    shared.close()
    assert descriptors() == before


def test_an_array_that_is_still_used_stays_valid():
    shared = SharedArrays([[ArraySpec("x", "float32", (4,))]])
    kept = shared.groups[0]["x"]
    kept[...] = 3
    shared.close()
    assert kept.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_another_shape_is_an_error(dtype):
    shared = SharedArrays([[ArraySpec("x", dtype, (2, 2))]])
    with pytest.raises(ValueError, match="broadcast"):
        shared.groups[0]["x"][...] = np.zeros((3, 3), dtype)
    shared.close()
