"""edgevid: train, convert, prove, run and benchmark compact video models on edge devices.

The one idea: a model is a step, ``step(inputs, state) -> outputs, state'``, with explicit state.
Everything in this package works on a step: it trains, converts, proves, runs or measures it.

Importing edgevid is cheap: each name is loaded when it is first used.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing would take longer than the rest of this module
if TYPE_CHECKING:
    from typing import Any

    from edgevid.api import evaluate
    from edgevid.errors import EdgevidError
    from edgevid.evaluation import Evaluation
    from edgevid.model import Model, ModelStream, load
    from edgevid.predictions import Classification, Detections, Prediction, RawOutputs
    from edgevid.results import Event, Frame, Result
    from edgevid.training.api import TrainOptions, train
    from edgevid.training.records import TrainSummary
    from edgevid_converters import Conversion, convert

__version__ = "0.1.0"

LIBRARY_FILES = {
    "GNUTLS_SYSTEM_PRIORITY_FILE": "/etc/gnutls/config",
    "ALSA_CONFIG_DIR": "/usr/share/alsa",
    "ALSA_CONFIG_PATH": "/usr/share/alsa/alsa.conf",
    "ALSA_CONFIG_UCM": "/usr/share/alsa/ucm",
    "ALSA_CONFIG_UCM2": "/usr/share/alsa/ucm2",
    "ALSA_PLUGIN_DIR": "/usr/lib/alsa-lib",
}
"""Where GnuTLS and ALSA read their configuration, which may load shared objects. PyAV's wheels look
below the folder in which they were built, which is in the world-writable temporary folder. Set here
because anything that imports PyAV, including plug-ins, has imported edgevid; values that the user
has set are kept."""
for _name, _value in LIBRARY_FILES.items():
    os.environ.setdefault(_name, _value)

__all__ = [
    "Classification",
    "Conversion",
    "Detections",
    "EdgevidError",
    "Evaluation",
    "Event",
    "Frame",
    "Model",
    "ModelStream",
    "Prediction",
    "RawOutputs",
    "Result",
    "TrainOptions",
    "TrainSummary",
    "__version__",
    "convert",
    "evaluate",
    "load",
    "train",
]

_MODULES = {
    "edgevid.api": ("evaluate",),
    "edgevid.errors": ("EdgevidError",),
    "edgevid.evaluation": ("Evaluation",),
    "edgevid.model": ("Model", "ModelStream", "load"),
    "edgevid.predictions": ("Classification", "Detections", "Prediction", "RawOutputs"),
    "edgevid.results": ("Event", "Frame", "Result"),
    "edgevid.training.api": ("TrainOptions", "train"),
    "edgevid.training.records": ("TrainSummary",),
    "edgevid_converters": ("Conversion", "convert"),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'edgevid' has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
