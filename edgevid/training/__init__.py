"""Video models as steps: their data, their unrolled training form, and fitting them.

The only room of the package that imports keras, and never at the top of a module that a command
needs for its help.
"""

from typing import Any, TypeAlias

WEIGHTS_FILE = "model.weights.h5"
RUN_FILE = "run.json"
CONTRACT_FILE = "contract.json"
"""What a run folder holds."""

Tensor: TypeAlias = Any
"""A tensor of whichever backend keras runs on; none of them can be named here."""
