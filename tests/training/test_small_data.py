"""Small datasets: enough steps, the kept epoch is the one shown, and chance is called chance."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from edgevid.cli.host.train import command
from edgevid.errors import BadInput
from edgevid.tasks.host.metrics import ChanceTest, binomial_tail, chance_of_counts
from edgevid.tasks.host.training import open_training
from edgevid.training.config import TrainConfig, configure
from edgevid.training.data import Batches
from edgevid.training.epochs import Epochs
from rigs.videos import write_video

pytest.importorskip("keras")

COUNTS = {"dots": 18, "stripes-across": 18, "stripes-along": 17}


def _write_clips(root, counts, *, same=False):
    """Clips of patterns that any model can tell apart; with ``same`` of noise alone."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:32, :32]
    for label, count in counts.items():
        for n in range(count):
            shift, colour = rng.uniform(0, 16), rng.uniform(90, 255, 3)
            across, along = (np.sin((axis + shift) / 2.5) for axis in (rows, columns))
            shape = {"dots": across * along > 0.3, "stripes-across": across > 0}.get(
                label, along > 0
            )
            images = np.where(shape[..., None], 0 if same else colour, 20)
            noise = rng.normal(60 if same else 0, 30 if same else 8, (4, 32, 32, 3))
            write_video(root / label / f"{n}.mp4", np.clip(images + noise, 0, 255).astype(np.uint8))
    return root


def _config(**options):
    shape = configure("cnn", "compact", height=16, width=16)
    return TrainConfig(replace(shape, embedding=16), **options)


def test_53_clips_train_to_above_chance_and_every_account_agrees(tmp_path):
    from edgevid.training.fit import train

    seen = []
    result = train(
        _config(epochs=6),
        _write_clips(tmp_path / "data", COUNTS),
        tmp_path / "run",
        lambda what, done, total, note="": seen.append((what, done, total, note)),
    )
    assert result.weakness is None and result.val.value >= 8 / 9
    assert result.chance.better and result.chance.tries == result.epochs
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    with (tmp_path / "run" / "history.csv").open() as file:
        rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
    best = record["best_epoch"]
    assert best == result.best_epoch == result.to_json()["best_epoch"]
    assert float(rows[best]["val_accuracy"]) == max(float(r["val_accuracy"]) for r in rows.values())
    assert float(rows[best]["val_accuracy"]) == metrics["val"]["accuracy"] == result.val.value
    assert metrics["val"]["chance"] == result.to_json()["chance"]
    ends = [note for what, done, total, note in seen if what.startswith("epoch") and done == total]
    assert ends[-1].endswith(f"best {result.val.value:.3f} (epoch {best})")
    assert ends[best - 1].endswith(
        f"val accuracy {result.val.value:.3f}, best {result.val.value:.3f} (epoch {best})"
    )
    fitted = record["train"]
    assert (fitted["batch"], fitted["passes"], fitted["patience"]) == (8, 5, 10)
    assert record["recordings"] == {"rule": None, "recordings": 53, "clips": 53}


def test_a_model_at_chance_is_said_to_be_at_chance(tmp_path, monkeypatch):
    from edgevid.training.fit import train

    data = _write_clips(tmp_path / "data", dict.fromkeys("abc", 6), same=True)
    summary = train(_config(epochs=1), data, tmp_path / "run")
    monkeypatch.setattr("edgevid.training.api.train", lambda *_, **__: summary)
    for extra, code in (([], 0), (["--min-metric", "0.05"], 1)):
        done = CliRunner().invoke(
            command, [str(data), "--out", "run", "--json", *extra], standalone_mode=False
        )
        assert done.return_value == code
        assert "on 3 clips is no better than chance (always predicting 'a'" in done.stderr
        assert ("warning: " in done.stderr) == (not extra)
        found = json.loads(done.stdout)["chance"]
        assert not found["better"] and found["baseline"] == pytest.approx(1 / 3, abs=1e-6)


def test_what_is_left_open_fits_the_number_of_clips():
    small, middle, large, huge = (_config().fitted(n) for n in (5, 37, 200, 4500))
    assert [(c.batch, c.passes, c.patience) for c in (small, middle, large, huge)] == [
        (5, 20, 10),
        (8, 5, 10),
        (16, 2, 10),
        (32, 1, 6),
    ]
    given = _config(batch=32, passes=1, patience=3)
    assert given.fitted(37) == given


def test_later_passes_have_another_order_and_other_cuts():
    clips = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 8, 3), dtype=np.uint8)
    once = Batches(list(clips), np.arange(4), 2, batch=4, seed=3)
    twice = replace(once, passes=3)
    (first,), several = list(once.epoch(0)), list(twice.epoch(0))
    assert len(twice) == len(several) == 3
    np.testing.assert_array_equal(several[0][0], first[0])
    assert all(sorted(targets.tolist()) == [0, 1, 2, 3] for _, targets in several)
    assert len({targets.tobytes() + images.tobytes() for images, targets in several}) == 3


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(0.2, 0.9), (0.6, 0.7), (0.3, 0.1)], 2),
        ([(0.5, 0.9), (0.5, 0.7), (0.5, 0.8)], 2),
        ([(float("nan"), 0.1), (0.1, 0.9)], 2),
        ([(0.5, 0.5), (0.5, 0.5)], 1),
    ],
)
def test_the_kept_epoch_has_the_best_figure_then_the_lowest_loss(rows, best):
    epochs = object.__new__(Epochs)
    epochs.task = open_training("classification")
    epochs.history = [
        {"epoch": n, "val_accuracy": figure, "val_loss": loss}
        for n, (figure, loss) in enumerate(rows, 1)
    ]
    assert epochs.best["epoch"] == best


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        (dict.fromkeys(("dots", "stripes-across"), 1), "no usable clip to validate on; add clips"),
        ({"dots": 5}, "only one class, 'dots'; add a folder of videos for another"),
    ],
)
def test_too_little_data_is_one_line(tmp_path, counts, says):
    from edgevid.training.fit import train

    with pytest.raises(BadInput, match=says):
        train(_config(), _write_clips(tmp_path / "data", counts), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_binomial_test_has_the_right_values():
    from scipy.stats import binom

    for least, n, p in ((0, 5, 0.3), (4, 9, 1 / 3), (9, 9, 1 / 3), (700, 900, 0.75), (3, 3, 1.0)):
        assert binomial_tail(least, n, p) == pytest.approx(binom.sf(least - 1, n, p), rel=1e-9)
    assert chance_of_counts(4, {}) is None
    found = chance_of_counts(8, {"a": 3, "b": 3, "c": 3})
    assert found.guess == "a" and found.better and not replace(found, tries=100).better
    few = chance_of_counts(2, {"a": 1, "b": 1})
    assert not few.decidable and few.verdict().startswith("cannot be distinguished from chance (")
    assert found.decidable and found.verdict() is None
    assert chance_of_counts(3, {"a": 5, "b": 5}).verdict() == (
        "is no better than chance (always predicting 'a' gives 0.500; p = 0.95)"
    )
    one_class = chance_of_counts(9, {"a": 9})
    assert (
        not one_class.better
        and one_class.describe() == "all 9 are 'a', so the figure means nothing"
    )
    assert ChanceTest(0.5, "a", 0.04, 10).better and not ChanceTest(0.5, "a", 0.051, 10).better
