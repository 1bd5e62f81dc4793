"""The task ``toy-brightness``: one number, how bright a frame is. The declaration."""

from edgevid.tasks import TaskPlugin

PLUGIN = TaskPlugin(
    name="toy-brightness",
    summary="how bright a frame is, 0 to 1",
    device="edgevid_toy.brightness_device:BrightnessTask",
    host="edgevid_toy.brightness_host:BrightnessHost",
)
