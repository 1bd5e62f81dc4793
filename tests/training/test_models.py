"""A model is one set of weights in two forms that agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgevid.contract import Contract
from edgevid.errors import BadInput
from edgevid.training.config import MODELS, RECURRENT, SIZES, ModelConfig, configure

pytest.importorskip("keras")
SMALL = {"height": 16, "width": 16, "embedding": 8, "units": 8, "classes": 3}


def _built(**options):
    import keras

    from edgevid.training.models import build

    keras.utils.set_random_seed(1)
    model = build(ModelConfig(**(SMALL | options)))
    for weight in model.training.weights:  # batch norms included: fresh ones hide mistakes
        noise = np.random.default_rng(len(weight.shape)).normal(0, 0.1, weight.shape)
        weight.assign(abs(weight + noise) if "variance" in weight.name else weight + noise)
    return model


def _streamed(model, clip):
    state = {s.input_name: np.zeros(s.shape, np.float32) for s in model.states}
    scores = []
    for frame in clip:
        given = model.step({"frame": frame[None], **state})
        scores.append(np.asarray(given["scores"])[0])
        state = {s.input_name: np.asarray(given[s.output_name]) for s in model.states}
    return np.stack(scores)


def _clip(frames):
    return np.random.default_rng(0).integers(0, 256, (frames, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", ["compact", "article"])
def test_streamed_window_equals_every_whole_window(size):
    model, clip = _built(size=size, frames=4), _clip(9)
    streamed = _streamed(model, clip)
    windows = np.stack([clip[t - 3 : t + 1] for t in range(3, 9)])
    whole = np.asarray(model.training(windows))
    np.testing.assert_allclose(streamed[3:], whole, atol=1e-5)
    assert np.ptp(whole, axis=0).max() > 1e-4, "answers that never change prove nothing"


@pytest.mark.parametrize("size", ["compact", "article"])
def test_streamed_carry_equals_the_whole_clip_from_the_first_frame(size):
    model, clip = _built(size=size, temporal="carry", frames=6), _clip(6)
    whole = np.asarray(model.training(clip[None]))[0]
    np.testing.assert_allclose(_streamed(model, clip), whole, atol=1e-5)
    longer = np.asarray(model.unrolled(9)(_clip(9)[None]))[0]
    np.testing.assert_allclose(_streamed(model, _clip(9)), longer, atol=1e-5)


@pytest.mark.parametrize("size", ["compact", "article"])
def test_a_model_without_memory_answers_each_frame(size):
    model, clip = _built(model="cnn", size=size, temporal="none", frames=1), _clip(3)
    whole = np.asarray(model.training(clip[:, None]))
    np.testing.assert_allclose(_streamed(model, clip), whole, atol=1e-5)


def test_a_head_s_whole_form_is_its_step_repeated():
    from edgevid.training.heads import Head, Lstm

    head = Lstm(3, 5)
    embeddings = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    fast = np.asarray(head(embeddings))
    np.testing.assert_allclose(fast, np.asarray(Head.call(head, embeddings)), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{"frames": 4}, {"temporal": "carry", "frames": 4}, {"model": "cnn", "temporal": "none"}],
)
def test_the_step_gives_and_takes_what_its_contract_says(options):
    model = _built(**({"frames": 1} | options))
    contract = model.contract(("a", "b", "c"), 15.0)
    assert Contract.from_json(contract.to_json()) == contract
    shapes = {tensor.name: tuple(tensor.shape) for tensor in model.step.inputs}
    assert shapes == {"frame": (1, 16, 16, 3)} | {s.input_name: s.shape for s in contract.states}
    given = model.step({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    assert {name: tuple(value.shape) for name, value in given.items()} == {"scores": (1, 3)} | {
        s.output_name: s.shape for s in contract.states
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "cnn-lsmt"}, "did you mean cnn-lstm"),
        ({"size": "compct"}, "did you mean compact"),
        ({"temporal": "windw"}, "did you mean window"),
        ({"temporal": "none"}, "use window or carry"),
        ({"model": "cnn"}, "use none"),
        ({"frames": 1}, "use 2 or more"),
        ({"height": 4}, "too small"),
    ],
)
def test_a_wrong_configuration_is_said_in_one_line(options, says):
    with pytest.raises(BadInput, match=says):
        replace(ModelConfig(), **options).check()


def test_names_bring_what_fits_them():
    assert configure().temporal == "window" and configure("cnn").temporal == "none"
    assert configure("cnn").frames == 1
    assert ModelConfig.from_json(configure().to_json()) == configure()
    with pytest.raises(BadInput, match="did you mean units"):
        ModelConfig.from_json({"unit": 3})
    with pytest.raises(BadInput, match="unknown model"):
        configure("resnet")


def test_settled_normalisation_answers_alike_in_training_and_after():
    from edgevid.training.models import build

    model = build(configure(frames=4, height=32, width=32))
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 60, (8, 4, 32, 32, 3), np.uint8)
    images = clips.reshape(-1, 32, 32, 3)

    def apart() -> float:
        training = np.asarray(model.network.encoder(images, training=True))
        return float(np.abs(training - np.asarray(model.network.encoder(images))).max())

    fresh = apart()
    model.network.settle(clips)
    assert apart() < 0.02 < fresh


def test_the_names_in_configurations_are_those_of_heads_and_encoders():
    from edgevid.training.encoders import ENCODERS
    from edgevid.training.heads import HEADS

    assert set(HEADS) == set(RECURRENT) < set(MODELS)
    assert set(ENCODERS) == set(SIZES)
