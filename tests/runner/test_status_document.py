"""The status of a service is a typed document with a published schema."""

import jsonschema

from edgevid.documents import from_json, published
from edgevid.runner.status_document import ServiceStatus
from rigs.service import answered, bundle, camera, holds


def test_the_status_of_a_service_fits_its_schema(start, null_bundle, video):
    service = start(
        "\n".join(
            [
                bundle(null_bundle),
                bundle(null_bundle, "other"),
                camera("door"),
                camera("film", source=str(video)),
                camera("gone", source="rtsp://127.0.0.1:9/none"),
            ]
        )
    )
    status = service.until(
        lambda s: (
            answered(s, "door") > 2
            and any(one["sources"][0]["reason"] == "refused" for one in s["cameras"])
        )
    )
    jsonschema.validate(status, published("status"))
    document = from_json(ServiceStatus, status, "status")
    assert document.schema_version == 1
    assert document.sinks[0].name == "output"
    live = {one.name: one.sources[0].live for one in document.cameras}
    assert live == {"door": True, "film": False, "gone": True}
    for one in document.cameras:
        for stream in one.sources[0].lanes:
            assert holds(vars(stream.frames))
    assert service.end()[0] == 0
    stopped = service.status_folder / "status.json"
    assert '"state": "stopped"' in stopped.read_text()
