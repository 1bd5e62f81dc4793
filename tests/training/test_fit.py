"""Training: a run folder that repeats itself, gone on with, and honest about what it left out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from edgevid.contract import Contract
from edgevid.data.synthesis import synth_motion
from edgevid.errors import BadInput
from edgevid.tasks.host.training import open_training
from edgevid.training.augment import Augment
from edgevid.training.config import TrainConfig, configure
from edgevid.training.data import Batches, shuffled

pytest.importorskip("keras")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("fit") / "data"
    synth_motion(root, size=32, frames=6, train=3, val=1, test=1, workers=1)
    (root / "train" / "left" / "0000.mp4").write_text("not a video")
    return root


def _config(temporal="window", model="cnn-lstm", **options):
    frames = 1 if temporal == "none" else 3
    shape = configure(model, "compact", temporal, frames=frames, height=16, width=16)
    shape = replace(shape, embedding=8, units=8)
    return TrainConfig(shape, **({"epochs": 2, "batch": 8} | options))


@pytest.mark.parametrize(
    ("model", "temporal"), [("cnn-lstm", "window"), ("cnn-lstm", "carry"), ("cnn", "none")]
)
def test_a_run_holds_what_repeats_it(data, tmp_path, model, temporal):
    from edgevid.data.cache import load_clips
    from edgevid.data.folders import find
    from edgevid.training.fit import train
    from edgevid.training.models import load_run
    from edgevid.training.predict import last_outputs

    run = tmp_path / "run"
    result = train(_config(temporal, model), data, run)
    assert result.model == model and result.epochs == 2 and len(result.classes) == 9
    assert [one["path"] for one in result.left_out] == ["train/left/0000.mp4"]
    assert {path.name for path in run.iterdir()} == {
        "model.weights.h5",
        "contract.json",
        "run.json",
        "metrics.json",
        "history.csv",
        "curves.svg",
        "confusion.svg",
    }
    loaded, record = load_run(run)
    assert all(path.startswith("test/") for path in record.split["test"])
    contract = loaded.contract(record.labels, record.rate_fps)
    assert Contract.from_json(json.loads((run / "contract.json").read_text())) == contract
    val = load_clips(find(data), record.split["val"], contract.frame, contract.rate_fps)
    training = open_training("classification")
    outputs = last_outputs(loaded, val.images)
    found = training.figures(outputs, training.targets(val), contract.labels)
    metrics = json.loads((run / "metrics.json").read_text())
    assert found["accuracy"] == metrics["val"]["accuracy"] == result.val.value
    with (run / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_an_interrupted_training_ends_like_a_whole_one(data, tmp_path):
    from edgevid.training.fit import train

    config = _config("none", "cnn", epochs=3)

    def stop(what, done, total, note=""):
        if what == "epoch 3 of 3":
            raise KeyboardInterrupt

    train(config, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, data, tmp_path / "cut", stop)
    assert not (tmp_path / "cut").exists()
    seen = []
    train(config, data, tmp_path / "cut", lambda what, *_, **__: seen.append(what))
    assert "epoch 3 of 3" in seen and "epoch 2 of 3" not in seen
    whole, cut = ((tmp_path / name / "history.csv").read_text() for name in ("whole", "cut"))
    for ours, theirs in zip(csv.reader(whole.split()), csv.reader(cut.split()), strict=True):
        if ours[0] != "epoch":
            np.testing.assert_allclose([*map(float, ours)], [*map(float, theirs)], rtol=1e-3)


def test_clips_that_are_all_too_short_are_refused(data, tmp_path):
    from edgevid.training.fit import train

    config = _config()
    config = replace(config, model=replace(config.model, frames=9))
    with pytest.raises(BadInput, match="9 or more frames") as caught:
        train(config, data, tmp_path / "run")
    assert "too short: 6 of 9" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_written_over(data, tmp_path):
    from edgevid.training.fit import train
    from edgevid.training.models import load_run

    with pytest.raises(BadInput, match="exists already"):
        train(_config(), data, tmp_path)
    with pytest.raises(BadInput, match="not a run"):
        load_run(tmp_path)
    with pytest.raises(BadInput, match="learning_rate"):
        train(_config(learning_rate=-1.0), data, tmp_path / "run")


def test_batches_are_the_same_for_the_same_seed_and_epoch():
    clips = np.random.default_rng(0).integers(0, 256, (10, 6, 8, 8, 3), dtype=np.uint8)
    targets = np.arange(10)
    batches = Batches(list(clips), targets, 4, batch=4, seed=3, augment=Augment())
    first, again, other = (list(batches.epoch(n)) for n in (0, 0, 1))
    assert len(first) == len(batches) == 2
    assert len(set(np.concatenate([t for _, t in first]).tolist())) == 8
    for (one, _), (two, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.array_equal(first[0][0], other[0][0])


def test_augmentation_treats_all_frames_alike_and_turns_nothing_round():
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (4, 32, 1))[..., None].repeat(3, -1)
    calm = replace(Augment(), noise=0.0)
    for seed in range(20):
        changed = calm.apply(ramp, np.random.default_rng(seed)).astype(int)
        assert (changed == changed[:1]).all()
        assert (np.diff(changed[0, 0, :, 0]) >= 0).all()


def test_shuffling_keeps_the_frames_and_loses_their_order():
    clip = np.arange(12, dtype=np.uint8)[:, None, None, None]
    (mixed,) = shuffled([clip])
    assert sorted(mixed.ravel()) == list(range(12)) and mixed.ravel().tolist() != list(range(12))


def test_figures_count_right():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], np.float32)
    found = open_training("classification").figures(scores, np.array([0, 1, 1]), ("a", "b"))
    assert found["accuracy"] == pytest.approx(2 / 3) and found["confusion"] == [[1, 0], [1, 1]]
    assert found["classes"]["a"] == {"precision": 0.5, "recall": 1.0, "n": 1}
