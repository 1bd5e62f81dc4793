"""Write a model of keras.applications with seeded random weights.

    python benchmarks/matrix/export_keras.py ARCHITECTURE OUT

The ending of OUT decides the format: ``.keras``, ``.h5``, or none for a SavedModel. The logits are
kept: a softmax over random logits would hide every error.
"""

import sys
from pathlib import Path

import keras

keras.utils.set_random_seed(7)
out = Path(sys.argv[2])
model = getattr(keras.applications, sys.argv[1])(
    weights=None, input_shape=(224, 224, 3), classes=100, classifier_activation=None
)
model.export(out, verbose=False) if not out.suffix else model.save(out)
