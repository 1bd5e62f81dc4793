"""Write a frozen TensorFlow 1 graph as a SavedModel, with its real input and its softmax.

python benchmarks/matrix/export_frozen.py GRAPH.pb OUT
"""

import sys
from pathlib import Path

import tensorflow as tf

graph = tf.compat.v1.GraphDef()
graph.ParseFromString(Path(sys.argv[1]).read_bytes())
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    images = tf.compat.v1.placeholder(tf.float32, (1, 224, 224, 3), "images")
    (scores,) = tf.import_graph_def(graph, {"input:0": images}, ["final_result:0"], name="network")
    tf.compat.v1.saved_model.simple_save(
        session, sys.argv[2], {"images": images}, {"scores": tf.identity(scores, "scores")}
    )
