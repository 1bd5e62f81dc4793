import json

import pytest

from edgevid.events import EventChain, EventLedger, NamedStage
from edgevid.events.durable import DurableState
from rigs.bundles import CONTRACT
from rigs.stand_ins import Label, LabelOfToday, LabelOptions
from tests.events.test_chain import frame, says


def chain_of(kind=Label, name="label", durable=True):
    return EventChain([NamedStage("s", name, kind(LabelOptions("bright"), CONTRACT), durable)])


def step(chain, label, index):
    return chain.step(says(label), frame(index), EventLedger())[1]


@pytest.fixture
def saved(tmp_path):
    """A folder with the state of a stream after two bright frames."""
    chain = chain_of()
    durable = DurableState(tmp_path, "door/1 motion", chain, print)
    durable.load()
    for index in range(2):
        step(chain, "bright", index)
    durable.save(chain.state)
    assert durable.error is None
    return tmp_path


def loaded(folder, chain):
    said = []
    durable = DurableState(folder, "door/1 motion", chain, said.append)
    durable.load()
    return durable, said


def test_a_stream_continues_and_an_open_event_keeps_its_id(saved):
    chain = chain_of()
    _, said = loaded(saved, chain)
    assert said == []
    assert chain.state.stages[0] == {"seen": 2, "since_s": 0.0}
    (event,) = step(chain, "dark", 0)
    assert (event.id, event.type) == ("s:it@0", "end")
    (event,) = step(chain, "bright", 1)
    assert event.id == "s:it@1.1", "an id of the first run could come again"


def test_a_state_of_another_version_is_refused_in_one_line_and_starts_afresh(saved):
    chain = chain_of(LabelOfToday)
    _, (line,) = loaded(saved, chain)
    assert "the state of event 's' is of label version 1, not label version 2" in line
    assert line.endswith("it starts afresh")
    assert chain.state.stages[0]["seen"] == 0
    assert not chain.state.open


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"format": 9}', '{"format": 1}', '{"format": 1, "stages": 3}']
)
def test_a_damaged_file_is_refused_in_one_line_and_replaced(saved, content):
    (file,) = (saved / "events").iterdir()
    file.write_text(content)
    chain = chain_of()
    durable, (line,) = loaded(saved, chain)
    assert line.endswith("its event stages start afresh")
    step(chain, "bright", 0)
    durable.save(chain.state)
    assert json.loads(file.read_text())["stages"]["s"]["state"]["seen"] == 1


def test_what_is_not_durable_is_not_kept(tmp_path):
    chain = chain_of(durable=False)
    durable = DurableState(tmp_path, "door", chain, print)
    step(chain, "bright", 0)
    durable.save(chain.state)
    document = json.loads(durable.path.read_text())
    assert (document["stages"], document["open"]) == ({}, {})


def test_a_full_disk_is_an_error_in_the_status_and_no_exception(tmp_path):
    chain = chain_of()
    (tmp_path / "events").write_text("a file, where the folder should be")
    durable = DurableState(tmp_path, "door", chain, print)
    durable.save(chain.state)
    assert "cannot be written" in durable.error
