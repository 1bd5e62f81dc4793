"""Files that are read repeatedly, and sums of counters."""

from edgevid.system.counters import MOST_OPEN, CounterSums, PolledFiles
from rigs.processes import descriptors


def test_files_are_kept_open_and_found_again(tmp_path):
    path, before = tmp_path / "x", descriptors()
    files = PolledFiles()
    assert files.text(str(path)) is None
    path.write_text("1\n")
    assert files.text(str(path)) == "1"
    path.write_text("2\n")
    assert files.text(str(path)) == "2"
    assert descriptors() == before + 1
    for number in range(2 * MOST_OPEN):
        (tmp_path / str(number)).write_text("0")
        assert files.text(str(tmp_path / str(number))) == "0"
    assert descriptors() <= before + MOST_OPEN
    files.close()
    assert descriptors() == before


def test_counts_that_begin_anew_are_not_counted_backwards():
    tally = CounterSums()
    for value in (100, 130, 10, 15):
        tally.count(("x",), value)
    tally.count(("x",), 7, "something new", new=True)
    assert tally.sums == {("x",): 30 + 5 + 7}
