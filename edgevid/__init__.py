"""edgevid: train, convert, prove, run and benchmark compact video models on edge devices.

The one idea: a model is a step, ``step(frame, state) -> answer, state'``, with explicit state.
Everything in this package is something that one does with a step.
"""

__version__ = "0.1.0"
