"""The converter ``toy``: finds the weights of a model that is a weighted mean of the channels."""

import json

import numpy as np

from edgevid_converters import Converter


class ToyConverter(Converter):
    """Asks the model for black, red, green and blue."""

    name = "toy"
    endings = ("toy",)
    quantisations = ("float32",)
    forms = ("onnx",)

    def convert(self, lowered, form, trajectories, quantize, keep=()):
        """Make the artifact; see `edgevid_converters.Converter.convert`."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(lowered), providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()

        def ask(*colour):
            frame = np.zeros(given.shape, np.uint8)
            frame[:] = np.array(colour, np.uint8)
            return float(session.run(None, {given.name: frame})[0].reshape(()))

        bias = ask(0, 0, 0)
        weights = [ask(*(255 * (np.arange(3) == n))) - bias for n in range(3)]
        return {"toy": json.dumps({"weights": weights, "bias": bias}).encode()}
