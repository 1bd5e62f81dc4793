"""A GPU on a plain machine: the software Vulkan driver that Debian's chromium comes with.

LiteRT's GPU accelerator runs on it. It is right about the models that are trained here; a running
sum (CUMSUM of rank 2) it takes for the identity, without an error, and calls itself fully
accelerated. `write_liar` makes a bundle of such a step.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from edgevid import bundle, runtimes
from edgevid.bundle import Artifact
from edgevid.contract import Contract, FrameInput, Output, StateTensor
from edgevid.proof import Golden, Trajectory
from edgevid.proof.replay import record_outputs
from rigs.need import missing

DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")


def use_software_gpu(monkeypatch) -> None:
    """Let Vulkan find the software driver, and it alone."""
    if not DRIVER.is_file():
        missing("a software Vulkan driver", "run: apt-get install chromium")
    monkeypatch.setenv("VK_DRIVER_FILES", str(DRIVER))


LIAR = Contract(
    task="classification",
    inputs=(FrameInput("frame", 16, 16),),
    rate_fps=15.0,
    outputs=(Output("scores", (1, 3)),),
    labels=("one", "two", "three"),
    temporal="carry",
    frames=4,
    states=(StateTensor("sums", (1, 16)),),
)

LOWER = """
import sys
import numpy as np
import tensorflow as tf

random = np.random.default_rng(0)
pick = lambda *shape: tf.constant(random.normal(0, 0.5, shape).astype(np.float32))
KERNEL, RECURRENT, HEAD = pick(48, 16), pick(16, 16), 2 * pick(16, 3)
SPEC = [
    tf.TensorSpec((1, 16, 16, 3), tf.uint8, "frame"),
    tf.TensorSpec((1, 16), tf.float32, "state_sums"),
]

class Step(tf.Module):
    @tf.function(input_signature=SPEC)
    def step(self, frame, state_sums):
        cells = tf.nn.avg_pool2d(tf.cast(frame, tf.float32) / 255.0, 4, 4, "VALID")
        mixed = tf.matmul(tf.reshape(cells, (1, 48)) - 0.5, KERNEL)
        sums = tf.cumsum(tf.tanh(mixed + tf.matmul(state_sums, RECURRENT)), axis=-1)
        return {"scores": tf.nn.softmax(tf.matmul(sums, HEAD)), "next_sums": tf.tanh(sums)}

def samples():
    for _ in range(50):
        yield {
            "frame": random.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8),
            "state_sums": np.tanh(random.normal(0, 1, (1, 16))).astype(np.float32),
        }

model = Step()
concrete = model.step.get_concrete_function()
converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = samples
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
open(sys.argv[1], "wb").write(converter.convert())
"""


def write_liar(folder: Path) -> Path:
    """A bundle whose one artifact, ``tflite-int8``, the GPU answers wrongly."""
    lowered = folder / "liar.tflite"
    subprocess.run([sys.executable, "-c", LOWER, lowered], check=True, capture_output=True)
    files = {"tflite": lowered.read_bytes()}
    engine = runtimes.get("tflite").load(files, LIAR)
    frames = np.random.default_rng(1).integers(0, 256, (8, 1, 16, 16, 3)).astype(np.uint8)
    states = [np.zeros((1, 16), np.float32)]
    answers = []
    for frame in frames:
        answer, after = engine.step({"frame": frame}, {"sums": states[-1]})
        answers.append(answer["scores"])
        states.append(after["sums"])
    one = Trajectory({"frame": frames}, {"scores": np.stack(answers)}, {"sums": np.stack(states)})
    artifact = Artifact("tflite-int8", "tflite", "int8", tolerance={"int8": 0.25})
    golden = Golden((one,), {artifact.name: (record_outputs(engine, one),)})
    path = folder / "liar.edgevid"
    bundle.write(path, LIAR, [(artifact, files)], golden.to_members(), {})
    return path
