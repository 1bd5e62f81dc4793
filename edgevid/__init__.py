"""edgevid: train, convert, prove, run and benchmark compact video models on edge devices.

The one idea: a model is a step, ``step(inputs, state) -> outputs, state'``, with explicit state.
Everything in this package does something with a step: train, convert, prove, run, measure it.
"""

__version__ = "0.1.0"
