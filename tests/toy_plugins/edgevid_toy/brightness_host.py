"""The task ``toy-brightness`` on the host: a folder's name is the brightness of its clips."""

from edgevid.errors import BadInput
from edgevid.tasks.host import Annotated, HostTask
from edgevid.tasks.host.metrics import Metric


class MeanAbsoluteError(Metric):
    """The mean of the absolute errors."""

    name = "mean absolute error"
    higher_is_better = False

    def value(self, predictions, truths):
        """Return the error, 0 to 1; NaN without samples."""
        errors = [abs(one.value - truth) for one, truth in zip(predictions, truths, strict=True)]
        return min(1.0, sum(errors) / len(errors)) if errors else float("nan")


class BrightnessHost(HostTask):
    """Reads ``ROOT/0.25/clip.mp4``; the last frame of a clip is evaluated."""

    name = "toy-brightness"
    metric = MeanAbsoluteError()

    def find(self, root):
        """Find the clips; every folder's name is a number."""
        from edgevid.data.folders import find

        tree = find(root)
        for name in tree.classes:
            try:
                float(name)
            except ValueError:
                raise BadInput(f"{root}: {name!r} is not a number; rename the folder") from None
        return tree

    def annotations(self, clips):
        """Return each clip's brightness at its last frame."""
        return [
            Annotated((len(frames) - 1,), (float(name),))
            for frames, name in zip(clips.images, clips.annotations, strict=True)
        ]
