"""No task: the output tensors as they are, for models that no task can read."""

from edgevid.tasks import TaskPlugin

PLUGIN = TaskPlugin(
    name="raw",
    summary="the output tensors as they are",
    device="edgevid.tasks.raw.device:RawTask",
    host="edgevid.tasks.raw.host:RawHost",
)
