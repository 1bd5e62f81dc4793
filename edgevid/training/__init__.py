"""Training of video models as steps: data, unrolled training form, run folders.

The only package of edgevid that imports Keras, and only in modules that a command imports late.
`edgevid.training.api` has the functions to call.
"""

from typing import Any, TypeAlias

WEIGHTS_FILE = "model.weights.h5"
RUN_FILE = "run.json"
CONTRACT_FILE = "contract.json"
METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.csv"
CURVES_FILE = "curves.svg"
"""Files of a run folder."""

Tensor: TypeAlias = Any
"""A tensor of Keras' backend, whichever that is."""
