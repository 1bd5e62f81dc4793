"""Keras files are read before Keras acts on them: what could execute code is refused by name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from edgevid.errors import BadInput
from edgevid_converters.importers import keras_config

CONV = {"class_name": "Conv2D", "config": {"name": "conv", "activation": "relu"}}


def layer(class_name: str, name: str = "mine", **more):
    config = {"name": name, **more.pop("config", {})}
    return {"class_name": class_name, "config": config, **more}


def model(*layers):
    return layer("Sequential", "whole", config={"layers": [CONV, *layers]})


def test_what_keras_itself_has_is_accepted():
    initializer = {"class_name": "GlorotUniform", "config": {"seed": None}, "module": "keras"}
    dtype = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}
    inner = layer("Bidirectional", config={"layer": layer("LSTM", "lstm")})
    plus = layer("TFOpLambda", config={"function": "__operators__.add"})
    relu = {"class_name": "function", "config": "relu", "module": "builtins"}
    dense = layer("Dense", config={"kernel": initializer, "dtype": dtype, "activation": relu})
    keras_config.check(Path("m.h5"), model(inner, plus, dense, model()))


DANGEROUS = (
    (layer("Lambda"), r"layer 'mine' \(Lambda\) holds code"),
    (layer("TimeDistributed", "td", config={"layer": layer("Lambda", "deep")}), "layer 'deep'"),
    (model(model(layer("Lambda", "inside"))), "layer 'inside'"),
    (layer("TFSMLayer"), "holds code"),
    (layer("TensorFlowOpLayer"), "holds code"),
    (layer("Own"), "is of the class 'Own', which is not part of Keras"),
    (layer("Dense", registered_name="pkg>Dense"), "class 'pkg>Dense'"),
    (layer("Dense", module="os"), "not part of Keras"),
    (layer("get_file", module="keras.utils"), "class 'get_file'"),
    (layer("deserialize", module="keras.layers"), "class 'deserialize'"),
    (
        layer(
            "Dense",
            config={"activation": {"class_name": "function", "config": "system", "module": "os"}},
        ),
        "calls the function 'system'",
    ),
    (
        layer("Dense", config={"activation": {"class_name": "__lambda__", "config": {}}}),
        r"\(lambda\) holds code",
    ),
    (layer("TFOpLambda", config={"function": "io.write_file"}), "function 'io.write_file'"),
    (layer("TextVectorization"), "may read other files"),
)


@pytest.mark.parametrize(("entry", "text"), DANGEROUS)
def test_what_may_execute_code_is_refused_with_its_layer(entry, text):
    with pytest.raises(BadInput, match=text) as caught:
        keras_config.check(Path("m.h5"), model(entry))
    assert "\n" not in str(caught.value)


def test_both_kinds_of_file_are_read(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file.attrs["keras_version"] = "2.4.0"
        file.attrs["model_config"] = json.dumps(model())
    with zipfile.ZipFile(tmp_path / "three.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(model()))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.5.0"}))
    two, three = (keras_config.read(tmp_path / name) for name in ("two.h5", "three.keras"))
    assert two.is_keras_2 and not three.is_keras_2
    assert two.config == three.config == model()


def test_weights_alone_and_weights_elsewhere_are_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.create_group("dense")
    with pytest.raises(BadInput, match="holds weights only; save the whole model"):
        keras_config.read(tmp_path / "weights.h5")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file.create_group("dense")["kernel"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(BadInput, match="reads 'kernel' from another file"):
        keras_config.read(tmp_path / "linked.h5")
