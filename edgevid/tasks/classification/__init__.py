"""One label for the whole frame: top-1 classification over a softmax."""

from edgevid.tasks import TaskPlugin

PLUGIN = TaskPlugin(
    name="classification",
    summary="one label for what the stream shows",
    device="edgevid.tasks.classification.device:ClassificationTask",
    host="edgevid.tasks.classification.host:ClassificationHost",
    training="edgevid.tasks.classification.host.training:ClassificationTraining",
)
