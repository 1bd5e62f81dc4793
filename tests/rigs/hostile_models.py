"""Models that would run a program when they are loaded or stepped.

    python -m rigs.hostile_models FOLDER

writes them. What they try leaves its mark beside FOLDER, see `marks_of`: nothing may ever be there.
"""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np

SAVED_MODELS = {
    "reads_in_step": "ReadFile",
    "writes_in_step": "WriteFile",
    "writes_at_start": "WriteFile",
    "table_at_start": "HashTableV2",
    "calls_python": "EagerPyFunc",
    "prints_to_file": "PrintV2",
    "lists_files": "MatchingFiles",
    "unlisted": "AsString",
}
"""SavedModel -> the operator that it is refused for."""
KERAS = ("lambda.h5", "lambda_two.h5", "lambda.keras", "two_in_one.h5")
HARMLESS = ("keras_3", "keras_3_recurrent", "keras_2", "tensorflow_1", "module")


def marks_of(folder: Path) -> Path:
    """Where the models in a folder leave their marks; it stays when the folder is moved."""
    return folder.parent / f"marks-of-{folder.name}"


def write_all(folder: Path) -> None:
    """Write every model."""
    folder.mkdir(parents=True)
    marks_of(folder).mkdir()
    _write_saved_models(folder)
    _write_harmless(folder)
    _write_keras(folder)


def _save(folder: Path, name: str, act, start=None) -> None:
    """Save a model whose step does ``act(text)``, and whose loading does ``start()``."""
    import tensorflow as tf

    class Start(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

        @tf.function(input_signature=[])
        def _initialize(self):
            start()

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.ones([3, 2]))
            if start:
                self.start = Start()

        @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.float32, name="image")])
        def step(self, image):
            given = tf.reduce_mean(image, [1, 2]) @ self.weights
            if act is None:
                return {"scores": given}
            with tf.control_dependencies([act()]):
                return {"scores": tf.identity(given)}

    model = Model()
    tf.saved_model.save(model, str(folder / name), signatures=model.step)


def _write_saved_models(folder: Path) -> None:
    import tensorflow as tf

    mark = marks_of(folder)
    secret = folder / "secret.txt"
    secret.write_text("secret\n")

    def write(name: str):
        return tf.raw_ops.WriteFile(filename=str(mark / name), contents="written")

    def python():
        return tf.py_function(lambda: (mark / "python").touch() or 0, [], tf.int32)

    def start():
        write("writes_at_start")

    _save(folder, "reads_in_step", lambda: tf.io.read_file(str(secret)))
    _save(folder, "writes_in_step", lambda: write("writes_in_step"))
    _save(folder, "writes_at_start", None, start)
    _save(folder, "calls_python", python)
    _save(folder, "unlisted", lambda: tf.strings.as_string(tf.constant(1)))
    _save(folder, "lists_files", lambda: tf.io.matching_files("/etc/*"))
    _save(folder, "prints_to_file", lambda: _printed(mark))
    _write_table(folder, secret)


def _printed(mark: Path):
    import tensorflow as tf

    return tf.raw_ops.PrintV2(input="printed", output_stream=f"file://{mark / 'printed'}")


def _write_table(folder: Path, secret: Path) -> None:
    import tensorflow as tf

    class Model(tf.Module):
        def __init__(self):
            super().__init__()
            index = tf.lookup.TextFileIndex
            rows = tf.lookup.TextFileInitializer(
                str(secret), tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER
            )
            self.table = tf.lookup.StaticHashTable(rows, -1)

        @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.float32, name="image")])
        def step(self, image):
            return {"scores": tf.reduce_mean(image) + tf.cast(self.table.size(), tf.float32)}

    model = Model()
    tf.saved_model.save(model, str(folder / "table_at_start"), signatures=model.step)


def _write_harmless(folder: Path) -> None:
    import keras
    import tensorflow as tf
    import tf_keras

    layers = keras.layers
    parts = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dropout(0.3)]
    ends = [layers.GlobalAveragePooling2D(), layers.Dense(2, "softmax")]
    keras.Sequential([layers.Input((8, 8, 3)), *parts, *ends]).export(
        folder / "keras_3", verbose=False
    )
    recurrent = [layers.Bidirectional(layers.LSTM(4)), layers.Dense(2)]
    keras.Sequential([layers.Input((4, 8)), *recurrent]).export(
        folder / "keras_3_recurrent", verbose=False
    )
    layers = tf_keras.layers
    parts = [layers.RandomFlip(), layers.Rescaling(2.0), layers.Conv2D(4, 3)]
    ends = [layers.Reshape((6, 24)), layers.GRU(4), layers.Dropout(0.2), layers.Dense(2)]
    model = tf_keras.Sequential([layers.Input((8, 8, 3)), *parts, *ends])
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 2)), verbose=0)
    model.save(str(folder / "keras_2"))
    _save(folder, "module", None)
    one = tf.compat.v1
    with one.Graph().as_default():
        image = one.placeholder(tf.float32, [1, 8, 8, 3], name="image")
        weights = one.get_variable("weights", [3, 2], use_resource=False)
        scores = tf.matmul(tf.reduce_mean(image, [1, 2]), weights)
        with one.Session() as session:
            session.run(one.global_variables_initializer())
            place = str(folder / "tensorflow_1")
            one.saved_model.simple_save(session, place, {"image": image}, {"scores": scores})


def _write_keras(folder: Path) -> None:
    import keras
    import tf_keras

    mark = marks_of(folder)
    act = f"(__import__('pathlib').Path({str(mark / 'lambda')!r}).touch(), x)[1]"
    function = eval(f"lambda x: {act}")
    for library, name in ((keras, "lambda.h5"), (keras, "lambda.keras"), (tf_keras, KERAS[1])):
        layers = library.layers
        shape = (8, 8, 3)
        model = library.Sequential(
            [layers.Input(shape), layers.Lambda(function, output_shape=shape), layers.Dense(2)]
        )
        model.save(str(folder / name))
    for file in mark.iterdir():  # Keras has called it to build the model
        file.unlink()
    shutil.copy(folder / "lambda_two.h5", folder / "two_in_one.h5")
    given = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 8, 8, 3]}}
    config = {"class_name": "Sequential", "config": {"name": "x", "layers": [given]}}
    with zipfile.ZipFile(folder / "two_in_one.h5", "a") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.15.0"}))


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
