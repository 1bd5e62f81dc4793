"""The conformance suite for tasks.

Subclass `TaskSuite`, name the task, and give a contract that it can read::

    class TestCounting(TaskSuite):
        name = "counting"

        @pytest.fixture
        def contract(self):
            return Contract(task="counting", ..., outputs=(Output("count", (1, 1)),))

Override `outputs` if random values are not what such a model gives, `broken` for contracts that the
task cannot read, and `truth` if the task has a metric.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from edgevid import registry
from edgevid.errors import BadInput
from edgevid.predictions import FrameMeta, Prediction
from edgevid.tasks import Task, TaskPlugin, load_part, open_task
from edgevid.tasks.host import HostTask, open_host

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgevid.contract import Contract

HEAVY = ("av", "cv2", "keras", "matplotlib", "numpy", "openvino", "scipy", "tensorflow", "torch")
FRAME = FrameMeta(64, 48, index=7, pts_s=0.28, source="camera")


class TaskSuite:
    """What every task must do. See the module's docstring.

    Attributes:
        name: The task's name in the registry, or of its entry point.
    """

    name: str

    @pytest.fixture
    def contract(self) -> Contract:
        """A contract that the task can read; subclasses override it."""
        raise NotImplementedError("give a contract that the task can read")

    @pytest.fixture
    def broken(self, contract: Contract) -> Sequence[Contract]:
        """Contracts that the task cannot read; none by default."""
        del contract
        return ()

    def outputs(
        self, contract: Contract, rng: np.random.Generator
    ) -> dict[str, NDArray[np.float32]]:
        """Outputs of a model, float32 of the contract's shapes: random in 0..1 by default."""
        return {one.name: rng.random(one.shape, "float32") for one in contract.outputs}

    def truth(self, prediction: Any) -> Any:
        """Return the annotation that a prediction fits exactly; needed for tasks with a metric."""
        raise NotImplementedError("give the annotation that a prediction fits")

    # ------------------------------------------------------------ fixtures for the tests

    @pytest.fixture
    def plugin(self) -> TaskPlugin:
        """The task's declaration."""
        plugin: TaskPlugin = registry.load("task", self.name)
        return plugin

    @pytest.fixture
    def task(self, contract: Contract) -> Task[Any]:
        """The device part."""
        return open_task(contract)

    @pytest.fixture
    def host(self) -> HostTask:
        """The host part."""
        return open_host(self.name)

    @pytest.fixture
    def predictions(self, contract: Contract, task: Task[Any]) -> list[Any]:
        """Predictions for twenty random outputs."""
        import numpy as np

        rng = np.random.default_rng(0)
        return [task.decode(self.outputs(contract, rng), FRAME) for _ in range(20)]

    # ------------------------------------------------------------ the declaration

    def test_the_declaration_imports_nothing_heavy(self, plugin: TaskPlugin) -> None:
        """Listing tasks costs nothing."""
        assert plugin.name == self.name
        assert plugin.summary
        loaded = _modules_after(f"registry.load('task', {self.name!r})")
        assert not loaded & {*HEAVY}
        assert not loaded & {part.partition(":")[0] for part in (plugin.device, plugin.host)}

    def test_the_device_part_loads_no_host_code(self, plugin: TaskPlugin) -> None:
        """Devices have neither the host part nor its libraries."""
        loaded = _modules_after(f"registry.part('task', {plugin.name!r}, {plugin.device!r})")
        assert not loaded & ({*HEAVY} - {"numpy"})
        assert plugin.host.partition(":")[0] not in loaded
        assert "edgevid.tasks.host" not in loaded

    # ------------------------------------------------------------ the device part

    def test_a_contract_that_cannot_be_read_is_rejected_in_one_line(
        self, contract: Contract, broken: Sequence[Contract]
    ) -> None:
        """The error is raised when the task is opened, not at the first frame."""
        open_task(contract)
        for one in broken:
            with pytest.raises(BadInput) as caught:
                open_task(replace(one, task=self.name))
            assert "\n" not in str(caught.value)

    def test_a_prediction_has_a_json_form(self, predictions: list[Any]) -> None:
        """It is a mapping of plain values without NaN."""
        for one in predictions:
            assert isinstance(one, Prediction)
            data = one.to_json()
            assert isinstance(data, dict)
            assert json.loads(json.dumps(data, allow_nan=False)) == data

    def test_decoding_is_a_function_of_its_arguments(
        self, contract: Contract, task: Task[Any]
    ) -> None:
        """It keeps nothing from frame to frame, and does not write to the outputs."""
        import numpy as np

        first = self.outputs(contract, np.random.default_rng(1))
        second = self.outputs(contract, np.random.default_rng(2))
        kept = {name: value.copy() for name, value in first.items()}
        before = task.decode(first, FRAME).to_json()
        task.decode(second, FRAME)
        assert all((first[name] == value).all() for name, value in kept.items())
        assert task.decode(first, FRAME).to_json() == before

    def test_a_prediction_is_the_same_as_itself(
        self, contract: Contract, task: Task[Any], predictions: list[Any]
    ) -> None:
        """So two engines that give the same outputs agree."""
        import numpy as np

        rng = np.random.default_rng(0)
        again = [task.decode(self.outputs(contract, rng), FRAME) for _ in predictions]
        assert all(task.same(a, b) for a, b in zip(predictions, again, strict=True))
        assert task.agreement(predictions, again) == 1

    def test_agreement_is_a_share(self, task: Task[Any], predictions: list[Any]) -> None:
        """Of what was compared, which is something, and as many on both sides."""
        assert 0 <= task.agreement(predictions, predictions[::-1]) <= 1
        with pytest.raises(ValueError, match="no predictions"):
            task.agreement([], [])
        with pytest.raises(ValueError, match=r"shorter|longer"):
            task.agreement(predictions, predictions[1:])

    def test_values_that_are_not_finite_agree_with_nothing(
        self, contract: Contract, task: Task[Any]
    ) -> None:
        """A failing engine must not pass for a good one, not even next to another failing one."""
        import numpy as np

        good = self.outputs(contract, np.random.default_rng(1))
        bad = {name: np.full_like(value, np.nan) for name, value in good.items()}
        right, wrong = task.decode(good, FRAME), task.decode(bad, FRAME)
        assert not task.same(right, wrong)
        assert not task.same(wrong, right)
        assert not task.same(wrong, wrong)

    def test_drawing_leaves_the_frame_as_it_is(
        self, task: Task[Any], predictions: list[Any]
    ) -> None:
        """A drawing has the size and type of its frame."""
        import numpy as np

        pytest.importorskip("cv2")
        image = np.full((FRAME.height, FRAME.width, 3), 128, np.uint8)
        for one in predictions[:3]:
            drawn = task.draw(image, one)
            assert (drawn.shape, drawn.dtype) == (image.shape, image.dtype)
            assert (image == 128).all()

    def test_coordinates_are_pixels_of_the_source_frame(
        self, contract: Contract, task: Task[Any]
    ) -> None:
        """Whatever has boxes maps them with the frame's own inverse."""
        import numpy as np

        outputs = self.outputs(contract, np.random.default_rng(3))
        near = task.decode(outputs, FrameMeta(1000, 1000, to_source=lambda points: points))
        if not hasattr(near, "xyxy"):
            pytest.skip("this task has no coordinates")
        far = task.decode(outputs, FrameMeta(1000, 1000, to_source=lambda points: points + 100))
        assert len(near.xyxy)
        np.testing.assert_allclose(far.xyxy, near.xyxy + 100, atol=1e-2)

    # ------------------------------------------------------------ the host part

    def test_the_host_part_is_of_the_same_task(self, host: HostTask) -> None:
        """Its errors name it."""
        assert host.name == self.name

    def test_the_best_metric_is_that_of_right_predictions(
        self, host: HostTask, predictions: list[Any]
    ) -> None:
        """No other predictions are better than those that fit the annotations."""
        metric = _metric(host)
        truths = [self.truth(one) for one in predictions]
        low, high = metric.bounds
        best = metric.value(predictions, truths)
        shifted = metric.value([*predictions[1:], predictions[0]], truths)
        assert low <= best <= high
        assert low <= shifted <= high
        assert metric.drop(best, shifted) >= 0
        assert best == pytest.approx(high if metric.higher_is_better else low)

    def test_contributions_are_one_for_each_sample(
        self, host: HostTask, predictions: list[Any]
    ) -> None:
        """If the metric has any."""
        metric = _metric(host)
        truths = [self.truth(one) for one in predictions]
        found = metric.contributions(predictions, truths)
        assert found is None or found.shape == (len(predictions),)

    def test_a_paired_test_sees_no_difference_where_there_is_none(
        self, host: HostTask, predictions: list[Any]
    ) -> None:
        """And says less if the model was chosen among several."""
        metric = _metric(host)
        truths = [self.truth(one) for one in predictions]
        same = metric.paired_test(predictions, predictions, truths)
        if same is None:
            pytest.skip("this metric has no paired test")
        worse = metric.paired_test(predictions, [*predictions[1:], predictions[0]], truths)
        assert worse is not None
        assert same.p > 0.05
        assert worse.p <= same.p
        assert 0 <= same.drop_at_most() <= same.drop_at_most(tries=9)
        assert json.loads(json.dumps(worse.to_json(), allow_nan=False))["p"] <= 1
        assert worse.describe()

    def test_the_training_part_loads(self, plugin: TaskPlugin) -> None:
        """If there is one."""
        if plugin.training is None:
            pytest.skip("this task has no training part")
        if find_spec("keras") is None:
            pytest.skip("keras is not installed")
        assert load_part(plugin, plugin.training)


def _metric(host: HostTask) -> Any:
    if host.metric is None:
        pytest.skip("this task has no metric")
    return host.metric


def _modules_after(statement: str) -> set[str]:
    """Return the modules, and their top packages, that a fresh process has after a statement."""
    script = (
        "import json, sys\n"
        "from edgevid import registry, tasks\n"
        f"{statement}\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    names = set(json.loads(done.stdout.splitlines()[-1]))
    return names | {name.partition(".")[0] for name in names}
