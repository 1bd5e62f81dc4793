"""Fine-tuning for int8: it rounds as converters do, and a model that int8 ruins recovers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from edgevid.cli.host.train import command
from edgevid.data.synthesis import synth_motion
from edgevid.errors import BadInput
from edgevid.training.config import TrainConfig, configure
from rigs.videos import write_video

pytest.importorskip("keras")

COLOURS = ("red", "green", "blue")
SPREAD = 2000.0
"""Between the widest and the narrowest channel: in int8 the narrow ones are all but nothing."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Noise with a cast of one colour, as faint as one needs all channels to see."""
    root = tmp_path_factory.mktemp("quantized") / "data"
    rng = np.random.default_rng(0)
    for place, label in enumerate(COLOURS):
        for number in range(40):
            noisy = rng.integers(0, 200, (2, 32, 32, 3))
            noisy[..., place] += 16
            write_video(root / label / f"{number:02}.mp4", noisy.astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run whose model is right in float, of channels that differ widely in size."""
    from edgevid.training import WEIGHTS_FILE
    from edgevid.training.fit import train
    from edgevid.training.models import load_run

    run = tmp_path_factory.mktemp("quantized") / "run"
    shape = replace(configure("cnn", "compact", "none", height=16, width=16), embedding=16)
    train(TrainConfig(shape, epochs=12, batch=8, augment=None), data, run)
    model, _ = load_run(run)
    before = model.training.predict_on_batch(np.full((1, 1, 16, 16, 3), 99, np.uint8))
    _spread(model.network.encoder, "separable1_point_norm", "separable2_depth")
    _spread(model.network.encoder, "separable2_depth_norm", "separable2_point")
    after = model.training.predict_on_batch(np.full((1, 1, 16, 16, 3), 99, np.uint8))
    np.testing.assert_allclose(after, before, atol=1e-4)
    model.training.save_weights(run / WEIGHTS_FILE)
    return run


def _spread(encoder, norm: str, product: str) -> None:
    """Make the channels between two layers differ in size, and the model the same in float."""
    gamma, beta, mean, variance = encoder.get_layer(norm).get_weights()
    factors = np.exp(np.random.default_rng(0).uniform(0, np.log(SPREAD), len(gamma)))
    encoder.get_layer(norm).set_weights([gamma * factors, beta * factors, mean, variance])
    (kernel,) = encoder.get_layer(product).get_weights()
    encoder.get_layer(product).set_weights([kernel / factors[:, None]])


def test_fine_tuning_mends_what_int8_ruins(run, data, tmp_path):
    from edgevid.training.api import fine_tune
    from edgevid.training.models import load_run
    from edgevid.training.quantized import rounded
    from edgevid_converters.importers.run import describe

    out = tmp_path / "out"
    result = fine_tune(run, out, epochs=6)
    before, after = result.rounded.before, result.rounded.after
    assert before.value < 0.95 and before.loss > 0.3
    assert after.value == 1.0 and after.loss < before.loss / 3, (before, after)
    record = json.loads((out / "run.json").read_text())
    origin = json.loads((run / "run.json").read_text())
    assert record["split"] == origin["split"] and record["model"] == origin["model"]
    assert record["quantize_aware"] is True and record["epochs"] == 6
    assert record["tuned_from_sha256"] == describe(run).record["weights_sha256"]
    assert record["tuned_from_sha256"] != describe(out).record["weights_sha256"]
    assert describe(out).record["tuned_from_sha256"] == record["tuned_from_sha256"]
    assert {path.name for path in out.iterdir()} == {path.name for path in run.iterdir()}
    tuned, start = load_run(out)[0].network, load_run(run)[0].network
    form = rounded(load_run(out)[0]).unrolled(1)
    clips = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16, 3), np.uint8)
    fitted, asked = (np.asarray(form(clips, training=training)) for training in (True, False))
    np.testing.assert_array_equal(fitted, asked)  # each picture by itself, normalised as it was
    norm = "separable2_depth_norm"
    for new, old in zip(
        tuned.encoder.get_layer(norm).get_weights()[2:],
        start.encoder.get_layer(norm).get_weights()[2:],
        strict=True,
    ):
        np.testing.assert_array_equal(new, old)  # statistics are not learned from rounded values


@pytest.mark.soak
@pytest.mark.parametrize("name", ["tflite", "openvino"])
def test_the_tuned_run_is_better_in_real_int8(run, tmp_path, name):
    from edgevid.training.api import fine_tune
    from edgevid_converters import convert

    fine_tune(run, tmp_path / "out", epochs=6)
    metrics = []
    for number, folder in enumerate((run, tmp_path / "out")):
        out = tmp_path / f"{number}.edgevid"
        told = convert(folder, formats=[name], quantize=["int8"], out=out, max_drop=0.9).to_json()
        metrics.append(told["artifacts"][0]["metric"])
    ruined, repaired = metrics
    assert ruined["artifact"] <= ruined["source"] - 0.1
    assert repaired["artifact"] >= ruined["artifact"] + 0.1
    assert repaired["artifact"] >= repaired["source"] - 0.01


@pytest.mark.parametrize("temporal", ["window", "carry"])
def test_a_memory_is_fine_tuned_too_and_goes_on_after_an_interrupt(tmp_path, temporal):
    from edgevid.training.api import fine_tune
    from edgevid.training.fit import train

    synth_motion(tmp_path / "data", size=32, frames=4, train=2, val=1, test=1, workers=1)
    shape = configure("cnn-lstm", "compact", temporal, frames=3, height=16, width=16)
    config = TrainConfig(replace(shape, embedding=8, units=8), epochs=1, batch=8)
    train(config, tmp_path / "data", tmp_path / "run")

    def stop(what, done, total, note=""):
        if what == "epoch 2 of 2":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(tmp_path / "run", tmp_path / "out", epochs=2, progress=stop)
    assert not (tmp_path / "out").exists()
    seen = []
    fine_tune(
        tmp_path / "run",
        tmp_path / "out",
        epochs=2,
        progress=lambda what, *_, **__: seen.append(what),
    )
    assert "epoch 2 of 2" in seen and "epoch 1 of 2" not in seen


def test_rounding_is_to_the_steps_of_int8():
    from keras import ops

    from edgevid.training.quantized import round_values, round_weights

    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 3, (50, 40)).astype(np.float32)
    rounded = ops.convert_to_numpy(round_values(values))
    assert len(np.unique(rounded)) <= 256
    assert np.abs(rounded - values).max() <= 0.5 * np.ptp(values) / 255 + 1e-5
    assert ops.convert_to_numpy(round_values(np.zeros((2, 2), np.float32))).tolist() == [[0, 0]] * 2
    kernel = rng.normal(size=(3, 3, 4, 5)).astype(np.float32) * [1, 10, 100, 1000, 10000]
    rounded = ops.convert_to_numpy(round_weights(kernel.astype(np.float32)))
    off = np.abs(rounded - kernel).max((0, 1, 2)) / np.abs(kernel).max((0, 1, 2))
    assert (off <= 0.51 / 127).all()  # each channel has steps of its own


def test_wrong_use_is_one_line(run, tmp_path):
    from edgevid.training.api import fine_tune

    with pytest.raises(BadInput, match="exists already"):
        fine_tune(run, run, epochs=1)
    with pytest.raises(BadInput, match="not a run"):
        fine_tune(tmp_path, tmp_path / "out")
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    record = json.loads((moved / "run.json").read_text())
    (moved / "run.json").write_text(json.dumps({**record, "data": str(tmp_path / "gone")}))
    with pytest.raises(BadInput, match="does not exist; give its present folder"):
        fine_tune(moved, tmp_path / "out")
    words = ["--quantize-aware", str(run), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(command, [*words, "--model", "cnn"])
    assert told.exit_code == 2 and "--model is fixed by the run" in told.output
    assert "Missing argument 'DATA'" in CliRunner().invoke(command, words[2:]).output
