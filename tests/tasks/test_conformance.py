"""Every built-in task, held to the suite that third parties use; and the suite to a toy task."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgevid import registry
from edgevid.contract import Output
from edgevid.tasks import Task, TaskPlugin
from edgevid.tasks.host import HostTask
from edgevid.tasks.host.metrics import UNBOUNDED, Metric
from edgevid.testing.task import TaskSuite
from rigs.bundles import CONTRACT


class TestClassification(TaskSuite):
    name = "classification"

    @pytest.fixture
    def contract(self):
        return CONTRACT

    @pytest.fixture
    def broken(self, contract):
        return [
            replace(contract, outputs=(Output("boxes", (1, 3)),)),
            replace(contract, outputs=(Output("scores", (1, 5, 3)),)),
            replace(contract, labels=("one", "two")),
        ]

    def outputs(self, contract, rng):
        values = rng.random(contract.outputs[0].shape, np.float32)
        return {"scores": values / values.sum()}

    def truth(self, prediction):
        return prediction.label


class TestRaw(TaskSuite):
    name = "raw"

    @pytest.fixture
    def contract(self):
        outputs = (Output("boxes", (1, 40, 6)), Output("count", (1, 1)))
        return replace(CONTRACT, task="raw", outputs=outputs, labels=())


def test_every_task_is_held_to_the_suite():
    assert {one.name for one in TaskSuite.__subclasses__()} >= set(registry.names("task"))


# ------------------------------------------------------------ a task whose metric is an error


@dataclass(frozen=True)
class Level:
    """How full something is, in litres."""

    litres: float

    def to_json(self):
        return {"litres": self.litres}


class LevelTask(Task):
    def decode(self, outputs, frame):
        return Level(float(outputs["level"][0, 0]))

    def same(self, reference, other):
        return abs(reference.litres - other.litres) <= 0.01


class MeanError(Metric):
    name = "mean absolute error"
    higher_is_better = False
    bounds = UNBOUNDED

    def value(self, predictions, truths):
        return float(self.contributions(predictions, truths).mean())

    def contributions(self, predictions, truths):
        return np.array([abs(p.litres - t) for p, t in zip(predictions, truths, strict=True)])


class LevelHost(HostTask):
    name = "level"
    metric = MeanError()


LEVEL = TaskPlugin("level", "a level", f"{__name__}:LevelTask", f"{__name__}:LevelHost")


class TestLevel(TaskSuite):
    name = "level"

    @pytest.fixture(autouse=True)
    def _registered(self, monkeypatch):
        parts = {"LevelTask": LevelTask, "LevelHost": LevelHost}
        known = registry.load

        def load(kind, name):
            return LEVEL if (kind, name) == ("task", "level") else known(kind, name)

        def load_part(plugin, where):
            return parts[where.partition(":")[2]]

        monkeypatch.setattr(registry, "load", load)
        monkeypatch.setattr("edgevid.tasks.load_part", load_part)
        monkeypatch.setattr("edgevid.tasks.host.load_part", load_part)

    @pytest.fixture
    def contract(self):
        return replace(CONTRACT, task="level", outputs=(Output("level", (1, 1)),), labels=())

    def truth(self, prediction):
        return prediction.litres

    def test_the_declaration_imports_nothing_heavy(self, plugin):
        pytest.skip("it is not installed")

    def test_the_device_part_loads_no_host_code(self, plugin):
        pytest.skip("it is not installed")


def test_a_lower_error_is_better():
    assert MeanError().drop(0.2, 0.3) == pytest.approx(0.1)
    assert LevelHost().metric.drop(0.3, 0.2) < 0
