"""Every built-in task, held to the suite that third parties use; and the suite to a toy task."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from edgevid import registry
from edgevid.contract import Output
from edgevid.predictions import Detections
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
    assert {getattr(one, "name", None) for one in TaskSuite.__subclasses__()} >= set(
        registry.names("task")
    )


# ------------------------------------------------------------ tasks that are not installed


class ToySuite(TaskSuite):
    """The suite for a task of this module: `parts` has its classes, by part."""

    __test__ = False
    parts: ClassVar[dict[str, type]] = {}

    # Both start a process that asks the registry, which does not know these tasks.
    test_the_declaration_imports_nothing_heavy = None
    test_the_device_part_loads_no_host_code = None

    @pytest.fixture(autouse=True)
    def _registered(self, monkeypatch):
        plugin, known = TaskPlugin(self.name, "a toy", "device", "host"), registry.load

        def load(kind, name):
            return plugin if (kind, name) == ("task", self.name) else known(kind, name)

        def load_part(plugin, where):
            return self.parts[where]

        monkeypatch.setattr(registry, "load", load)
        monkeypatch.setattr("edgevid.tasks.load_part", load_part)
        monkeypatch.setattr("edgevid.tasks.host.load_part", load_part)


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
    """A metric that is better the lower it is."""

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


class TestLevel(ToySuite):
    __test__ = True
    name = "level"
    parts: ClassVar = {"device": LevelTask, "host": LevelHost}

    @pytest.fixture
    def contract(self):
        return replace(CONTRACT, task="level", outputs=(Output("level", (1, 1)),), labels=())

    def truth(self, prediction):
        return prediction.litres


class BoxesTask(Task):
    """Reads boxes (1, N, 5): left, top, right and bottom in the model's pixels, confidence."""

    def decode(self, outputs, frame):
        rows = outputs["boxes"][0]
        xyxy = frame.boxes_to_source(rows[:, :4])
        return Detections(xyxy, rows[:, 4], np.zeros(len(rows), np.int64), self.contract.labels)

    def same(self, reference, other):
        pairs = ((reference.xyxy, other.xyxy), (reference.confidence, other.confidence))
        return all(a.shape == b.shape and np.allclose(a, b, atol=0.5) for a, b in pairs)


class BoxesHost(HostTask):
    name = "boxes"


class TestBoxes(ToySuite):
    __test__ = True
    name = "boxes"
    parts: ClassVar = {"device": BoxesTask, "host": BoxesHost}

    @pytest.fixture
    def contract(self):
        return replace(CONTRACT, task="boxes", outputs=(Output("boxes", (1, 6, 5)),))

    def outputs(self, contract, rng):
        rows = rng.random((1, 6, 5), np.float32)
        return {"boxes": rows * np.float32([8, 8, 8, 8, 1])}


def test_a_lower_error_is_better():
    assert MeanError().drop(0.2, 0.3) == pytest.approx(0.1)
    assert LevelHost().metric.drop(0.3, 0.2) < 0
